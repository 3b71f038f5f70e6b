"""The two crypto slots of a handle, with which a key can change while messages flow.

Both slots open packets; the slot in use seals them. The configuration in a slot is a hash envelope
or an envelope of authenticated encryption (AEAD). To open the latter, the sender has to be known,
so they are opened elsewhere. To rekey: put the new key into the free slot on every host, then use
that slot on every host, then clear the old slot. See knet_handle_crypto_set_config(3).
"""

from __future__ import annotations

import hmac
import itertools
import secrets
from collections.abc import Sequence
from typing import Final, TypeAlias

from knet_trio._core.onwire import is_clear_untrusted, is_surely_clear_untrusted
from knet_trio._crypto.aead import (
    ALGORITHMS,
    KeySchedule,
    PacketSealer,
    find_algorithm,
    read_header_untrusted,
)
from knet_trio._crypto.alike import AlikePair
from knet_trio._crypto.envelope import HashEnvelope, make_cipher
from knet_trio._crypto.life import Life
from knet_trio._crypto.trial import SealNames, TrialKey
from knet_trio.abc import Cipher, OpenedTrain
from knet_trio.config import CryptoConfig, check_integer
from knet_trio.errors import BusyError, DropCause, InvalidArgumentError, PacketError, is_integer

CLEAR: Final = 0
FIRST: Final = 1
SLOTS: Final = 2

_SECRET_SIZE: Final = 32

_CLEAR: Final = "it is not encrypted, and clear packets are not allowed"
_SEALED: Final = "no crypto configuration opens it"
_NO_KEY: Final = "it is encrypted, and this host has no crypto"
_AEAD: Final = "it uses another envelope: model 'aead', which no crypto slot here has"
_NO_AEAD: Final = "it uses another envelope, or another key: the crypto slots here are of 'aead'"
_WRONG_AEAD: Final = "it uses model 'aead' too, with a wrong key or another cipher"

Envelope: TypeAlias = HashEnvelope | PacketSealer


