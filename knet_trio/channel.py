"""A channel, on which programs send and receive messages."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from threading import get_ident
from types import MappingProxyType
from typing import Final, TypeAlias, TypeGuard, cast, final

import trio

from knet_trio._constructors import NoPublicConstructor
from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._facade import Facade
from knet_trio._pipeline.batches import BATCH_MESSAGES, cut, pack
from knet_trio._pipeline.direct_channel import DirectChannel
from knet_trio._pipeline.transmitter import ChannelState
from knet_trio._runtime import Runtime
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.destinations import find_host
from knet_trio.errors import DropCause, InvalidArgumentError, is_integer, shown
from knet_trio.host import Destinations
from knet_trio.message import Message

BytesLike: TypeAlias = bytes | bytearray | memoryview
"""A message, of 1 to 65536 bytes."""

# The number of messages whose types and lengths are checked between two looks at the turn.
_CHECKED_AT_ONCE: Final = 1024
_CHECKED_SINGLY: Final = 128


@final
class Channel(
    Facade,
    trio.abc.SendChannel[bytes],
    trio.abc.ReceiveChannel[Message],
    metaclass=NoPublicConstructor,
):
    """One of the 32 channels of a handle.

    Returned by ``Handle.open_channel``. A message of 1 to 65536 bytes sent on a channel arrives on
    the channel of the same number of other hosts. ``to`` names its destinations, in place of the
    filter; without both, every host receives it. Sending puts the message into a queue for each
    destination, and waits for room there. Messages dropped later are counted in
    ``Handle.statistics()``.

    A call that is cancelled has no effect: nothing was sent, no message was removed. ``send_many``
    and ``send_sync`` document what cancelling means for them.
    """

    _MADE_BY = "Handle.open_channel()"
    __slots__ = ("_channel", "_closed", "_owner", "_queue", "_runtime", "_thread")
    _SET_OTHERWISE = MappingProxyType({"channel": "open another channel with `open_channel(...)`"})

    def __init__(self, runtime: Runtime, channel: int, queue: ChannelQueue) -> None:
        self._runtime = runtime
        self._channel = channel
        self._queue = queue
        self._closed = False
        self._owner = ChannelState()
        # The thread of the handle.
        self._thread = get_ident()

    def __repr__(self) -> str:
        return f"<Channel {self._channel}{' closed' if self._closed else ''}>"

    @property
    def channel(self) -> int:
        """The number of the channel, 0 to 31."""
        return self._channel

    async def send(  # pyright: ignore[reportIncompatibleMethodOverride]  # trio says `value`
        self, data: BytesLike, *, to: Destinations | None = None
    ) -> None:
        """Send a message.

        Returns when the message is in the queue of each destination, and waits while one of them is
        full. If a single destination is too slow while another's queue has room, the message is
        dropped for the slow one, and counted as ``send_queue_full``. The call always checks for
        cancellation. It lets other tasks run if it has to wait, or if 0.5 ms have passed since the
        handle last noticed that they did.

        Args:
            data: The message, 1 to 65536 bytes.
            to: The destination, or several: host ids, names or ``Host`` objects. None: the filter
                chooses them; without a filter, every host.

        Raises:
            InvalidArgumentError: ``data`` is not a message, or ``to`` not a host.
            UnknownHostError: A host in ``to`` was not added to the handle.
            trio.ClosedResourceError: The channel was closed, before or while the call waited, or
                the handle has ended.

        See knet_send(3).
        """
        if get_ident() != self._thread:
            # Another Trio may run in that thread, which would not notice the mistake.
            self._runtime.check_here()
        if self._closed or self._runtime.ended:
            self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        datas = (data if type(data) is bytes and 0 < len(data) <= MAX_MESSAGE else _check(data),)
        try:
            await self._runtime.transmitter.send(datas, self._channel, hosts, self._owner)
        except RuntimeError:
            # Raised by Trio outside of Trio. A check before would cost time for each message.
            self._runtime.check_here()
            raise

    def send_nowait(self, data: BytesLike, *, to: Destinations | None = None) -> None:
        """Send a message if that is possible without waiting.

        Args:
            data: The message, as for ``send``.
            to: The destinations, as for ``send``.

        Raises:
            trio.WouldBlock: ``send`` would wait.
            InvalidArgumentError: As ``send`` does; so are all other errors.
        """
        self._check_thread()
        self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        self._runtime.transmitter.send_nowait((_check(data),), self._channel, hosts)

    async def send_many(
        self, datas: Iterable[BytesLike], *, to: Destinations | None = None
    ) -> None:
        """Send any number of messages in order.

        Each costs a fraction of a ``send``, and other tasks run in between. If the call is
        cancelled, the first messages have been sent, each of them whole, as with
        ``trio.abc.SendStream.send_all``.

        Args:
            datas: The messages. A sequence is checked as a whole before anything is sent. Any other
                iterable is consumed while sending, so that if it raises, the messages before that
                have been sent.
            to: The destinations of all of them, as for ``send``.

        Raises:
            InvalidArgumentError: As ``send`` does; so are all other errors.
        """
        self._check_open()
        self._runtime.check_here()
        _check_iterable(datas)
        hosts = None if to is None else self._check_hosts(to)
        await trio.lowlevel.checkpoint_if_cancelled()
        if isinstance(datas, Sequence):
            turns = self._runtime.context.turns
            for _ in _check_in_parts(datas):
                if turns.is_over():
                    await turns.give_up()
        for batch in _batches(datas):
            await self._runtime.transmitter.send(batch, self._channel, hosts, self._owner)

    async def send_sync(self, data: BytesLike, *, to: Destinations | None = None) -> None:
        """Send a message to one host, and raise an error if it cannot be sent.

        Returns when the socket of a link has accepted the whole message, which does not mean that
        it has arrived. Waits for room while the host is reachable. The message may overtake
        messages sent before. If the call is cancelled before the first packet has left, it has no
        effect; after that, the rest of the message is dropped and counted.

        Args:
            data: The message, 1 to 65536 bytes.
            to: The destination, one host. None: the filter chooses it.

        Raises:
            SendError: The message was not sent; the subclass and the text say why.
            InvalidArgumentError: ``data`` is not a message, or ``to`` not a host.
            UnknownHostError: A host that ``to`` or the filter names was not added to the handle.
            trio.ClosedResourceError: The channel was closed, before or while the call waited, or
                the handle has ended.

        See knet_send_sync(3).
        """
        self._check_open()
        self._runtime.check_here()
        hosts = None if to is None else self._check_hosts(to)
        await self._runtime.transmitter.send_sync(_check(data), self._channel, hosts, self._owner)

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Receive the next message.

        The call always checks for cancellation. It lets other tasks run if it has to wait, or if
        0.5 ms have passed since the handle last noticed that they did. ``async for`` does the same
        for each message. Waiting tasks receive messages in the order in which they began to wait,
        except those that only let others run.

        Raises:
            trio.EndOfChannel: The handle has ended, and all messages were received.
            trio.ClosedResourceError: The channel was closed, before or while the call waited.

        See knet_recv(3).
        """
        if get_ident() != self._thread:
            self._runtime.check_here()
        try:
            return await self._queue.take()
        except RuntimeError:
            # Raised by Trio outside of Trio.
            self._runtime.check_here()
            raise

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Message:
        """Receive the next message, in fewer calls than Trio's own method."""
        if get_ident() != self._thread:
            self._runtime.check_here()
        try:
            return await self._queue.take()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        except RuntimeError:
            self._runtime.check_here()
            raise

    @trio.lowlevel.enable_ki_protection
    def receive_nowait(self) -> Message:
        """Receive the next message if there is one.

        Raises:
            trio.WouldBlock: No message waits.
            trio.EndOfChannel: The handle has ended, and all messages were received.
            trio.ClosedResourceError: The channel was closed.
        """
        self._check_thread()
        return self._queue.take_nowait()

    @trio.lowlevel.enable_ki_protection
    async def receive_many(self, limit: int | None = None) -> list[Message]:
        """Wait for a message, and receive all messages that are there.

        Like ``receive``, with less work for each message.

        Args:
            limit: The largest number of messages to return, 1 or more. None: 16384.

        Returns:
            At least one message; those of one host are in the order in which they arrived.

        Raises:
            InvalidArgumentError: ``limit`` is not a number, or less than one.
            trio.EndOfChannel: The handle has ended, and all messages were received.
            trio.ClosedResourceError: The channel was closed, before or while the call waited.
        """
        if get_ident() != self._thread:
            self._runtime.check_here()
        if limit is not None:
            _check_limit(limit)
        try:
            return await self._queue.take_many(limit)
        except RuntimeError:
            self._runtime.check_here()
            raise

    def close(self) -> None:
        """Close the channel.

        Calls that wait on it raise ``trio.ClosedResourceError``. Messages not yet received, and
        those that arrive for the channel from now on, are dropped and counted.
        """
        if not self._closed:
            self._check_thread()
            self._closed = True
            self._owner.closed = True
            lost = self._queue.close()
            if lost:
                self._runtime.context.counters.drop(DropCause.NO_CHANNEL, lost)
            self._runtime.receiver.channels.pop(self._channel, None)
            self._runtime.transmitter.close_channel(self._owner)

    async def aclose(self) -> None:
        """Close the channel, as ``close`` does, with a checkpoint.

        See knet_handle_remove_datafd(3).
        """
        self.close()
        await trio.lowlevel.checkpoint()

    def _direct(self) -> DirectChannel:
        runtime = self._runtime
        return DirectChannel(
            runtime.handle, runtime.transmitter, self._channel, self._queue, self._owner
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
        if self._runtime.ended:
            self._runtime.check_running()

    def _check_thread(self) -> None:
        if get_ident() != self._thread:
            self._runtime.check_here()

    def _check_hosts(self, to: Destinations) -> tuple[int, ...]:
        if type(to) is int:
            return (self._find_host(to),)
        several: Iterable[object] = (to,)
        if isinstance(to, Iterable) and not isinstance(to, str | bytes):
            several = cast("Iterable[object]", to)
        found = dict.fromkeys(map(self._find_host, several))
        if not found:
            raise InvalidArgumentError("to=[] names no host: leave it out to send to every host")
        return tuple(found)

    def _find_host(self, host: object) -> int:
        """Return the id of ``host``, or raise if it was not added to the handle."""
        handle = self._runtime.handle
        if type(host) is int and host in handle.hosts:
            return host
        return find_host(handle, host).host_id


def direct(channel: Channel) -> DirectChannel:
    """Return the fast paths of a channel, for the package itself."""
    return channel._direct()  # pyright: ignore[reportPrivateUsage]


def _check(data: object) -> bytes:
    """Return ``data`` as a message, copied if it is mutable."""
    if isinstance(data, bytes) and 0 < len(data) <= MAX_MESSAGE:
        return data
    _check_one(data)
    return bytes(cast("bytearray", data))


def _check_one(data: object) -> None:
    """Raise InvalidArgumentError if ``data`` is not a message."""
    if isinstance(data, bytes | bytearray):
        length = len(data)
    elif isinstance(data, memoryview):
        length = data.nbytes
    else:
        advice = ": encode it first" if isinstance(data, str) else ""
        raise InvalidArgumentError(f"a message is bytes, not {type(data).__name__}{advice}")
    if not 0 < length <= MAX_MESSAGE:
        raise InvalidArgumentError(f"a message has 1 to {MAX_MESSAGE} bytes, not {length}")


def _check_limit(limit: object) -> None:
    if not is_integer(limit) or limit < 1:
        raise InvalidArgumentError(
            f"limit {shown(limit)} is not a number of messages: give 1 or more, or None"
        )


def _check_iterable(datas: object) -> None:
    """Raise InvalidArgumentError if ``datas`` cannot be several messages."""
    if isinstance(datas, bytes | bytearray | memoryview | str):
        raise InvalidArgumentError(
            "send_many takes several messages, not one: give a list of messages, or use send"
        )
    if isinstance(datas, AsyncIterable):
        raise InvalidArgumentError(
            "send_many takes no async iterable: write `async for data in ...: await"
            " channel.send(data)`"
        )
    if not isinstance(datas, Iterable):
        raise InvalidArgumentError(f"{shown(datas)} is not iterable: give a list of messages")


def _are_messages(datas: Sequence[object]) -> TypeGuard[Sequence[bytes]]:
    """Return whether all ``datas`` are messages of type ``bytes``; others may be messages too."""
    # Checked in bulk, since there may be many.
    if set(map(type, datas)) != {bytes}:
        return False
    lengths = list(map(len, cast("Sequence[bytes]", datas)))
    return min(lengths) > 0 and max(lengths) <= MAX_MESSAGE


def _check_in_parts(datas: Sequence[object]) -> Iterator[None]:
    """Raise InvalidArgumentError if not all are messages; yield where other tasks may run."""
    if isinstance(datas, list | tuple):
        for start in range(0, len(datas), _CHECKED_AT_ONCE):
            part = datas[start : start + _CHECKED_AT_ONCE]
            if not _are_messages(part):
                for data in part:
                    _check_one(data)
            yield
    else:
        # Not every sequence can be sliced, and access by index may be slow.
        for number, data in enumerate(datas, start=1):
            _check_one(data)
            if not number % _CHECKED_SINGLY:
                yield


def _batches(datas: Iterable[object]) -> Iterator[Sequence[bytes]]:
    """Yield messages in batches, each checked, and copied if mutable, when its batch is made."""
    if not isinstance(datas, list | tuple):
        yield from pack(map(_check, datas))
        return
    for start in range(0, len(datas), BATCH_MESSAGES):
        part = datas[start : start + BATCH_MESSAGES]
        if _are_messages(part):
            yield from cut(part)
        else:
            yield from pack(map(_check, part))
