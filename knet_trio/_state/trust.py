"""The confirmed lives of a host, in each crypto slot of model ``aead``; see docs/aead.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from knet_trio._core.answered_pings import AnsweredPings
from knet_trio._core.confirmation import Confirmation
from knet_trio._crypto.aead import KeyCache, PacketSealer
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Cipher

PATIENCE: Final = 10
"""The pong timeouts for which a confirmation lasts without a pong while no link is up."""

_BINDING: Final = Struct(">II?")


class SlotTrust:
    """The keys and the confirmed life of one host in one crypto slot.

    Args:
        sealer: Seals packets with the key of the slot.
        host_id: The id of the host.
        number: A number that no other object of the handle has or had, also for earlier slots and
            hosts that were removed.

    Attributes:
        sealer: The same.
        keys: The keys of the host's packets.
        confirmation: The life of the host that is believed.
        confirmed_at: When a life was confirmed last, in seconds on Trio's clock; None if none was.
        answered: The pings of lives that are not confirmed.
        elsewhere: The pings from places that a dynamic link does not lead to.
    """

    __slots__ = (
        "_number",
        "answered",
        "confirmation",
        "confirmed_at",
        "elsewhere",
        "keys",
        "sealer",
    )

    def __init__(self, sealer: PacketSealer, host_id: int, number: int) -> None:
        self.sealer: PacketSealer = sealer
        self.keys: KeyCache = KeyCache(sealer.schedule, host_id)
        self.confirmation: Confirmation = Confirmation()
        self.confirmed_at: float | None = None
        self.answered: AnsweredPings = AnsweredPings()
        self.elsewhere: AnsweredPings = AnsweredPings(math.inf)
        self._number = number

    def binding(self, *, counted: bool, earlier: int = 0) -> bytes:
        """Return the bytes that a stamp is bound to, beside its link and address.

        Args:
            counted: True if its ping counts for the link.
            earlier: How many confirmations and lapses ago the stamp was made.
        """
        return _BINDING.pack(self._number, self.confirmation.changes - earlier & _MASK, counted)


_MASK: Final = 0xFFFFFFFF


class Credentials:
    """The proof of the sender of a packet, or of several packets in a row.

    Attributes:
        answer: The cipher that seals an answer to the packet, None to answer in the clear.
        trust: The keys and the confirmed life of the sender; None if the envelope names no life.
        life: The life in which the packet was sealed.
        counters: The counter of the packet in that life; those of several packets ascend.
        believed: True if that life is confirmed, or if the envelope names none.
        is_newest: True if the packet was the newest data of its life when it was taken, or each of
            several in its turn; None before that, for other packets than data, and if the envelope
            names no life.
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

    def may_answer(self, link_id: int, now: float) -> bool:
        """Return whether to answer a ping of a life that is not confirmed; remember that it is.

        Args:
            link_id: The link that the ping is for.
            now: The time in seconds.
        """
        trust = self.trust
        return trust is None or trust.answered.take(self.life, link_id, self.counters[0], now)

    def note_elsewhere(self, link_id: int, now: float) -> bool:
        """Note a ping from elsewhere, and return whether it is no copy of an earlier one.

        The envelope shows that if its counter is above all others of its life.

        Args:
            link_id: The link that the ping is for.
            now: The time in seconds.
        """
        trust = self.trust
        return trust is not None and trust.elsewhere.take(self.life, link_id, self.counters[0], now)

    def take(self) -> None:
        """Mark the packet as taken, after all checks that may refuse it."""
        trust = self.trust
        if trust is not None:
            counters = self.counters
            if len(counters) == 1:
                trust.confirmation.take(counters[0])
            else:
                trust.confirmation.take_all(counters)

    def take_data(self) -> bool:
        """Mark packets of data as taken, after all that could refuse them.

        Returns:
            Whether the numbers of messages may have come round since the data before them.
        """
        trust = self.trust
        if trust is None:
            return False
        self.take()
        is_far_ahead = trust.confirmation.is_far_ahead(self.counters[0])
        self.is_newest = trust.confirmation.note_data(self.counters)
        return is_far_ahead


class HostTrust:
    """The confirmed lives of one host in all crypto slots of model ``aead``.

    Args:
        host_id: The id of the host.
        crypto: The slots.
        now: Returns the time in seconds.
        timeout: Returns the longest pong timeout of the host's links, in seconds.

    Attributes:
        is_up: True if a link to the host is up.
        life: The life that was confirmed last, in any slot; None if those slots were cleared.
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
        """Return the keys and the confirmed life of the host in the slot of ``sealer``."""
        trust = self._slots.get(sealer)
        if trust is None:
            self.forget_cleared()
            number = next(self._crypto.numbers) & _MASK
            trust = self._slots[sealer] = SlotTrust(sealer, self._host_id, number)
        elif not self.is_up and trust.confirmation.life is not None:
            self._look_at_silence()
        return trust

    def pong_received(self, now: float) -> None:
        """Note that a pong of the host was received at time ``now``, in seconds."""
        self._pong_at = now

    def set_up(self, is_up: bool) -> None:
        """Set whether a link to the host is up. When the last one goes down, no life is believed.

        Packets that the host sealed before may arrive at any later time.
        """
        if self.is_up and not is_up:
            self.lapse()
        self.is_up = is_up

    def lapse(self) -> None:
        """Believe no life of the host until it has answered a ping again."""
        for trust in self._slots.values():
            trust.confirmation.lapse()

    def confirm(self, credentials: Credentials, *, reachable: bool) -> bool:
        """Confirm the life of a pong that has returned a current stamp.

        Args:
            credentials: The credentials of the pong.
            reachable: True if the host was reachable before.

        Returns:
            True if this is a new life of the host: the numbers of its data known so far are of an
            earlier one. If no life was known, it counts as new unless the host was reachable.
        """
        trust = credentials.trust
        assert trust is not None
        trust.confirmation.prove(credentials.life, credentials.counters[0])
        trust.keys.confirm(credentials.life)
        self._pong_at = trust.confirmed_at = self._now()
        last, self.life = self.life, credentials.life
        if credentials.life != last:
            # A host has one life in both slots: packets of the earlier life are over.
            for other in self._slots.values():
                if other is not trust:
                    other.confirmation.lapse()
        return credentials.life != last and (last is not None or not reachable)

    def forget_cleared(self) -> None:
        """Forget the keys and lives in slots that were replaced or cleared."""
        kept = {one: trust for one, trust in self._slots.items() if one in self._crypto.aead}
        if not kept:
            self.life = None
        self._slots = kept

    def _look_at_silence(self) -> None:
        if self._now() - self._pong_at > PATIENCE * self._timeout():
            self.lapse()
