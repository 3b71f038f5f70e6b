"""The channel object that a program holds."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from threading import get_ident
from types import MappingProxyType
from typing import Final, TypeAlias, TypeGuard, cast

import trio

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

# Messages whose types and lengths are checked in one go: lists and tuples are quicker.
_CHECKED_AT_ONCE: Final = 1024
_CHECKED_SINGLY: Final = 128


class Channel(Facade, trio.abc.SendChannel[bytes], trio.abc.ReceiveChannel[Message]):
    """One of a handle's 32 channels. ``Handle.open_channel`` makes it.

    What is sent on a channel arrives on the channel of the same number of other hosts. A message
    has 1 to 65536 bytes. Sending puts it into a queue for each of its hosts, and waits for room
    there; a message that is dropped later is counted in ``Handle.statistics()``. ``to`` names the
    hosts that get it, in place of the filter. Without both, every host gets it.

    A cancelled call has not happened: nothing was sent, nothing was taken. ``send_many`` and
    ``send_sync`` say what cancelling them means.
    """

    __slots__ = ("_channel", "_closed", "_owner", "_queue", "_runtime", "_thread")
    _SET_OTHERWISE = MappingProxyType({"channel": "open another channel with `open_channel(...)`"})

    def __init__(self, runtime: Runtime, channel: int, queue: ChannelQueue) -> None:
        self._runtime = runtime
        self._channel = channel
        self._queue = queue
        self._closed = False
        self._owner = ChannelState()
        # The one of the handle.
        self._thread = get_ident()

    def __repr__(self) -> str:
        return f"<Channel {self._channel}{' closed' if self._closed else ''}>"

    @property
    def channel(self) -> int:
        """Its number, 0 to 31."""
        return self._channel

    async def send(  # pyright: ignore[reportIncompatibleMethodOverride]  # trio says `value`
        self, data: BytesLike, *, to: Destinations | None = None
    ) -> None:
        """Hand over a message.

        Waits while the queue of one of its hosts is full. If that host alone is behind, while the
        queue of another one has room, the message is dropped for it, and counted as
        ``send_queue_full``. Always looks for cancellation; lets other tasks run if it has to wait,
        or if 0.5 ms have passed since the handle last noticed that they did.

        Args:
            data: 1 to 65536 bytes.
            to: The host that gets it, or several: ids, names or ``Host`` objects. None leaves that
                to the filter; without a filter everybody gets it.

        Raises:
            InvalidArgumentError: ``data`` is no message, or ``to`` no host.
            UnknownHostError: The handle does not have a host in ``to``.
            trio.ClosedResourceError: The channel was closed, also while this waited, or the handle
                has ended.

        See knet_send(3).
        """
        if get_ident() != self._thread:
            # Trio may run in that thread too, and would not notice.
            self._runtime.check_here()
        if self._closed or self._runtime.ended:
            self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        datas = (data if type(data) is bytes and 0 < len(data) <= MAX_MESSAGE else _check(data),)
        try:
            await self._runtime.transmitter.send(datas, self._channel, hosts, self._owner)
        except RuntimeError:
            # Trio's, if there is no Trio here. To ask beforehand would cost every message.
            self._runtime.check_here()
            raise

    def send_nowait(self, data: BytesLike, *, to: Destinations | None = None) -> None:
        """Hand over a message now, or raise ``trio.WouldBlock`` where ``send`` would wait."""
        self._check_thread()
        self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        self._runtime.transmitter.send_nowait((_check(data),), self._channel, hosts)

    async def send_many(
        self, datas: Iterable[BytesLike], *, to: Destinations | None = None
    ) -> None:
        """Hand over any number of messages in their order, in turns.

        Each costs a fraction of a ``send``. A sequence is checked as a whole before anything is
        sent. Any other iterable is consumed as the messages go, so an error in it leaves a
        beginning of them sent. Cancelled in the middle, it has handed over a beginning, each
        message of it whole, as ``trio.abc.SendStream.send_all`` may.

        Raises what ``send`` does.
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
        """Send a message to one host, and raise what went wrong.

        Returns when the socket of a link has taken the whole message, which does not mean that it
        has arrived. Waits for room as long as the host can be reached, and may overtake messages
        that were handed over before. Cancelled before its first packet has gone, it has not
        happened; after that, the rest is given up and counted.

        Raises:
            SendError: Why it could not be sent.
            InvalidArgumentError: ``data`` is no message, or ``to`` no host.
            UnknownHostError: The handle does not have a host that ``to`` or the filter names.
            trio.ClosedResourceError: The channel was closed, also while this waited, or the handle
                has ended.

        See knet_send_sync(3).
        """
        self._check_open()
        self._runtime.check_here()
        hosts = None if to is None else self._check_hosts(to)
        await self._runtime.transmitter.send_sync(_check(data), self._channel, hosts, self._owner)

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> Message:
        """Wait for the next message and take it.

        Always looks for cancellation; lets other tasks run if it has to wait, or if 0.5 ms have
        passed since the handle last noticed that they did. ``async for`` does the same for each
        message. Tasks that wait get messages in the order in which they began to wait. (Those that
        find some there when the turn is over let others run first, and go on in any order.)

        Raises:
            trio.EndOfChannel: The handle has ended, and all messages are taken.
            trio.ClosedResourceError: The channel was closed here, before or meanwhile.

        See knet_recv(3).
        """
        if get_ident() != self._thread:
            self._runtime.check_here()
        try:
            return await self._queue.take()
        except RuntimeError:
            # Trio's, if there is no Trio here.
            self._runtime.check_here()
            raise

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> Message:
        """Do what ``receive`` does, in fewer calls than Trio's own."""
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
        """Take the next message if there is one, else raise ``trio.WouldBlock``."""
        self._check_thread()
        return self._queue.take_nowait()

    @trio.lowlevel.enable_ki_protection
    async def receive_many(self, limit: int | None = None) -> list[Message]:
        """Wait for a message and take all that are there.

        Like ``receive``, with less work for each message.

        Args:
            limit: How many to take at most, 1 or more. None takes up to 16384.

        Returns:
            One message or more; those of each host are in the order in which they arrived.

        Raises:
            InvalidArgumentError: ``limit`` is no number, or less than one.
            trio.EndOfChannel: The handle has ended, and all messages are taken.
            trio.ClosedResourceError: The channel was closed here, before or meanwhile.
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
        """Send and receive no more.

        Whoever waits in a call of the channel gets ``trio.ClosedResourceError``. What is not taken
        yet, and what arrives for the channel from now on, is dropped and counted.
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
        """Do what ``close`` does, and a checkpoint. See knet_handle_remove_datafd(3)."""
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
            raise InvalidArgumentError("to=[] names no host; leave it out to send to everybody")
        return tuple(found)

    def _find_host(self, host: object) -> int:
        """Return the id of a host that the handle has."""
        handle = self._runtime.handle
        if type(host) is int and host in handle.hosts:
            return host
        return find_host(handle, host).host_id


