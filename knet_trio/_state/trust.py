"""Which lives of a host are believed, in each crypto slot of model ``aead``; see docs/aead.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from knet_trio._core.confirmation import Confirmation
from knet_trio._crypto.aead import KeyCache, PacketSealer
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Cipher

PATIENCE: Final = 10
"""How many pong timeouts a confirmation lasts without a pong while no link is up."""

_BINDING: Final = Struct(">II?")


class SlotTrust:
    """What is known of a host by the envelopes of one slot.

    Args:
        sealer: The envelopes.
        host_id: The host.
        number: Tells it apart from all others of this handle, also of earlier slots, and of a host
            that was removed and is added again.

    Attributes:
        sealer: The same.
        keys: The keys of the host's packets.
        confirmation: Which life of the host is believed.
        confirmed_at: When that changed last, on Trio's clock; None before the first time.
    """

    __slots__ = ("_number", "confirmation", "confirmed_at", "keys", "sealer")

    def __init__(self, sealer: PacketSealer, host_id: int, number: int) -> None:
        self.sealer: PacketSealer = sealer
        self.keys: KeyCache = KeyCache(sealer.schedule, host_id)
        self.confirmation: Confirmation = Confirmation()
        self.confirmed_at: float | None = None
        self._number = number

    def binding(self, *, counted: bool, earlier: int = 0) -> bytes:
        """Return what a stamp is bound to beside its link and place.

        Args:
            counted: Whether its ping counts for the link.
            earlier: How many confirmations and lapses ago it was made.
        """
        return _BINDING.pack(self._number, self.confirmation.changes - earlier & _MASK, counted)


_MASK: Final = 0xFFFFFFFF


class Credentials:
    """By what the sender of a packet, or of several in a row, is believed.

    Attributes:
        answer: What seals an answer to the packet; None: it goes in the clear.
        trust: What is known of its sender, None if its envelope tells no life.
        life: The life that it was sealed in.
        counters: Its counter in that; those of several go up.
        believed: Whether that life is confirmed; True where the envelope tells none.
        is_newest: Whether the packet was the newest data of its life when it was taken, and so
            each of several when its turn came; None before that, for what is no data, and where
            the envelope tells no life.
    """

    __slots__ = ("answer", "believed", "counters", "is_newest", "life", "trust")

    def __init__(
        self,
        answer: Cipher | None,
        trust: SlotTrust | None = None,
        life: bytes = b"",
        counters: Sequence[int] = (),
        *,
        believed: bool = True,
    ) -> None:
        self.answer: Cipher | None = answer
        self.trust: SlotTrust | None = trust
        self.life: bytes = life
        self.counters: Sequence[int] = counters
        self.believed: bool = believed
        self.is_newest: bool | None = None

    def take(self) -> None:
        """Mark the packet as taken, after all that could refuse it."""
        trust = self.trust
        if trust is not None:
            counters = self.counters
            if len(counters) == 1:
                trust.confirmation.take(counters[0])
            else:
                trust.confirmation.take_all(counters)

    def take_data(self) -> None:
        """Mark packets of data as taken, after all that could refuse them."""
        trust = self.trust
        if trust is not None:
            self.take()
            self.is_newest = trust.confirmation.note_data(self.counters)


class HostTrust:
    """What is known of one host by envelopes of model ``aead``.

    Args:
        host_id: The host.
        crypto: The slots.
        now: Returns the time.
        timeout: Returns the longest pong timeout of the host's links.

    Attributes:
        is_up: Whether a link to the host is up.
        life: The life that was confirmed last, in whichever slot; None if those slots are gone.
    """

    def __init__(
        self,
        host_id: int,
        crypto: CryptoSlots,
        now: Callable[[], float],
        timeout: Callable[[], float],
    ) -> None:
        self.is_up: bool = False
        self._host_id = host_id
        self._crypto = crypto
        self._now = now
        self._timeout = timeout
        self._slots: dict[PacketSealer, SlotTrust] = {}
        self.life: bytes | None = None
        self._pong_at = -math.inf

    def of(self, sealer: PacketSealer) -> SlotTrust:
        """Return what is known of the host by the envelopes of a slot."""
        trust = self._slots.get(sealer)
        if trust is None:
            self.forget_cleared()
            number = next(self._crypto.numbers) & _MASK
            trust = self._slots[sealer] = SlotTrust(sealer, self._host_id, number)
        elif not self.is_up and trust.confirmation.life is not None:
            self._look_at_silence()
        return trust

    def pong_received(self, now: float) -> None:
        """Note that a pong of the host was taken."""
        self._pong_at = now

    def set_up(self, is_up: bool) -> None:
        """Note whether a link to the host is up; when the last one goes down, nothing is believed.

        What it has sealed before may come at any later time.
        """
        if self.is_up and not is_up:
            self.lapse()
        self.is_up = is_up

    def lapse(self) -> None:
        """Believe no life of the host until it has answered again."""
        for trust in self._slots.values():
            trust.confirmation.lapse()

    def confirm(self, credentials: Credentials, *, reachable: bool) -> bool:
        """Believe the life of a pong that has brought back a stamp of now.

        Args:
            credentials: Those of the pong.
            reachable: Whether the host can be reached, before that.

        Returns:
            Whether the host has started again: all that is known of its numbers is of an earlier
            life. While nothing is known of its lives, contact that was lost says so.
        """
        trust = credentials.trust
        assert trust is not None
        trust.confirmation.prove(credentials.life, credentials.counters[0])
        trust.keys.confirm(credentials.life)
        self._pong_at = trust.confirmed_at = self._now()
        last, self.life = self.life, credentials.life
        if credentials.life != last:
            # It has one life in both slots: of that before, nothing is to come any more.
            for other in self._slots.values():
                if other is not trust:
                    other.confirmation.lapse()
        return credentials.life != last and (last is not None or not reachable)

    def forget_cleared(self) -> None:
        """Forget what is known by the envelopes of slots that were set anew or cleared."""
        kept = {one: trust for one, trust in self._slots.items() if one in self._crypto.aead}
        if not kept:
            self.life = None
        self._slots = kept

    def _look_at_silence(self) -> None:
        if self._now() - self._pong_at > PATIENCE * self._timeout():
            self.lapse()
