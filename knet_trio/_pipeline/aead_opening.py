"""The first step of the way in while a crypto slot is of model ``aead``.

The header of such an envelope names its sender. Two more checks belong to opening it: which life of
that host sealed it, and whether it is a copy. A packet of another model is opened with the other
slot.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from knet_trio._core.confirmation import Credit
from knet_trio._core.onwire import COMMON_HEADER_SIZE, PING_SIZE
from knet_trio._crypto.aead import (
    EPOCH_BITS,
    HEADER_SIZE,
    OVERHEAD,
    PREFIX_SIZE,
    VERSION,
    EnvelopeHeader,
    PacketKey,
    read_header_untrusted,
)
from knet_trio._state.admit import refuse_host, refuse_unconfirmed
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.trust import Credentials, SlotTrust
from knet_trio.address import Address
from knet_trio.errors import DropCause, PacketError

_FIRST: Final = bytes([VERSION])

_COUNTED: Final = Struct(f">{PREFIX_SIZE}sHI")
_SHORTEST: Final = OVERHEAD + 1

_MOST_KNOWN: Final = 4096
"""The most keys that the short way keeps. Each sender has two: to this host, and to all hosts."""

_PING_ENVELOPE: Final = PING_SIZE + OVERHEAD
"""Bytes of a ping or pong on the wire. Until a life is confirmed, nothing else of it is opened."""

_OTHER_LIFE: Final = (
    "it is a recording of an earlier life, or of a new life that has not answered a ping yet"
)
_NO_LIFE: Final = "that host has not answered a ping of this host yet"
_EARLIER: Final = "it was sealed before that host answered a ping: it is late, or a recording"
_OTHER_SENDER: Final = "the sender inside it is not the host that sealed it"
_WRONG_TAG: Final = "it names a key of host %d, and its tag is wrong"


class OpenedEnvelope(NamedTuple):
    """A packet whose envelope has passed all checks.

    Attributes:
        packet: The packet.
        credentials: The proof of its sender.
    """

    packet: bytes
    credentials: Credentials


class OpenedRun(NamedTuple):
    """Packets of a confirmed life, without copies.

    Attributes:
        packets: The packets.
        credentials: The proof of their sender.
    """

    packets: list[bytes]
    credentials: Credentials


class _Known(NamedTuple):
    """The key of one epoch of a life, for envelopes with the same prefix.

    Attributes:
        host: The sender.
        trust: The keys and the confirmed life of the sender in the slot.
        life: The life.
        epoch: The epoch.
        key: The key.
    """

    host: HostState
    trust: SlotTrust
    life: bytes
    epoch: int
    key: PacketKey


class AeadOpening:
    """Opens datagrams while a slot is of model ``aead``.

    Args:
        handle: The handle.
        refuse: Called with an error, the datagram and its source.
    """

    def __init__(
        self, handle: HandleState, refuse: Callable[[PacketError, bytes, Address], None]
    ) -> None:
        self._handle = handle
        self._context = handle.context
        self._refuse = refuse
        # Confirmed lives, by the bytes before the counter: the short way for most packets.
        self._known: dict[bytes, _Known] = {}
        handle.on_keys_lost = self._forget_keys

    def open_untrusted(self, datagram: bytes, source: Address) -> OpenedEnvelope | None:
        """Return the packet in ``datagram``, None if it was dropped and counted."""
        known = self._known.get(datagram[:PREFIX_SIZE])
        if known is not None and len(datagram) > OVERHEAD:
            counter = int.from_bytes(datagram[PREFIX_SIZE:HEADER_SIZE], "big")
            if self._is_usable(known, counter):
                host, trust, life, _, key = known
                credit = trust.confirmation.judge(life, counter)
                if credit is Credit.FRESH:
                    try:
                        packet = key.open_untrusted(counter, datagram)
                    except PacketError:
                        self._refuse_tag(host, datagram, source)
                        return None
                    if packet[2:4] == datagram[2:4]:
                        credentials = Credentials(trust.sealer, trust, life, (counter,))
                        return OpenedEnvelope(packet, credentials)
                elif credit is Credit.COPY:
                    self._count_copy(host, datagram, source)
                    return None
        if datagram[:1] == _FIRST:
            header = read_header_untrusted(datagram)
            if header is not None:
                host_or_none = self._handle.hosts.get(header.sender)
                if host_or_none is not None:
                    trust_or_none = self._find(host_or_none, header)
                    if trust_or_none is not None:
                        return self._open(host_or_none, trust_or_none, header, datagram, source)
                elif self._is_of_a_stranger(header):
                    refuse_host(self._handle, header.sender, source)
                    return None
        crypto = self._context.crypto
        opened = crypto.open_one_untrusted(datagram)
        if isinstance(opened, PacketError):
            self._refuse(opened, datagram, source)
            return None
        return OpenedEnvelope(opened, Credentials(crypto.answering(datagram, opened)))

    def open_run_untrusted(self, train: bytes, size: int) -> OpenedRun | None:
        """Return the packets of a train that one host sealed one after the other.

        The caller checks that the sender named inside the packets is the same.

        Args:
            train: The envelopes.
            size: The size of each, in bytes; the last may be shorter.

        Returns:
            None if one does not open or is unusual, or if their key is not known here yet. Nothing
            is counted then: pass each envelope to ``open_untrusted``.
        """
        prefix = train[:PREFIX_SIZE]
        known = self._known.get(prefix)
        if known is None:
            return None
        # The last one may be shorter, but not too short for an envelope.
        if size < _SHORTEST or 0 < len(train) % size < _SHORTEST:
            return None
        counters: list[int] = []
        last = 0
        for start in range(0, len(train), size):
            begins, high, low = _COUNTED.unpack_from(train, start)
            counter = high << 32 | low
            # The same prefix means the same key: it contains the check of the epoch.
            if counter <= last or begins != prefix:
                return None
            counters.append(counter)
            last = counter
        if not self._is_usable(known, counters[0]) or not self._is_usable(known, last):
            return None
        _, trust, life, _, key = known
        if not trust.confirmation.are_fresh(life, counters):
            return None
        try:
            packets = key.open_train_untrusted(counters, train, size)
        except PacketError:
            return None
        return OpenedRun(packets, Credentials(trust.sealer, trust, life, counters))

    def _is_usable(self, known: _Known, counter: int) -> bool:
        """Return whether ``known`` is still valid, and for the epoch of ``counter``."""
        host, trust, _, epoch, _ = known
        return (
            counter >> EPOCH_BITS == epoch
            and host.trust.is_up
            and self._handle.hosts.get(host.host_id) is host
            and trust.sealer in self._context.crypto.aead
        )

    def _find(self, host: HostState, header: EnvelopeHeader) -> SlotTrust | None:
        """Return what is known of a host by the slot that an envelope names; None for no slot."""
        for sealer in self._context.crypto.aead:
            if sealer.schedule.number == header.cipher:
                trust = host.trust.of(sealer)
                if trust.keys.fits_untrusted(header):
                    return trust
        return None

    def _is_of_a_stranger(self, header: EnvelopeHeader) -> bool:
        """Return whether a header claims a key of this handle; its host is unknown here."""
        return any(one.schedule.fits_untrusted(header) for one in self._context.crypto.aead)

    def _open(
        self,
        host: HostState,
        trust: SlotTrust,
        header: EnvelopeHeader,
        datagram: bytes,
        source: Address,
    ) -> OpenedEnvelope | None:
        credit = trust.confirmation.judge(header.life, header.counter)
        if credit is Credit.COPY:
            self._count_copy(host, datagram, source)
            return None
        if credit is Credit.EARLIER:
            refuse_unconfirmed(host, source, _EARLIER)
            return None
        believed = credit is Credit.FRESH
        if not believed and len(datagram) != _PING_ENVELOPE:
            no_life = trust.confirmation.life is None
            refuse_unconfirmed(host, source, _NO_LIFE if no_life else _OTHER_LIFE)
            return None
        # Only now, since it may have to be derived: there may be recordings of many lives.
        key = trust.keys.find(header)
        try:
            packet = key.open_untrusted(header.counter, datagram)
        except PacketError:
            self._refuse_tag(host, datagram, source)
            return None
        # Every packet begins with its sender. A packet that is too short is refused later.
        if len(packet) > COMMON_HEADER_SIZE and packet[2:4] != datagram[2:4]:
            self._refuse(PacketError(DropCause.MALFORMED, _OTHER_SENDER), datagram, source)
            return None
        if header.to is not None and header.to != self._context.host_id:
            link = host.by_address.get(source)
            self._context.refuse(DropCause.NOT_FOR_THIS_HOST, link=link)
            return None
        if believed:
            trust.keys.opened(header)
            known = _Known(host, trust, header.life, header.epoch, key)
            self._remember(datagram[:PREFIX_SIZE], known)
        credentials = Credentials(
            trust.sealer, trust, header.life, (header.counter,), believed=believed
        )
        return OpenedEnvelope(packet, credentials)

    def _forget_keys(self) -> None:
        self._known.clear()

    def _remember(self, prefix: bytes, known: _Known) -> None:
        """Keep a key for the short way, and drop keys of the host that are out of use."""
        if prefix in self._known:
            return
        # A new prefix is rare: it comes with a new life or epoch.
        self._known = {
            other: one
            for other, one in self._known.items()
            if one.trust is not known.trust
            or (one.life == known.life and one.epoch + 1 >= known.epoch)
        }
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[prefix] = known

    def _refuse_tag(self, host: HostState, datagram: bytes, source: Address) -> None:
        error = PacketError(DropCause.NOT_AUTHENTIC, _WRONG_TAG % host.host_id)
        self._refuse(error, datagram, source)

    def _count_copy(self, host: HostState, datagram: bytes, source: Address) -> None:
        """Count a copy, which usually came over another link of an active host."""
        link = host.admitted.get(source)
        if link is not None and (not self._context.access_lists or link.acl.accepts(source.host)):
            link.counters.received(Kind.DATA, 1, len(datagram) - OVERHEAD)
        self._context.counters.drop(DropCause.DUPLICATE)
