"""The two crypto configurations of a handle, so that a key can change while messages flow.

Both open packets, one seals them. A configuration is a hash envelope, or one of authenticated
encryption (AEAD); those need to know whose packet it is, and are opened elsewhere. To rekey: put
the new key into the free slot on every host, then have every host use that slot, then clear the old
one. See knet_handle_crypto_set_config(3).
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
    """The configurations 1 and 2, and which of them seals: 0 for none, packets go in the clear.

    Args:
        allow_clear_traffic: Whether clear packets are accepted; None while no slot is in use.
        host_id: This host.

    Attributes:
        allow_clear_traffic: Whether clear packets are accepted now.
        openers: The hash envelopes in the order in which they are tried on what arrives; as one,
            two that have the same hash.
        aead: The envelopes of model ``aead``, that in use first.
        is_set: Whether there is any of them. If not, packets are taken as they come, if clear ones
            are accepted.
        sealer: The cipher in use, None for none.
        life: The life of this host, in which the envelopes of model ``aead`` are sealed.
        numbers: Counts up, to tell apart what is kept of hosts for each slot, whatever becomes of
            both.
    """

    def __init__(self, *, allow_clear_traffic: bool | None = None, host_id: int = 0) -> None:
        self._clear_traffic = allow_clear_traffic
        self._host_id = host_id
        self.life: Life = Life()
        self.numbers: itertools.count[int] = itertools.count(1)
        # Keys are compared by what this makes of them, so that none is kept.
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
        """The slot that seals, 0 for none."""
        return self._in_use

    def set_clear_traffic(self, allow: bool | None) -> None:
        """Accept clear packets or not; with None while no slot is in use."""
        self._clear_traffic = allow
        self._apply()

    def set(self, config: CryptoConfig | None, slot: int) -> None:
        """Put ``config`` into ``slot``, or clear it with None.

        Raises:
            BusyError: The slot is in use.
            InvalidArgumentError: ``config`` describes nothing, or its key is in the other slot.
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
        """Seal with ``slot`` from now on, 0 for clear packets.

        Raises:
            InvalidArgumentError: Nothing is in that slot.
        """
        _check_slot(slot, CLEAR)
        if slot != CLEAR and slot not in self._ciphers:
            raise InvalidArgumentError(f"crypto slot {slot} is empty: set it before using it")
        self._in_use = slot
        self._apply()

    def replace(self, config: CryptoConfig | None) -> None:
        """Put ``config`` into slot 1 and seal with it, or with None clear slot 1 and seal no more.

        Unlike ``set`` it replaces a configuration that is in use. Slot 2 stays as it is.
        """
        cipher = self._make(config, FIRST)
        self._in_use = CLEAR if cipher is None else FIRST
        self._put(cipher, config, FIRST)

    def find(self, slot: int) -> Envelope | None:
        """Return the configuration in ``slot``, None if it is empty.

        Raises:
            InvalidArgumentError: There is no such slot.
        """
        _check_slot(slot, FIRST)
        return self._ciphers.get(slot)

    def number(self, envelope: Cipher) -> int:
        """Return the slot that ``envelope`` is in."""
        return next(slot for slot, one in self._ciphers.items() if one is envelope)

    def answering(self, datagram: bytes, packet: bytes) -> Cipher | None:
        """Return what seals the answer to ``packet``, which came in ``datagram`` and is no AEAD's.

        While a cluster goes over to AEAD or back, each is answered in the envelope that it had:
        only that is sure to be known at the other end.
        """
        if not self.aead:
            return self.sealer
        return self.openers[0] if packet is not datagram and self.openers else None

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Return ``packets`` as datagrams: sealed, or as they are where no slot is in use."""
        cipher = self.sealer
        return list(packets) if cipher is None else cipher.seal(packets)

    def open_untrusted(self, datagram: bytes) -> bytes:
        """The packet in ``datagram``. Raises PacketError if no configuration opens it."""
        packet = self.open_one_untrusted(datagram)
        if isinstance(packet, PacketError):
            raise PacketError(packet.cause, packet.args[0])
        return packet

    def open_one_untrusted(self, datagram: bytes) -> bytes | PacketError:
        """Return the packet in ``datagram``, or the error if no configuration opens it.

        An error that is raised and kept leads to the bytes that it is about, by its traceback, and
        those would stay until the garbage collector comes by.
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
        """Return the packets in ``datagrams``, an error in the place of each that does not open."""
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
        """Return the packets of a train of envelopes, if the first configuration opens them all.

        Returns:
            None if not: ``open_many_untrusted`` tries the others, and says what is wrong.
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
        """Return ``datagram`` if it may be clear and is; else what is wrong with it."""
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
        """Return with which names a key that is here opens ``envelope``, and how it is used here.

        Returns:
            None if it is of another key.
        """
        for trial in self._trials.values():
            names = trial.find_names_untrusted(envelope)
            if names is not None:
                return names, trial
        return None

    def is_other_model_untrusted(self, envelope: bytes, cipher: str | None) -> bool:
        """Return whether ``envelope`` is of model ``aead`` and no slot is, or the other way round.

        Args:
            envelope: What no configuration opens.
            cipher: With which cipher a key that is here opens it, None if with none.
        """
        if cipher in ALGORITHMS or (cipher is None and _looks_like_aead(envelope)):
            return self.is_set and not self.aead
        return cipher is not None and not self.openers

    def _make(self, config: CryptoConfig | None, slot: int) -> Envelope | None:
        """Return the envelope that ``config`` describes, to be put into ``slot``."""
        if config is None:
            return None
        algorithm = find_algorithm(config)
        other = self._ciphers.get(SLOTS + 1 - slot)
        if algorithm is None:
            envelope: Envelope = make_cipher(config)
        else:
            envelope = PacketSealer(KeySchedule(config.key, algorithm), self._host_id, self.life)
        # Whoever has heard one key through a weaker envelope must not know the other's.
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
        # A configuration without a cipher uses no salt.
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
    """Raise InvalidArgumentError if ``slot`` is none from ``lowest`` on."""
    if not is_integer(slot):
        # The value is not shown: beside a key, it may be the key in the wrong place.
        raise InvalidArgumentError(
            f"the crypto slot is {type(slot).__name__}, not an integer from {lowest} to {SLOTS}"
        )
    check_integer("crypto slot", slot, lowest, SLOTS)
