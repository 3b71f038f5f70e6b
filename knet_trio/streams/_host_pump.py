"""The sender and the timers of one host.

Each host has its own task, so a host that is slow or gone (its lane is full) delays no other host.
Short urgent packets, such as an acknowledgement or a request, are sent by the task that caused
them, in the same turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from knet_trio import KnetError
from knet_trio.streams._bell import Bell
from knet_trio.streams._collecting import CollectingShare
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.faults import StreamPacketError
from knet_trio.streams._core.limits import INITIAL_CREDIT
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.wire import Code, StreamKind
from knet_trio.streams.errors import make_error

if TYPE_CHECKING:
    from knet_trio import Channel, Handle
    from knet_trio._pipeline.direct_channel import DirectChannel
    from knet_trio.streams._core.conversation import Conversation

BURST: Final = 2 * 1024 * 1024
"""Bytes that are handed to the channel in one call."""
BURST_PACKETS: Final = 64
DIRECT: Final = 2
"""Packets that are sent in the turn that produced them."""
CLOSINGS: Final = 3
"""Copies of the packet that reports to a host that the streams are closed."""
MAX_MESSAGE: Final = 65536
ALREADY: Final = -math.inf
"""The deadline of a conversation that has something to send."""


class HostPump:
    """The conversation with one host and the task that sends its packets.

    Attributes:
        host_id: The id of the host.
        conversation: The state of the connection with the host.
        requests: The memory for requests and messages of the host that are not taken yet.
        answers: The memory for answers of the host that are not taken yet.
    """

    def __init__(
        self,
        host_id: int,
        handle: Handle,
        channel: Channel,
        direct: DirectChannel,
        conversation: Conversation,
        opened: Callable[[HostPump, Connection, StreamState], None],
    ) -> None:
        self.host_id = host_id
        self.conversation = conversation
        self.requests: CollectingShare = CollectingShare()
        self.answers: CollectingShare = CollectingShare()
        self._handle = handle
        self._channel = channel
        self._direct = direct
        self._opened = opened
        self._checked = conversation.checked
        self._bed = Bell()
        self._nap: trio.CancelScope | None = None
        self._nap_ends = math.inf
        self._openers = Bell()
        self._idlers = Bell()
        # Packets that found no room in the lane; whether the task is handing packets over.
        self._left: list[bytes] = []
        self._handing_over = False
        # Why no stream can be opened; None while streams can.
        self._closed: Failure | None = None

    async def run(self) -> None:
        """Send until the task is cancelled."""
        conversation = self.conversation
        while True:
            due = conversation.deadline
            if not self._left and due > trio.current_time():
                self._nap_ends = due
                with trio.CancelScope(deadline=due) as self._nap:
                    await self._bed.wait()
                self._nap = None
            else:
                await trio.lowlevel.checkpoint()
            await self._send()

    async def _send(self) -> None:
        """Hand the packets that are due to the channel."""
        packets: Sequence[bytes]
        packets, self._left = self._left, []
        if not packets:
            piece = self._prepare()
            count = max(1, min(BURST_PACKETS, BURST // piece))
            packets = self.conversation.poll(trio.current_time(), piece, count)
            self.notice()
        # For an unreachable host the channel would only drop, count and log them.
        if not packets or not self._direct.is_reachable(self.host_id):
            return
        self._handing_over = True
        try:
            # A blocked lane must not delay the silence timeout.
            with trio.CancelScope(deadline=self.conversation.silence_deadline):
                await self._direct.send_many(packets, self.host_id)
        except KnetError:
            self._host_is_gone()
        except trio.ClosedResourceError:
            # The handle is closing; the receiving task notices that too.
            await trio.lowlevel.checkpoint()
        finally:
            self._handing_over = False

    def _prepare(self) -> int:
        """Return the largest packet that is not fragmented, in bytes, and update ``checked``.

        Packets need checksums unless libknet authenticates every packet, which may change with
        the crypto configuration.
        """
        handle = self._direct.handle
        checked = handle.context.crypto.allow_clear_traffic
        if self._checked is not checked:
            self._checked = self.conversation.checked = checked
        mtu = handle.data_mtu
        return mtu if mtu < MAX_MESSAGE else MAX_MESSAGE

    def receive(
        self, packets: Sequence[bytes], start: int, now: float, errors: list[StreamPacketError]
    ) -> int:
        """Take packets as ``Conversation.receive_many`` does, and notify the streams' users."""
        start = self.conversation.receive_many(packets, start, now, errors)
        self.notice()
        return start

    def say(
        self, connection: Connection, stream: StreamState, data: bytes | memoryview, now: float
    ) -> bool:
        """Send everything that this side sends on a stream in one packet, if it fits.

        Returns:
            True if it was sent. If False, nothing has happened: use ``write`` and ``finish``.
        """
        if (
            self._handing_over
            or self._left
            or len(data) > INITIAL_CREDIT
            or not self._direct.is_reachable(self.host_id)
        ):
            return False
        if type(data) is not bytes:
            # A mutable buffer may change before it is acknowledged.
            data = bytes(data)
        conversation = self.conversation
        packet = conversation.say_whole(connection, stream, data, now, self._prepare())
        if packet is None:
            return False
        self._transmit((packet,))
        if self._left:
            self._bed.ring()
        self._set_alarm(conversation.deadline)
        return True

    def wait_for(self, now: float) -> bool:
        """Set the task's alarm for the next deadline; return False if it is due already."""
        due = self.conversation.deadline
        if due <= now:
            return False
        self._set_alarm(due)
        return True

    def flush(self, *, bulk: bool = False) -> None:
        """Send a few packets at once and leave the rest to the task.

        Args:
            bulk: True to leave everything to the task.
        """
        conversation = self.conversation
        due = conversation.deadline
        if due == ALREADY or due <= trio.current_time():
            if not bulk and not self._handing_over and not self._left:
                self._send_now()
                due = conversation.deadline
            if self._left or due == ALREADY:
                self._bed.ring()
        self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        # Without a nap the task is running, and checks the deadline before it sleeps. To wake up
        # too early costs less than to move the end of the nap with each packet.
        if due < self._nap_ends and self._nap is not None:
            self._nap.deadline = self._nap_ends = due

    def _send_now(self) -> None:
        packets = self.conversation.poll(trio.current_time(), self._prepare(), DIRECT)
        if self._direct.is_reachable(self.host_id):
            self._transmit(packets)
        self.notice()

    def _transmit(self, packets: Sequence[bytes]) -> None:
        """Hand packets to the channel; keep those that find no room there."""
        for index, packet in enumerate(packets):
            try:
                self._direct.send_nowait(packet, self.host_id)
            except trio.WouldBlock:
                self._left = list(packets[index:])
                break
            except KnetError:
                self._host_is_gone()
                break
            except trio.ClosedResourceError:
                # The handle is closing; the receiving task notices that too.
                break

    def notice(self) -> None:
        """Notify the users of streams of what has happened."""
        conversation = self.conversation
        if conversation.ended:
            ended, conversation.ended = conversation.ended, []
            for connection in ended:
                self._notice(connection)
            self._openers.ring()
        current = conversation.connection
        if current is not None and (current.opened or current.touched or current.room_to_open):
            self._notice(current)
        if self._idlers.waiting:
            self._idlers.ring()

    def _notice(self, connection: Connection) -> None:
        while connection.opened or connection.touched:
            opened, connection.opened = connection.opened, []
            for stream in opened:
                self._opened(self, connection, stream)
            touched = list(connection.touched)
            connection.touched.clear()
            for stream in touched:
                if stream.owner is not None:
                    stream.owner.touched()
                    if stream.sending.is_over and stream.receiving.is_over:
                        # There will be no more news of the stream.
                        stream.owner = None
        if connection.room_to_open:
            connection.room_to_open = False
            # Only as many as there is room for: thousands may wait, with room for one at a time.
            self._openers.ring_for(connection.may_open)

    def open_now(self, kind: StreamKind, now: float) -> tuple[Connection, StreamState] | None:
        """Open a stream; return None if the peer's limit is reached.

        Raises:
            trio.ClosedResourceError: The streams were closed, perhaps while the task waited.
        """
        if self._closed is not None:
            raise self.error(self._closed)
        stream = self.conversation.open(kind, now)
        connection = self.conversation.connection
        return None if stream is None or connection is None else (connection, stream)

    async def open(self, kind: StreamKind) -> tuple[Connection, StreamState]:
        """Open a stream; wait while the peer's limit is reached."""
        while True:
            opened = self.open_now(kind, trio.current_time())
            if opened is not None:
                return opened
            await self._openers.wait()

    def greet(self) -> None:
        """Greet the host, so that it notices that this side has started or restarted."""
        self.conversation.begin(trio.current_time())
        self.flush()

    def hint(self) -> None:
        """Probe the host soon: the state of a link has changed."""
        self.conversation.hint(trio.current_time())
        self.flush()

    def close(self, failure: Failure) -> None:
        """End the conversation and notify the host."""
        self._closed = failure
        now = trio.current_time()
        packets = self.conversation.close(failure, Code.CLOSED, now)
        # Nothing retransmits it after this.
        for packet in packets * CLOSINGS:
            try:
                self._direct.send_nowait(packet, self.host_id)
            except (trio.WouldBlock, trio.ClosedResourceError, KnetError):
                # The host finds out when it sends something, or by its silence timeout.
                break
        self.notice()
        self._openers.ring()

    def error(self, failure: Failure) -> Exception:
        """Return the exception for a call that has failed."""
        if failure.cause is FailureCause.SILENCE and not failure.reason:
            failure = Failure(failure.cause, self._why_silent())
        return make_error(self.host_id, failure)

    def _why_silent(self) -> str:
        host = self._handle.hosts.get(self.host_id)
        if host is None:
            return "it was removed from the handle"
        if host.status.reachable:
            channel = self._channel.channel
            return f"it is reachable: check that it runs open_streams(channel={channel})"
        return "no link to it works; check its links"

    def _host_is_gone(self) -> None:
        self.conversation.close(
            Failure(FailureCause.HOST_REMOVED, ""), Code.CLOSED, trio.current_time()
        )
        self.notice()

    @property
    def is_idle(self) -> bool:
        """True if everything that was sent has been acknowledged."""
        connection = self.conversation.connection
        return connection is None or not connection.has_undelivered

    async def wait_idle(self) -> None:
        """Wait until everything is acknowledged; give up after a second without progress."""
        deliveries, since = self._deliveries, trio.current_time()
        while not self.is_idle:
            with trio.CancelScope(deadline=since + 1) as scope:
                await self._idlers.wait()
            if scope.cancelled_caught:
                return
            if self._deliveries != deliveries:
                deliveries, since = self._deliveries, trio.current_time()

    @property
    def _deliveries(self) -> int:
        connection = self.conversation.connection
        return 0 if connection is None else connection.deliveries
