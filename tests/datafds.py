"""What the tests of data fds share: descriptors, and the test's ends of them."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager

import attrs
import pytest
import trio

from knet_trio import (
    Channel,
    ChannelError,
    DropCause,
    Event,
    Handle,
)
from knet_trio._pipeline.transmitter import Transmitter
from tests.cluster import PATIENCE, Pair, open_pair
from tests.drops import counted

MANY = 100_000


class End:
    """The test's end of a data fd, or of what leads to one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    async def write(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    assert os.write(self.fd, data) == len(data)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.fd)
                else:
                    return

    async def read(self, size: int = 65536) -> bytes:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    return os.read(self.fd, size)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.fd)

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.read(size - len(data))
            assert more, "the end came early"
            data += more
        return data


@contextmanager
def sockets(
    kind: socket.SocketKind = socket.SOCK_STREAM, *, buffer: int | None = None
) -> Generator[tuple[socket.socket, socket.socket]]:
    """A socket pair of the program's own, the second one non-blocking for the test."""
    with ExitStack() as stack:
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for sock in pair:
            stack.enter_context(sock)
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        pair[1].setblocking(False)
        yield pair


@contextmanager
def pipe() -> Generator[tuple[int, int]]:
    """A pipe whose ends are closed unless the test has."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for fd in ends:
            if is_open(fd):
                os.close(fd)


def is_open(fd: int) -> bool:
    return fd in open_fds()


def open_fds() -> set[int]:
    fds = {int(name) for name in os.listdir("/proc/self/fd")}
    # Without the one that this took itself.
    return {fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")}


@attrs.frozen
class Setup:
    """Handle 1, which gets the data fds, and channel 0 of handle 2."""

    handle: Handle
    other: Handle
    channel: Channel
    events: trio.abc.ReceiveChannel[Event]

    @property
    def drops(self) -> dict[DropCause, int]:
        """What has been dropped, on either side."""
        a, b = self.handle.statistics().drops, self.other.statistics().drops
        return counted({cause: a[cause] + b[cause] for cause in a})

    async def error(self) -> ChannelError:
        """The next ChannelError of something that failed."""
        while isinstance((error := await self.next_error()).error, BlockingIOError):
            pass
        return error

    async def next_error(self) -> ChannelError:
        """The next ChannelError, also one of a descriptor that has no room."""
        with trio.fail_after(PATIENCE):
            while True:
                event = await self.events.receive()
                if isinstance(event, ChannelError):
                    return event


@asynccontextmanager
async def open_setup() -> AsyncGenerator[Setup]:
    async with open_pair() as pair, pair.a.events() as events:
        channel = pair.b.open_channel(0, receive_buffer=MANY)
        yield Setup(pair.a, pair.b, channel, events)


def sent_to_us(pair: Pair | Setup) -> int:
    handle = pair.a if isinstance(pair, Pair) else pair.handle
    return handle.get_host(2).links[0].status.stats.rx_data_packets


def number(error: ChannelError) -> int | None:
    assert error.error is not None
    return error.error.errno


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def hold_back(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Have every handle be behind with sending, until the event is set."""
    go_on = trio.Event()
    send = Transmitter.send

    async def send_later(
        transmitter: Transmitter,
        datas: Sequence[bytes],
        channel: int,
        *,
        on_wait: Callable[[int], None],
    ) -> None:
        await go_on.wait()
        await send(transmitter, datas, channel, on_wait=on_wait)

    monkeypatch.setattr(Transmitter, "send", send_later)
    return go_on
