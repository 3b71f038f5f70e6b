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
"""What the system says when it has no room for a packet."""


class Answered(NamedTuple):
    """The ping that a pong answers.

    Attributes:
        sent: The time that it carried.
        counted: Whether it counts for the link.
        is_proof: Whether its stamp was drawn since a life of the host was confirmed last, or none
            any more: the pong shows which life that has now.
    """

    sent: float
    counted: bool = True
    is_proof: bool = False


class ControlOutput:
    """Sends the pings, pongs, probes and replies of one link.

    A packet that finds no room in the socket is lost: the next one comes anyway.

    Args:
        host_id: The host at the other end.
        link_id: The link.
        lane: The lane of the host, which knows the number that a ping tells.
        trust: Which lives of the host are believed.
        report: Called with troubles of other links that are found on the way.

    Attributes:
        address: Where the link leads to.
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
        # The last ping that was sent, and where its pong comes from: most pongs answer that.
        self._last_stamp = b""
        self._last_place: Address | None = None
        # What the stamps have in common that go to a place.
        self._where_of: tuple[Address, bytes] | None = None
        self._where = b""
        self._last_time = 0.0

    @property
    def fault(self) -> str | None:
        """Why nothing can be sent while there is no connection, None if something can."""
        return self._sender.fault

    def reset(self, reason: str) -> None:
        """Break the connection, if there is one that is of no use, and make a new one."""
        self._sender.reset(reason)

    @property
    def drained(self) -> bool:
        """Whether all that has come to the sockets of the link has been worked on."""
        return self._sender.drained

    def ping(self, time: float, place: Address, *, timed: bool) -> OSError | None:
        """Send a ping to ``place``, which tells the number of the last message.

        Args:
            time: What the pong brings back, with the proof that this link sent it there.
            place: The destination, that of the link or another one.
            timed: Whether it is a scheduled ping; False for one that is forced in between.

        Returns:
            The system's error if it refuses to send it, or has no room.
        """
        sealer = self._context.crypto.sealer
        source = self.address.name_source(place)
        stamp = self._make_stamp(time, source, sealer, counted=True)
        self._last_stamp, self._last_place, self._last_time = stamp, source, time
        return self._send_ping(stamp, place, sealer, timed=timed)

    def ask(self, time: float, place: Address, sealer: Cipher | None) -> None:
        """Send a ping to ``place`` that asks who is there, in the envelope of one that came.

        Its pong counts for the link if that envelope is in use.
        """
        if sealer is self._context.crypto.sealer:
            self.ping(time, place, timed=True)
            return
        source = self.address.name_source(place)
        stamp = self._make_stamp(time, source, sealer, counted=False)
        self._send_ping(stamp, place, sealer, timed=True)

    def ping_beside(self, time: float, place: Address) -> None:
        """Send the scheduled ping of that time also in the envelopes that are not in use.

        Those of model ``aead`` only: so hosts know each other's lives before they use them.
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
        number = lane.number_to_tell(context.seq) if timed else lane.force_number(context.seq)
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
                return Answered(sent, counted, is_proof=True)
        if not credentials.believed:
            return None
        # It was on its way while another link, or another ping, had the life confirmed.
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
        """Answer ``ping`` with its own fields, to the link's destination or to another one."""
        pong = Pong(self._context.host_id, self._link_id, ping.time, ping.seq, ping.timed)
        self._send(Kind.PONG, encode_pong(pong), answer, to)

    def answer(self, ping: bytes, answer: Cipher | None) -> None:
        """Answer the packet ``ping``, which is for this link, where the link leads to."""
        self._send(Kind.PONG, answer_ping(ping, self._pong_header), answer)

    def probe(self, number: int, length: int) -> OSError | None:
        """Send a path MTU probe.

        Args:
            number: What the reply brings back, 16 bits.
            length: The bytes of the packet, before its envelope.

        Returns:
            The system's error if it refuses to send it, or has no room.
        """
        probe = PmtudProbe(self._context.host_id, self._link_id, number, length)
        return self._send(Kind.PMTU, encode_pmtud(probe), self._context.crypto.sealer)

    def reply(self, number: int, answer: Cipher | None) -> None:
        """Answer a path MTU probe that came through."""
        reply = PmtudReply(self._context.host_id, self._link_id, number)
        self._send(Kind.PMTU_ANSWER, encode_pmtud_reply(reply), answer)

    def kernel_mtu(self) -> int | None:
        """Return the largest packet that this machine sends to the peer, in bytes on the wire.

        Called when the system has just refused a packet for its size, and put that on the error
        queue. The smallest size there for this destination counts; None if there is none.
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
            # The system gave no random bytes, or no memory. The next packet comes anyway.
            if isinstance(error, MemoryError):
                error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return self._sender.control_failed(kind, len(packet), error)
        context.counters.tx_crypt_control += 1
        return self._sender.send_control(kind, datagram, destination)