def direct(channel: Channel) -> DirectChannel:
    """For the package itself: return the short ways of a channel."""
    return channel._direct()  # pyright: ignore[reportPrivateUsage]


def _check(data: object) -> bytes:
    """Return ``data`` as a message: a copy, if it can change."""
    if isinstance(data, bytes) and 0 < len(data) <= MAX_MESSAGE:
        return data
    _check_one(data)
    return bytes(cast("bytearray", data))


def _check_one(data: object) -> None:
    """Raise InvalidArgumentError if ``data`` is no message."""
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
            f"a limit of {shown(limit)} messages is none: give 1 or more, or None"
        )


def _check_iterable(datas: object) -> None:
    """Raise InvalidArgumentError if ``datas`` are not several messages."""
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
        raise InvalidArgumentError(f"{shown(datas)} are no messages: give a list of messages")


def _are_messages(datas: Sequence[object]) -> TypeGuard[Sequence[bytes]]:
    """Return whether ``datas`` are messages as they are; if not, some may be after all."""
    # Asked of all at once, since there may be many.
    if set(map(type, datas)) != {bytes}:
        return False
    lengths = list(map(len, cast("Sequence[bytes]", datas)))
    return min(lengths) > 0 and max(lengths) <= MAX_MESSAGE


def _check_in_parts(datas: Sequence[object]) -> Iterator[None]:
    """Raise InvalidArgumentError if not all are messages. Between two parts, others may run."""
    if isinstance(datas, list | tuple):
        for start in range(0, len(datas), _CHECKED_AT_ONCE):
            part = datas[start : start + _CHECKED_AT_ONCE]
            if not _are_messages(part):
                for data in part:
                    _check_one(data)
            yield
    else:
        # Not each can be sliced, and to look for an item by its number may take long.
        for number, data in enumerate(datas, start=1):
            _check_one(data)
            if not number % _CHECKED_SINGLY:
                yield


def _batches(datas: Iterable[object]) -> Iterator[Sequence[bytes]]:
    """Yield messages in batches, checked as they come, and copied then if they can change."""
    if not isinstance(datas, list | tuple):
        yield from pack(map(_check, datas))
        return
    for start in range(0, len(datas), BATCH_MESSAGES):
        part = datas[start : start + BATCH_MESSAGES]
        if _are_messages(part):
            yield from cut(part)
        else:
            yield from pack(map(_check, part))