class CryptoSlots:
    """The crypto slots 1 and 2, and which of them is in use: 0 if packets go in clear.

    Args:
        allow_clear_traffic: True to accept packets in clear; None to accept them only while no slot
            is in use.
        host_id: The id of this host.

    Attributes:
        allow_clear_traffic: True if packets in clear are accepted now.
        openers: The hash envelopes, in the order in which they are tried on a datagram. Two
            envelopes that have the same hash are one ``AlikePair``.
        aead: The envelopes of model ``aead``, the one in use first.
        is_set: True if a slot has a configuration. If not, datagrams are packets as they are, if
            packets in clear are accepted.
        sealer: The envelope in use; None if packets go in clear.
        life: The life of this host, in which the envelopes of model ``aead`` are sealed.
        numbers: A counter. Each state that is kept of a host for a slot gets its own number, also
            after the slot is set again or the host is added again.
    """

    def __init__(self, *, allow_clear_traffic: bool | None = None, host_id: int = 0) -> None:
        self._clear_traffic = allow_clear_traffic
        self._host_id = host_id
        self.life: Life = Life()
        self.numbers: itertools.count[int] = itertools.count(1)
        # Keys are compared by their digests under this secret, so that no key is kept.
        self._secret = secrets.token_bytes(_SECRET_SIZE)
        self._digests: dict[int, bytes] = {}
        self._ciphers: dict[int, Envelope] = {}
        self._trials: dict[int, TrialKey] = {}
        self._in_use = CLEAR
        self._any_hash = False
        self.openers: tuple[Cipher, ...] = ()
        self.aead: tuple[PacketSealer, ...] = ()
        self.is_set: bool = False
        self.sealer: Cipher | None = None
        self._apply()

    @property
    def in_use(self) -> int:
        """The slot in use, 0 if packets go in clear."""
        return self._in_use

    def set_clear_traffic(self, allow: bool | None) -> None:
        """Accept packets in clear or not; None accepts them only while no slot is in use."""
        self._clear_traffic = allow
        self._apply()

    def set(self, config: CryptoConfig | None, slot: int) -> None:
        """Put ``config`` into ``slot``; None clears the slot.

        Raises:
            BusyError: The slot is in use.
            InvalidArgumentError: ``slot`` or ``config`` is not valid, or the key of ``config`` is
                in the other slot and one of the two is of model ``aead``.
        """
        _check_slot(slot, FIRST)
        cipher = self._make(config, slot)
        if slot == self._in_use:
            raise BusyError(
                f"crypto slot {slot} is in use: set slot {SLOTS + 1 - slot} and use that,"
                " or use slot 0 first"
            )
        self._put(cipher, config, slot)

    def use(self, slot: int) -> None:
        """Seal with ``slot`` from now on; with 0 packets go in clear.

        Raises:
            InvalidArgumentError: ``slot`` is not valid, or is empty.
        """
        _check_slot(slot, CLEAR)
        if slot != CLEAR and slot not in self._ciphers:
            raise InvalidArgumentError(f"crypto slot {slot} is empty: set it before using it")
        self._in_use = slot
        self._apply()

    def replace(self, config: CryptoConfig | None) -> None:
        """Put ``config`` into slot 1 and use it; None clears slot 1, and packets go in clear.

        Unlike ``set``, this replaces a configuration that is in use. Slot 2 stays as it is.
        """
        cipher = self._make(config, FIRST)
        self._in_use = CLEAR if cipher is None else FIRST
        self._put(cipher, config, FIRST)

    def find(self, slot: int) -> Envelope | None:
        """Return the envelope in ``slot``; None if the slot is empty.

        Raises:
            InvalidArgumentError: ``slot`` is not valid.
        """
        _check_slot(slot, FIRST)
        return self._ciphers.get(slot)

    def number(self, envelope: Cipher) -> int:
        """Return the number of the slot that has ``envelope``."""
        return next(slot for slot, one in self._ciphers.items() if one is envelope)

    def answering(self, datagram: bytes, packet: bytes) -> Cipher | None:
        """Return the envelope for the answer to a packet that was not sealed with AEAD.

        While a cluster changes to AEAD or back, a packet is answered in the envelope that it had:
        only that one is certain to be known at the other end.

        Args:
            datagram: The datagram.
            packet: The packet that was in it; the same object if it was in clear.

        Returns:
            The envelope; None for an answer in clear.
        """
        if not self.aead:
            return self.sealer
        return self.openers[0] if packet is not datagram and self.openers else None

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return ``packets`` as datagrams: sealed, or in clear if no slot is in use."""
        cipher = self.sealer
        return list(packets) if cipher is None else cipher.seal(packets)

    def open_untrusted(self, datagram: bytes) -> bytes:
        """Return the packet in ``datagram``.

        Raises:
            PacketError: No configuration opens it.
        """
        packet = self.open_one_untrusted(datagram)
        if isinstance(packet, PacketError):
            raise PacketError(packet.cause, packet.args[0])
        return packet

    def open_one_untrusted(self, datagram: bytes) -> bytes | PacketError:
        """Return the packet in ``datagram``, or the error if no configuration opens it.

        The error is returned, not raised: the traceback of a raised error that is kept would hold
        the datagram in memory until the garbage collector runs.
        """
        openers = self.openers
        if openers:
            try:
                return openers[0].open_untrusted(datagram)
            except PacketError:
                return self._open_otherwise(datagram, openers[1:])
        if self.allow_clear_traffic and not self.is_set:
            return datagram
        return self._judge(datagram)

    def open_many_untrusted(self, datagrams: Sequence[bytes]) -> list[bytes | PacketError]:
        """Return the packet, or the error, for each of ``datagrams``."""
        if not self.openers:
            if self.allow_clear_traffic and not self.is_set:
                return list(datagrams)
            return [self._judge(datagram) for datagram in datagrams]
        first, *others = self.openers
        packets = first.open_many_untrusted(datagrams)
        for i, packet in enumerate(packets):
            if isinstance(packet, PacketError):
                packets[i] = self._open_otherwise(datagrams[i], others)
        return packets

    def open_train_untrusted(self, train: bytes, size: int) -> OpenedTrain | None:
        """Return the packets of a train of envelopes, if the first opener opens all of them.

        Args:
            train: The envelopes, joined.
            size: The size of each envelope in bytes; the last may be shorter.

        Returns:
            The packets. None if an envelope does not open: ``open_many_untrusted`` then tries the
            other openers and says what is wrong.
        """
        return self.openers[0].open_train_untrusted(train, size) if self.openers else None

    def _open_otherwise(self, datagram: bytes, others: Sequence[Cipher]) -> bytes | PacketError:
        for cipher in others:
            try:
                return cipher.open_untrusted(datagram)
            except PacketError:
                continue
        return self._judge(datagram)

    def _judge(self, datagram: bytes) -> bytes | PacketError:
        """Return ``datagram`` if it is an accepted packet in clear; else the error."""
        if self.allow_clear_traffic:
            if is_clear_untrusted(datagram):
                return datagram
        elif is_surely_clear_untrusted(datagram, any_hash=self._any_hash):
            return PacketError(DropCause.CLEAR_TRAFFIC, _CLEAR)
        return PacketError(DropCause.NOT_AUTHENTIC, self._describe(datagram))

    def _describe(self, datagram: bytes) -> str:
        """Say why no configuration opens ``datagram``."""
        looks_like_aead = _looks_like_aead(datagram)
        if self.aead and looks_like_aead:
            return _WRONG_AEAD
        if not self.is_set:
            return _NO_KEY
        if looks_like_aead:
            return _AEAD
        return _SEALED if self.openers else _NO_AEAD

    def find_names_untrusted(self, envelope: bytes) -> tuple[SealNames, TrialKey] | None:
        """Find the cipher and hash with which a key in one of the slots opens ``envelope``.

        Returns:
            The names, and the key with the names that this host uses. None if ``envelope`` was
            sealed with another key.
        """
        for trial in self._trials.values():
            names = trial.find_names_untrusted(envelope)
            if names is not None:
                return names, trial
        return None

    def is_other_model_untrusted(self, envelope: bytes, cipher: str | None) -> bool:
        """Return whether ``envelope`` is of model ``aead`` and no slot is, or the other way round.

        Args:
            envelope: An envelope that no configuration opens.
            cipher: The cipher with which a key of a slot opens it, None if none does.
        """
        if cipher in ALGORITHMS or (cipher is None and _looks_like_aead(envelope)):
            return self.is_set and not self.aead
        return cipher is not None and not self.openers

    def _make(self, config: CryptoConfig | None, slot: int) -> Envelope | None:
        """Return the envelope for ``config`` in ``slot``; None for no configuration."""
        if config is None:
            return None
        algorithm = find_algorithm(config)
        other = self._ciphers.get(SLOTS + 1 - slot)
        if algorithm is None:
            envelope: Envelope = make_cipher(config)
        else:
            envelope = PacketSealer(KeySchedule(config.key, algorithm), self._host_id, self.life)
        # A key that was found out through a weaker envelope must not open those of model `aead`.
        if (
            PacketSealer in (type(other), type(envelope))
            and other is not None
            and hmac.compare_digest(self._digest(config), self._digests[SLOTS + 1 - slot])
        ):
            raise InvalidArgumentError(
                f"the key is in crypto slot {SLOTS + 1 - slot} already: with model 'aead' each slot"
                " has a key of its own"
            )
        return envelope

    def _digest(self, config: CryptoConfig) -> bytes:
        return hmac.digest(self._secret, config.key, "sha256")

    def _put(self, cipher: Envelope | None, config: CryptoConfig | None, slot: int) -> None:
        if cipher is None or config is None:
            self._ciphers.pop(slot, None)
            self._trials.pop(slot, None)
            self._digests.pop(slot, None)
        else:
            self._digests[slot] = self._digest(config)
            self._ciphers[slot] = cipher
            self._trials[slot] = TrialKey(config)
        self._apply()

    def _apply(self) -> None:
        clear = self._clear_traffic
        self.allow_clear_traffic: bool = self._in_use == CLEAR if clear is None else clear
        self.sealer = self._ciphers.get(self._in_use)
        # A configuration without a cipher has no salt.
        self._any_hash = any(not cipher.salt_size for cipher in self._ciphers.values())
        slots = sorted(self._ciphers, key=lambda slot: slot != self._in_use)
        envelopes = [self._ciphers[slot] for slot in slots]
        self.is_set = bool(envelopes)
        self.aead = tuple(one for one in envelopes if isinstance(one, PacketSealer))
        hashes = [one for one in envelopes if isinstance(one, HashEnvelope)]
        if len(hashes) == SLOTS and hashes[0].has_same_hash(hashes[1]):
            self.openers = (AlikePair(*hashes),)
        else:
            self.openers = tuple(hashes)


def _looks_like_aead(datagram: bytes) -> bool:
    header = read_header_untrusted(datagram)
    return header is not None and 0 < header.cipher <= len(ALGORITHMS)


def _check_slot(slot: object, lowest: int) -> None:
    """Raise InvalidArgumentError if ``slot`` is not a number from ``lowest`` to 2."""
    if not is_integer(slot):
        # The value is not shown: beside a key, it may be the key in the wrong place.
        raise InvalidArgumentError(
            f"the crypto slot is {type(slot).__name__}, not an integer from {lowest} to {SLOTS}"
        )
    check_integer("crypto slot", slot, lowest, SLOTS)
