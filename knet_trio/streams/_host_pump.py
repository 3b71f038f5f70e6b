"""What sends to one host, and keeps its timers.

Each host has a task of its own, so whatever holds up one (its lane is full, it is gone) holds up no
other. What is short and has to go soon, an acknowledgement or a request, is sent by whoever caused
it, in the same turn.
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
"""Bytes that are handed to the channel at once."""
BURST_PACKETS: Final = 64
DIRECT: Final = 2
"""Packets that are sent in the turn in which they come up."""
CLOSINGS: Final = 3
"""How often a host is told that the streams are closed."""
MAX_MESSAGE: Final = 65536
ALREADY: Final = -math.inf
"""The deadline of a conversation that has something to send."""


class HostPump:
    """The conversation with one host, and the task that sends what it wants to say.

    Attributes:
        host_id: The host.
        conversation: What there is to say.
        requests: The memory for requests and messages of the host that are not whole yet.
        answers: The memory for answers of the host.
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
        self.requests = CollectingShare()
        self.answers = CollectingShare()
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
        # Packets that found no room, and whether the task is handing some over.
        self._left: list[bytes] = []
        self._handing_over = False
        # Why nothing is opened any more.
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
        """Hand over what is to be sent now."""
        packets: Sequence[bytes]
        packets, self._left = self._left, []
        if not packets:
            piece = self._prepare()
            count = max(1, min(BURST_PACKETS, BURST // piece))
            packets = self.conversation.poll(trio.current_time(), piece, count)
            self.notice()
        # If it cannot be reached, they would only be dropped, counted and logged.
        if not packets or not self._direct.is_reachable(self.host_id):
            return
        self._handing_over = True
        try:
            # A lane that nothing goes out of must not keep the silence from being noticed.
            with trio.CancelScope(deadline=self.conversation.silence_deadline):
                await self._direct.send_many(packets, self.host_id)
        except KnetError:
            self._host_is_gone()
        except trio.ClosedResourceError:
            # The handle ends, which the receiving task finds out too.
            await trio.lowlevel.checkpoint()
        finally:
            self._handing_over = False

    def _prepare(self) -> int:
        """Return how many bytes a packet may have now, so that it goes in one piece.

        The conversation is told whether packets need checksums, which may change with the keys:
        where every packet is authenticated, nothing damaged gets there.
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
        """Take packets as ``Conversation.receive_many`` does, and tell those whom they concern."""
        start = self.conversation.receive_many(packets, start, now, errors)
        self.notice()
        return start

    def say(
        self, connection: Connection, stream: StreamState, data: bytes | memoryview, now: float
    ) -> bool:
        """Send all that is ever to be sent on a stream at once, if it is little.

        Returns:
            Whether it has gone; if not, nothing has happened: write it, and end it.
        """
        if (
            self._handing_over
            or self._left
            or len(data) > INITIAL_CREDIT
            or not self._direct.is_reachable(self.host_id)
        ):
            return False
        if type(data) is not bytes:
            # It may change.
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
        """Have the task wait for what is to be done next; return False if it is to be done now."""
        due = self.conversation.deadline
        if due <= now:
            return False
        self._set_alarm(due)
        return True

    def flush(self, *, bulk: bool = False) -> None:
        """Send at once what is little; the task sends the rest, all of it if it is ``bulk``."""
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
        # Without a nap the task runs, and looks at the deadline before it sleeps. One that ends too
        # early costs less than to move its end with each packet.
        if due < self._nap_ends and self._nap is not None:
            self._nap.deadline = self._nap_ends = due

    def _send_now(self) -> None:
        packets = self.conversation.poll(trio.current_time(), self._prepare(), DIRECT)
        if self._direct.is_reachable(self.host_id):
            self._transmit(packets)
        self.notice()

    def _transmit(self, packets: Sequence[bytes]) -> None:
        """Hand packets to the channel, and keep those that find no room there."""
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
                # The handle ends, which the receiving task finds out too.
                break

    def notice(self) -> None:
        """Tell those who use streams what has happened to them."""
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
                        # Nothing happens to it any more.
                        stream.owner = None
        if connection.room_to_open:
            connection.room_to_open = False
            # No more than find room: there may be thousands, and room for one each time.
            self._openers.ring_for(connection.may_open)

    def open_now(self, kind: StreamKind, now: float) -> tuple[Connection, StreamState] | None:
        """Open a stream, None if the other side lets no more be opened.

        Raises the error for streams that were closed: a task may still have waited to open one.
        """
        if self._closed is not None:
            raise self.error(self._closed)
        stream = self.conversation.open(kind, now)
        connection = self.conversation.connection
        return None if stream is None or connection is None else (connection, stream)

    async def open(self, kind: StreamKind) -> tuple[Connection, StreamState]:
        """Open a stream; wait while the other side lets no more be opened."""
        while True:
            opened = self.open_now(kind, trio.current_time())
            if opened is not None:
                return opened
            await self._openers.wait()

    def greet(self) -> None:
        """Say hello to the host, so that it knows that this side has started (again)."""
        self.conversation.begin(trio.current_time())
        self.flush()

    def hint(self) -> None:
        """Look after the host soon: there is news of its links."""
        self.conversation.hint(trio.current_time())
        self.flush()

    def close(self, failure: Failure) -> None:
        """End the conversation, and tell the host."""
        self._closed = failure
        now = trio.current_time()
        packets = self.conversation.close(failure, Code.CLOSED, now)
        # Nobody will be there to repeat it if it is lost.
        for packet in packets * CLOSINGS:
            try:
                self._direct.send_nowait(packet, self.host_id)
            except (trio.WouldBlock, trio.ClosedResourceError, KnetError):
                # It finds out when it sends something, or by the silence.
                break
        self.notice()
        self._openers.ring()

    def error(self, failure: Failure) -> Exception:
        """Return the error for a call that cannot go on."""
        if failure.cause is FailureCause.SILENCE and not failure.reason:
            failure = Failure(failure.cause, self._why_silent())
        return make_error(self.host_id, failure)

    def _why_silent(self) -> str:
        host = self._handle.hosts.get(self.host_id)
        if host is None:
            return "it was removed from the handle"
        if host.status.reachable:
            channel = self._channel.channel
            return (
                f"it can be reached, but does not answer: has it open_streams(channel={channel})?"
            )
        return "no link to it works"

    def _host_is_gone(self) -> None:
        self.conversation.close(
            Failure(FailureCause.HOST_REMOVED, ""), Code.CLOSED, trio.current_time()
        )
        self.notice()

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent has arrived."""
        connection = self.conversation.connection
        return connection is None or not connection.has_undelivered

    async def wait_idle(self) -> None:
        """Wait until all that was sent has arrived, as long as some of it arrives each second."""
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
