"""The control packets that a link sends."""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from knet_trio._core.onwire import (
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    answer_ping,
    encode_ping_fields,
    encode_pmtud,
    encode_pmtud_reply,
    encode_pong,
    pong_header,
)
from knet_trio._core.stamps import Stamps
from knet_trio._crypto.aead import PacketSealer
from knet_trio._state.context import Context
from knet_trio._state.counters import Kind
from knet_trio._state.link_address import LinkAddress
from knet_trio._state.link_sender import LinkSender
from knet_trio._state.send_lane import SendLane
from knet_trio._state.trust import Credentials, HostTrust
from knet_trio.abc import Cipher, Endpoint, PathTrouble
from knet_trio.address import Address

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})
"""The errors of the system when it has no room for a packet."""


class Answered(NamedTuple):
    """The ping that a pong answers.

    Attributes:
        sent: The time that the ping carried.
        counted: True if it counts for the link.
    """

    sent: float
    counted: bool = True


class ControlOutput:
    """Sends the pings, pongs, probes and replies of one link.

    A packet that finds no room in the socket is lost; the next one follows soon.

    Args:
        context: The shared state of the handle.
        host_id: The host at the other end.
        link_id: The id of the link.
        sender: The sending part of the link.
        address: The destination of the link.
        lane: The lane of the host, for the message number in pings.
        trust: The confirmed lives of the host.
        report: Called with troubles of other links that are found on the way.

    Attributes:
        address: The destination of the link.
    """

    def __init__(
        self,
        context: Context,
        host_id: int,
        link_id: int,
        sender: LinkSender,
        address: LinkAddress,
        lane: SendLane,
        trust: HostTrust,
        report: Callable[[Endpoint, Sequence[PathTrouble]], None],
    ) -> None:
        self._context = context
        self._host_id = host_id
        self._link_id = link_id
        self._sender = sender
        self.address = address
        self._lane = lane
        self._trust = trust
        self._report = report
        self._pong_header = pong_header(context.host_id)
        # The last ping, and the address that its pong comes from: most pongs answer it.
        self._last_stamp = b""
        self._last_place: Address | None = None
        # The part that all stamps to one address have in common.
        self._where_of: tuple[Address, bytes] | None = None
        self._where = b""
        self._last_time = 0.0

    @property
    def fault(self) -> str | None:
        """Why there is no connection to send over, None if the link can send."""
        return self._sender.fault

    def reset(self, reason: str) -> None:
        """Close the connection because of ``reason``, and make a new one."""
        self._sender.reset(reason)

    @property
    def drained(self) -> bool:
        """True if all packets that have arrived at the sockets of the link were received."""
        return self._sender.drained

    def ping(self, time: float, place: Address, *, timed: bool) -> OSError | None:
        """Send a ping to ``place``, with the number of the last message.

        Args:
            time: The time that the pong returns, with a proof that this link sent the ping.
            place: The destination of the link, or another address.
            timed: True for a scheduled ping, False for a forced one.

        Returns:
            The error if the system refuses the ping or has no room, otherwise None.
        """
        sealer = self._context.crypto.sealer
        source = self.address.name_source(place)
        stamp = self._make_stamp(time, source, sealer, counted=True)
        self._last_stamp, self._last_place, self._last_time = stamp, source, time
        return self._send_ping(stamp, place, sealer, timed=timed)

    def ask(self, time: float, place: Address, sealer: Cipher | None) -> None:
        """Send a ping to ``place`` to find the peer, in the envelope of a packet from there.

        Its pong counts for the link if that envelope is in use.

        Args:
            time: The time that the pong returns.
            place: The address.
            sealer: The cipher that seals the ping, None to send it in the clear.
        """
        if sealer is self._context.crypto.sealer:
            self.ping(time, place, timed=True)
            return
        source = self.address.name_source(place)
        stamp = self._make_stamp(time, source, sealer, counted=False)
        self._send_ping(stamp, place, sealer, timed=True)

    def ping_beside(self, time: float, place: Address) -> None:
        """Send a scheduled ping in the envelopes of model ``aead`` that are not in use, too.

        So hosts know each other's lives before they use those envelopes.
        """
        crypto = self._context.crypto
        for sealer in crypto.aead:
            if sealer is not crypto.sealer:
                self.ask(time, place, sealer)

    def _make_stamp(
        self, time: float, source: Address, sealer: Cipher | None, *, counted: bool
    ) -> bytes:
        binding = b""
        if isinstance(sealer, PacketSealer):
            binding = self._trust.of(sealer).binding(counted=counted)
        if self._where_of != (source, binding):
            self._where_of = (source, binding)
            self._where = self._describe(source, binding)
        return self._context.stamps.make(time, self._where)

    def _send_ping(
        self, stamp: bytes, place: Address, sealer: Cipher | None, *, timed: bool
    ) -> OSError | None:
        context, lane = self._context, self._lane
        number = lane.ping_number(context.seq) if timed else lane.force_number(context.seq)
        packet = encode_ping_fields(context.host_id, self._link_id, stamp, number, timed)
        return self._send(Kind.PING, packet, sealer, place)

    def _describe(self, source: Address, binding: bytes) -> bytes:
        return Stamps.describe(self._host_id, self._link_id, source, binding)

    def find_sent(
        self, pong: Pong, source: Address, credentials: Credentials | None = None
    ) -> Answered | None:
        """Return the ping that ``pong`` answers.

        Returns:
            None if no ping of this link that was sent to ``source`` had its stamp.
        """
        stamp, stamps = pong.time, self._context.stamps
        if credentials is None or credentials.trust is None:
            sent = self.find_last(stamp, source)
            if sent is None:
                sent = stamps.read_untrusted(stamp, self._describe(source, b""))
            return None if sent is None else Answered(sent)
        trust = credentials.trust
        for counted in (True, False):
            where = self._describe(source, trust.binding(counted=counted))
            sent = stamps.read_untrusted(stamp, where)
            if sent is not None:
                return Answered(sent, counted)
        if not credentials.believed:
            return None
        # The pong was on its way while another pong confirmed the life.
        for counted in (True, False):
            where = self._describe(source, trust.binding(counted=counted, earlier=1))
            sent = stamps.read_untrusted(stamp, where)
            if sent is not None:
                return Answered(sent, counted)
        return None

    def find_last(self, stamp: bytes, source: Address) -> float | None:
        """Return the time of the last ping, if it had ``stamp`` and was sent to ``source``."""
        if source == self._last_place and hmac.compare_digest(stamp, self._last_stamp):
            return self._last_time
        return None

    def pong(self, ping: Ping, answer: Cipher | None, to: Address | None = None) -> None:
        """Answer ``ping`` with its own fields, to the address ``to`` or the link's destination."""
        pong = Pong(self._context.host_id, self._link_id, ping.time, ping.seq, ping.timed)
        self._send(Kind.PONG, encode_pong(pong), answer, to)

    def answer(self, ping: bytes, answer: Cipher | None) -> None:
        """Answer the packet ``ping``, which is for this link, to the link's destination."""
        self._send(Kind.PONG, answer_ping(ping, self._pong_header), answer)

    def probe(self, number: int, length: int) -> OSError | None:
        """Send a path MTU probe.

        Args:
            number: The number that the reply returns, 16 bits.
            length: The size of the packet without its envelope, in bytes.

        Returns:
            The error if the system refuses the probe or has no room, otherwise None.
        """
        probe = PmtudProbe(self._context.host_id, self._link_id, number, length)
        return self._send(Kind.PMTU, encode_pmtud(probe), self._context.crypto.sealer)

    def reply(self, number: int, answer: Cipher | None) -> None:
        """Answer a path MTU probe."""
        reply = PmtudReply(self._context.host_id, self._link_id, number)
        self._send(Kind.PMTU_ANSWER, encode_pmtud_reply(reply), answer)

    def kernel_mtu(self) -> int | None:
        """Return the largest packet that this machine sends to the peer, in bytes on the wire.

        Called when the system has just refused a packet for its size, and put the error on the
        error queue. The smallest size there for this destination counts; None if there is none.
        """
        sizes: list[int] = []
        others: list[PathTrouble] = []
        endpoint = self._sender.send_socket.endpoint
        for trouble in endpoint.troubles():
            if trouble.errno == errno.EMSGSIZE and trouble.concerns(self.address.destination):
                if trouble.mtu is not None:
                    sizes.append(trouble.mtu)
            else:
                others.append(trouble)
        self._report(endpoint, others)
        return min(sizes, default=None)

    def _send(
        self, kind: Kind, packet: bytes, sealer: Cipher | None, to: Address | None = None
    ) -> OSError | None:
        destination = to or self.address.destination
        if destination is None:
            return None
        context = self._context
        if sealer is None:
            return self._sender.send_control(kind, packet, destination)
        try:
            datagram = sealer.seal_to((packet,), self._host_id)[0]
        except (OSError, MemoryError) as error:
            # The system has no random bytes or no memory. The next packet follows soon.
            if isinstance(error, MemoryError):
                error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return self._sender.control_failed(kind, len(packet), error)
        context.counters.tx_crypt_control += 1
        return self._sender.send_control(kind, datagram, destination)
