"""The first step of the way in where a crypto slot is of model ``aead``.

Such an envelope says whose it is, and there is more to ask than whether it opens: which life of its
host sealed it, and whether it came before. What is not of that model is tried with the other slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from knet_trio._core.confirmation import Credit
from knet_trio._core.onwire import COMMON_HEADER_SIZE, PING_SIZE
from knet_trio._crypto.aead import (
    EPOCH_BITS,
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

_PING_ENVELOPE: Final = PING_SIZE + OVERHEAD
"""Bytes of a ping or pong on the wire. Of a life that is not confirmed nothing else is opened."""

_OTHER_LIFE: Final = (
    "it is a recording of an earlier life, or this host has not heard yet that it has started again"
)
_NO_LIFE: Final = "nothing of it has answered a ping of this host yet"
_EARLIER: Final = "it was sealed before that host answered, and is late or a recording"
_OTHER_SENDER: Final = "the sender that it names is not the one that sealed it"
_WRONG_TAG: Final = "it names the key of a life of host %d, and its tag is not right"


class OpenedEnvelope(NamedTuple):
    """A packet that may be taken, as far as its envelope says.

    Attributes:
        packet: The packet.
        credentials: By what its sender is believed.
    """

    packet: bytes
    credentials: Credentials


class OpenedRun(NamedTuple):
    """Packets of the life that is confirmed, none of which came before.

    Attributes:
        packets: The packets.
        credentials: By what their sender is believed.
    """

    packets: list[bytes]
    credentials: Credentials


class _Fitting(NamedTuple):
    """The key that an envelope names."""

    trust: SlotTrust
    key: PacketKey


class AeadOpening:
    """Opens what comes in while a slot is of model ``aead``.

    Args:
        handle: The handle.
        refuse: Called with an error, the datagram, and where it came from.
    """

    def __init__(
        self, handle: HandleState, refuse: Callable[[PacketError, bytes, Address], None]
    ) -> None:
        self._handle = handle
        self._context = handle.context
        self._refuse = refuse

    def open_untrusted(self, datagram: bytes, source: Address) -> OpenedEnvelope | None:
        """Return the packet in ``datagram``; None, and counted, if it goes no further."""
        if datagram[:1] == _FIRST:
            header = read_header_untrusted(datagram)
            if header is not None:
                host = self._handle.hosts.get(header.sender)
                fitting = None if host is None else self._find(host, header)
                if host is not None and fitting is not None:
                    return self._open(host, fitting, header, datagram, source)
                if host is None and self._is_of_a_stranger(header):
                    refuse_host(self._handle, header.sender, source)
                    return None
        crypto = self._context.crypto
        packet = crypto.open_one_untrusted(datagram)
        if isinstance(packet, PacketError):
            self._refuse(packet, datagram, source)
            return None
        return OpenedEnvelope(packet, Credentials(crypto.answering(datagram, packet)))

    def open_run_untrusted(self, datagrams: Sequence[bytes]) -> OpenedRun | None:
        """Return the packets of datagrams that one host sealed one after the other, if all open.

        Returns:
            None if something is out of the ordinary. Then ``open_untrusted`` finds out what, and
            nothing is counted here.
        """
        first = datagrams[0]
        prefix = first[:PREFIX_SIZE]
        header = read_header_untrusted(first) if first[:1] == _FIRST else None
        if header is None:
            return None
        host = self._handle.hosts.get(header.sender)
        if host is None or header.to not in (None, self._context.host_id):
            return None
        fitting = self._find(host, header)
        if fitting is None:
            return None
        trust, key = fitting
        counters: list[int] = []
        last = 0
        for datagram in datagrams:
            counter = int.from_bytes(datagram[PREFIX_SIZE : PREFIX_SIZE + 6], "big")
            # All are of one key: the check before the counter is that of its epoch.
            if counter <= last or not datagram.startswith(prefix) or len(datagram) <= OVERHEAD:
                return None
            counters.append(counter)
            last = counter
        if header.epoch != last >> EPOCH_BITS:
            return None
        if not trust.confirmation.are_fresh(header.life, counters):
            return None
        inside = header.sender.to_bytes(2, "big")
        try:
            packets = key.open_many_untrusted(counters, datagrams)
        except PacketError:
            return None
        if any(packet[2:4] != inside for packet in packets):
            return None
        trust.keys.opened(header)
        return OpenedRun(packets, Credentials(trust.sealer, trust, header.life, counters))

    def _find(self, host: HostState, header: EnvelopeHeader) -> _Fitting | None:
        for sealer in self._context.crypto.aead:
            if sealer.schedule.number == header.cipher:
                trust = host.trust.of(sealer)
                key = trust.keys.find_untrusted(header)
                if key is not None:
                    return _Fitting(trust, key)
        return None

    def _is_of_a_stranger(self, header: EnvelopeHeader) -> bool:
        """Whether a host that the handle does not have says that it has the key."""
        return any(one.schedule.fits_untrusted(header) for one in self._context.crypto.aead)

    def _open(
        self,
        host: HostState,
        fitting: _Fitting,
        header: EnvelopeHeader,
        datagram: bytes,
        source: Address,
    ) -> OpenedEnvelope | None:
        trust, key = fitting
        credit = trust.confirmation.judge(header.life, header.counter)
        if credit is Credit.COPY:
            self._count_copy(host, datagram, source)
            return None
        if credit is Credit.EARLIER:
            refuse_unconfirmed(host, source, _EARLIER)
            return None
        believed = credit is Credit.FRESH
        if not believed and len(datagram) != _PING_ENVELOPE:
            known = trust.confirmation.life is not None
            refuse_unconfirmed(host, source, _OTHER_LIFE if known else _NO_LIFE)
            return None
        try:
            packet = key.open_untrusted(header.counter, datagram)
        except PacketError:
            error = PacketError(DropCause.NOT_AUTHENTIC, _WRONG_TAG % host.host_id)
            self._refuse(error, datagram, source)
            return None
        if believed:
            trust.keys.opened(header)
        # Every packet begins with its sender. One that is too short is refused as that.
        if len(packet) > COMMON_HEADER_SIZE and packet[2:4] != datagram[2:4]:
            self._refuse(PacketError(DropCause.MALFORMED, _OTHER_SENDER), datagram, source)
            return None
        if header.to is not None and header.to != self._context.host_id:
            link = host.by_address.get(source)
            self._context.refuse(DropCause.NOT_FOR_THIS_HOST, link=link)
            return None
        credentials = Credentials(
            trust.sealer, trust, header.life, (header.counter,), believed=believed
        )
        return OpenedEnvelope(packet, credentials)

    def _count_copy(self, host: HostState, datagram: bytes, source: Address) -> None:
        """Count what came before: over another link of an active host, as a rule."""
        link = host.admitted.get(source)
        if link is not None and (not self._context.access_lists or link.acl.accepts(source.host)):
            link.counters.received(Kind.DATA, 1, len(datagram) - OVERHEAD)
        self._context.counters.drop(DropCause.DUPLICATE)
