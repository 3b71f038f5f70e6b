"""Data fds: descriptors as channels, and nothing left of them afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import (
    AlreadyExistsError,
    BusyError,
    Channel,
    ChannelError,
    Datafd,
    Direction,
    DropCause,
    Event,
    Handle,
    InvalidArgumentError,
    KnetError,
    LimitError,
    TransportError,
    open_handle,
)
from knet_trio.config import DEFAULT_RECEIVE_BUFFER
from knet_trio.pipeline.tx import Outgoing, Transmitter
from tests.cluster import PATIENCE, Pair, open_pair, receive, wait_dropped, wait_for
from tests.test_cancellation import at_every_step

SIZES = [1, 100, 1446, 5000, 65536]
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
        return {cause: a.get(cause, 0) + b.get(cause, 0) for cause in {*a, *b}}

    async def error(self) -> ChannelError:
        """The next ChannelError."""
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


# The pair that the handle makes.


async def test_a_pair_carries_messages_of_every_size_both_ways() -> None:
    async with open_setup() as setup:
        datafd = setup.handle.add_datafd()
        assert datafd == Datafd(datafd.fd, 0)
        end = End(datafd.fd)
        messages = [bytes([size % 251]) * size for size in SIZES]
        for message in messages:
            await end.write(message)
        assert await receive(setup.channel, len(SIZES)) == messages
        await setup.channel.send_many(messages)
        assert [await end.read() for _ in SIZES] == messages
        assert setup.drops == {}


async def test_a_pair_keeps_messages_apart_and_has_room() -> None:
    async with open_handle(1) as handle:
        fd = handle.add_datafd().fd
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        with socket.socket(fileno=os.dup(fd)) as sock:
            assert (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
            most = int(Path("/proc/sys/net/core/wmem_max").read_text())
            wanted = 8 * 1024 * 1024
            # The kernel doubles the value for its own bookkeeping.
            size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
            assert size >= (wanted if os.geteuid() == 0 else min(wanted, most))


async def test_a_pair_has_what_room_there_is_without_privileges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unprivileged(socket.socket):
        def setsockopt(self, level: int, option: int, value: int, /) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # one form of several
            if (level, option) == (socket.SOL_SOCKET, 32):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            super().setsockopt(level, option, value)

    async with open_setup() as setup:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Unprivileged)
            end = End(setup.handle.add_datafd().fd)
        await end.write(b"x" * 65536)
        assert await receive(setup.channel, 1) == [b"x" * 65536]


async def test_a_pair_is_closed_with_its_removal() -> None:
    async with open_handle(1) as handle:
        before = open_fds()
        fd = handle.add_datafd().fd
        with socket.socket(fileno=os.dup(fd)) as copy:
            handle.remove_datafd(fd)
            assert not is_open(fd)
            assert copy.recv(1) == b""
        assert open_fds() == before


@pytest.mark.parametrize("reuse", [False, True], ids=["closed", "its number in use again"])
async def test_an_end_that_the_program_has_closed_is_not_closed_again(reuse: bool) -> None:
    with tempfile.TemporaryFile() as stranger:
        async with open_setup() as setup:
            fd = setup.handle.add_datafd(channel=3).fd
            os.close(fd)
            assert await setup.error() == ChannelError(3, Direction.TX, None)
            if reuse:
                os.dup2(stranger.fileno(), fd)
            setup.handle.remove_datafd(fd)
            assert is_open(fd) is reuse
            if reuse:
                os.close(fd)


async def test_the_end_of_the_handle_closes_pairs_and_wakes_who_waits_for_them() -> None:
    async def wait(fd: int) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(fd)

    async with trio.open_nursery() as nursery:
        async with open_handle(1) as handle:
            fd = handle.add_datafd().fd
            nursery.start_soon(wait, fd)
            await wait_all_tasks_blocked()
        assert not is_open(fd)
    with pytest.raises(trio.ClosedResourceError):
        handle.add_datafd()
    with pytest.raises(trio.ClosedResourceError):
        handle.remove_datafd(fd)
    with pytest.raises(InvalidArgumentError):
        handle.get_channel(fd)


# The program's own descriptors.


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
async def test_a_socket_of_the_programs_own_carries_messages_both_ways(
    kind: socket.SocketKind,
) -> None:
    with sockets(kind) as (theirs, ours):
        async with open_setup() as setup:
            assert setup.handle.add_datafd(theirs.fileno(), 0) == Datafd(theirs.fileno(), 0)
            end = End(ours.fileno())
            for message in (b"one", b"two"):
                await end.write(message)
                assert await receive(setup.channel, 1) == [message]
                await setup.channel.send(message)
                assert await end.read() == message
        assert is_open(theirs.fileno())


async def test_it_becomes_non_blocking_and_close_on_exec() -> None:
    with sockets() as (theirs, _):
        os.set_inheritable(theirs.fileno(), True)
        async with open_handle(1) as handle:
            handle.add_datafd(theirs.fileno())
            assert fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
            assert fcntl.fcntl(theirs, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


async def test_a_stream_is_cut_into_messages_of_the_largest_size_at_most() -> None:
    data = os.urandom(200_000)
    with sockets(buffer=1_000_000) as (theirs, ours):
        async with open_setup() as setup:
            await End(ours.fileno()).write(data)
            setup.handle.add_datafd(theirs.fileno(), 0)
            got = b""
            while len(got) < len(data):
                (message,) = await receive(setup.channel, 1)
                got += message
            assert got == data
            assert setup.drops == {}


async def test_a_pipes_read_end_is_read_and_refuses_what_arrives() -> None:
    with pipe() as (read_end, write_end):
        async with open_setup() as setup:
            setup.handle.add_datafd(read_end, 0)
            await End(write_end).write(b"through a pipe")
            assert await receive(setup.channel, 1) == [b"through a pipe"]
            await setup.channel.send_many([b"1", b"2", b"3"])
            error = await setup.error()
            assert (error.channel, error.direction) == (0, Direction.RX)
            assert number(error) == errno.EBADF
            await wait_dropped(setup.handle, DropCause.CHANNEL_ERROR, 3)
            # Told once, though it failed three times.
            os.close(write_end)
            assert await setup.error() == ChannelError(0, Direction.TX, None)


async def test_a_pipes_write_end_is_written_to_and_cannot_be_read() -> None:
    with pipe() as (read_end, write_end):
        async with open_setup() as setup:
            setup.handle.add_datafd(write_end, 0)
            await setup.channel.send(b"into a pipe")
            os.set_blocking(read_end, False)
            assert await End(read_end).read() == b"into a pipe"
            os.close(read_end)
            error = await setup.error()
            assert (error.direction, number(error)) == (Direction.TX, errno.EBADF)
            await setup.channel.send(b"to nobody")
            error = await setup.error()
            assert (error.direction, number(error)) == (Direction.RX, errno.EPIPE)


async def test_the_end_of_a_stream_is_told_and_what_arrives_is_still_written() -> None:
    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            end = End(ours.fileno())
            await end.write(b"last")
            ours.shutdown(socket.SHUT_WR)
            assert await setup.error() == ChannelError(0, Direction.TX, None)
            assert await receive(setup.channel, 1) == [b"last"]
            await setup.channel.send(b"answer")
            assert await end.read() == b"answer"
            setup.handle.remove_datafd(theirs.fileno())
            assert setup.handle.open_channel(0).channel == 0


async def test_an_error_while_reading_is_told() -> None:
    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            await setup.channel.send(b"never read")
            await trio.lowlevel.wait_readable(ours)
            ours.close()
            error = await setup.error()
            assert (error.direction, number(error)) == (Direction.TX, errno.ECONNRESET)
            setup.handle.remove_datafd(theirs.fileno())


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
async def test_an_empty_message_is_not_the_end(kind: socket.SocketKind) -> None:
    with sockets(kind) as (theirs, ours):
        async with open_setup() as setup:
            for message in (b"", b"1", b"", b"", b"2"):
                ours.send(message)
            setup.handle.add_datafd(theirs.fileno(), 0)
            assert await receive(setup.channel, 2) == [b"1", b"2"]
            assert setup.drops == {DropCause.MESSAGE_SIZE: 3}


async def test_messages_behind_an_empty_one_come_before_the_end() -> None:
    with sockets(socket.SOCK_SEQPACKET) as (theirs, ours):
        async with open_setup() as setup:
            for message in (b"1", b"", b"2"):
                ours.send(message)
            ours.close()
            setup.handle.add_datafd(theirs.fileno(), 0)
            assert await setup.error() == ChannelError(0, Direction.TX, None)
            assert await receive(setup.channel, 2) == [b"1", b"2"]
            assert setup.drops == {DropCause.MESSAGE_SIZE: 1}


async def test_a_message_that_is_too_long_is_dropped_and_not_cut_off() -> None:
    async with open_setup() as setup:
        end = End(setup.handle.add_datafd().fd)
        for size in (65537, 70_000, 65536):
            await end.write(b"x" * size)
        assert await receive(setup.channel, 1) == [b"x" * 65536]
        assert setup.drops == {DropCause.MESSAGE_SIZE: 2}


# Full, and behind.


async def test_a_descriptor_that_is_full_for_a_while_loses_nothing() -> None:
    messages = [b"%4d " % number * 800 for number in range(300)]
    with sockets(socket.SOCK_SEQPACKET, buffer=20_000) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            await setup.channel.send_many(messages)
            await wait_for(lambda: sent_to_us(setup) >= len(messages))
            await wait_all_tasks_blocked()
            end = End(ours.fileno())
            assert [await end.read() for _ in messages] == messages
            assert setup.drops == {}


async def test_one_that_stays_full_loses_the_newest_and_stalls_nobody() -> None:
    total = 2 * DEFAULT_RECEIVE_BUFFER
    with sockets(socket.SOCK_SEQPACKET, buffer=20_000) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            quick, far = setup.handle.open_channel(1), setup.other.open_channel(1)
            await setup.channel.send_many([b"%d" % number for number in range(total)])
            await far.send(b"through")
            assert await receive(quick, 1) == [b"through"]
            kept = total - setup.drops[DropCause.CHANNEL_FULL]
            assert kept >= DEFAULT_RECEIVE_BUFFER
            end = End(ours.fileno())
            got = [await end.read() for _ in range(kept)]
            assert got == [b"%d" % number for number in range(kept)]


async def test_a_message_is_finished_before_the_next_on_a_stream() -> None:
    messages = [os.urandom(65536), b"short", os.urandom(65536), os.urandom(50_000)]
    with sockets(buffer=4096) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            await setup.channel.send_many(messages)
            joined = b"".join(messages)
            assert await End(ours.fileno()).read_exactly(len(joined)) == joined


async def test_nothing_follows_a_message_that_could_not_be_finished() -> None:
    with sockets(buffer=4096) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            await setup.channel.send(b"x" * 65536)
            await trio.lowlevel.wait_readable(ours)
            await wait_all_tasks_blocked()
            ours.close()
            errors = [await setup.error(), await setup.error()]
            assert {error.direction for error in errors} == set(Direction)
            await setup.channel.send(b"next")
            await wait_dropped(setup.handle, DropCause.CHANNEL_ERROR, 2)


async def test_an_error_of_one_message_does_not_stop_the_next() -> None:
    with sockets(socket.SOCK_SEQPACKET, buffer=20_000) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            end = End(ours.fileno())
            for count in (1, 2):
                # More than its buffer will ever hold.
                await setup.channel.send_many([b"x" * 65536, b"fits"])
                assert await end.read() == b"fits"
                error = await setup.error()
                assert (error.direction, number(error)) == (Direction.RX, errno.EMSGSIZE)
                assert setup.drops == {DropCause.CHANNEL_ERROR: count}


async def test_while_the_handle_is_behind_nothing_is_read_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind = trio.Event()
    send = Transmitter.send

    async def send_later(transmitter: Transmitter, messages: list[Outgoing]) -> None:
        await behind.wait()
        await send(transmitter, messages)

    with sockets(socket.SOCK_SEQPACKET) as (theirs, ours):
        async with open_setup() as setup:
            monkeypatch.setattr(Transmitter, "send", send_later)
            setup.handle.add_datafd(theirs.fileno(), 0)
            written = 0
            full = False
            while not full:
                try:
                    while True:
                        ours.send(b"%d" % written)
                        written += 1
                except BlockingIOError:
                    room = written
                await wait_all_tasks_blocked()
                try:
                    ours.send(b"%d" % written)
                    written += 1
                except BlockingIOError:
                    full = written == room
            behind.set()
            assert await receive(setup.channel, written) == [b"%d" % i for i in range(written)]


async def test_a_burst_arrives_whole_and_in_order() -> None:
    async with open_setup() as setup:
        end = End(setup.handle.add_datafd().fd)
        messages = [b"%d" % number for number in range(5000)]

        async def write() -> None:
            for message in messages:
                await end.write(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            assert await receive(setup.channel, len(messages)) == messages


# Numbers.


async def test_lookups_go_both_ways() -> None:
    with sockets() as (theirs, _):
        async with open_handle(1) as handle:
            fd = theirs.fileno()
            handle.add_datafd(fd, 31)
            made = handle.add_datafd()
            assert (handle.get_channel(fd), handle.get_datafd(31)) == (31, fd)
            assert (handle.get_channel(made.fd), handle.get_datafd(made.channel)) == (0, made.fd)
            handle.remove_datafd(fd)
            for call, argument in (
                (handle.get_channel, fd),
                (handle.get_channel, -1),
                (handle.get_datafd, 31),
                (handle.get_datafd, 32),
                (handle.remove_datafd, fd),
                (handle.remove_datafd, 0),
            ):
                with pytest.raises(InvalidArgumentError, match=str(argument)) as caught:
                    call(argument)
                assert caught.value.errno == errno.EINVAL


async def test_a_channel_has_one_user() -> None:
    with sockets() as (theirs, other):
        async with open_handle(1) as handle:
            handle.open_channel(0)
            handle.add_datafd(theirs.fileno(), 1)
            for channel in (0, 1):
                with pytest.raises(BusyError, match=f"channel {channel}"):
                    handle.add_datafd(other.fileno(), channel)
                with pytest.raises(BusyError, match=f"channel {channel}"):
                    handle.open_channel(channel)
            with pytest.raises(InvalidArgumentError):
                handle.get_datafd(0)
            assert handle.open_channel().channel == 2
            assert handle.add_datafd().channel == 3


async def test_a_descriptor_is_one_channel() -> None:
    with sockets() as (theirs, _):
        async with open_handle(1) as handle:
            handle.add_datafd(theirs.fileno(), 7)
            with pytest.raises(BusyError, match="channel 7") as caught:
                handle.add_datafd(theirs.fileno(), 8)
            assert caught.value.errno == AlreadyExistsError.errno == errno.EEXIST
            handle.open_channel(8)


async def test_there_are_32_and_a_removed_one_is_free_again() -> None:
    async with open_handle(1) as handle:
        handle.open_channel()
        datafds = [handle.add_datafd() for _ in range(31)]
        assert [datafd.channel for datafd in datafds] == list(range(1, 32))
        before = open_fds()
        with pytest.raises(LimitError):
            handle.add_datafd()
        with pytest.raises(LimitError):
            handle.open_channel()
        assert open_fds() == before
        handle.remove_datafd(datafds[4].fd)
        assert handle.add_datafd().channel == 5


@pytest.mark.parametrize("fd", [0, -1, 2**31, "5", True, 1.0])
async def test_what_is_no_descriptor_is_refused(fd: int) -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="fd"):
            handle.add_datafd(fd)


@pytest.mark.parametrize("channel", [-1, 32, "1", True])
async def test_what_is_no_channel_is_refused(channel: int) -> None:
    async with open_handle(1) as handle:
        before = open_fds()
        with pytest.raises(InvalidArgumentError, match="channel"):
            handle.add_datafd(None, channel)
        assert open_fds() == before


async def test_a_closed_descriptor_is_refused() -> None:
    async with open_handle(1) as handle:
        with sockets() as (theirs, _):
            fd = theirs.fileno()
        with pytest.raises(InvalidArgumentError, match="not open") as caught:
            handle.add_datafd(fd)
        assert caught.value.errno == errno.EBADF


async def test_a_regular_file_is_refused_and_left_as_it_was() -> None:
    with tempfile.TemporaryFile() as file:
        async with open_handle(1) as handle:
            before = open_fds()
            with pytest.raises(InvalidArgumentError, match="regular file") as caught:
                handle.add_datafd(file.fileno())
            assert caught.value.errno == errno.EPERM
            assert open_fds() == before
            assert os.get_blocking(file.fileno())
            assert handle.open_channel().channel == 0


async def test_running_out_of_descriptors_is_said_and_changes_nothing() -> None:
    with sockets() as (theirs, _):
        async with open_handle(1) as handle:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            errors: list[KnetError] = []
            for fd in (None, theirs.fileno()):
                resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
                try:
                    handle.add_datafd(fd)
                except TransportError as error:
                    errors.append(error)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert [error.errno for error in errors] == [errno.EMFILE] * 2
            assert handle.add_datafd(theirs.fileno()).channel == 0


# The end of it.


async def test_a_removed_descriptor_is_the_programs_alone() -> None:
    """At whatever step it is removed, a message is read by us and sent, or left where it is."""
    with sockets(socket.SOCK_SEQPACKET) as (theirs, ours):
        async with open_setup() as setup:
            sent = left = 0
            # The steps of a wake-up, and more than there are.
            for step in range(12):
                setup.handle.add_datafd(theirs.fileno(), 0)
                await wait_all_tasks_blocked()
                ours.send(b"%d" % step)
                for _ in range(step):
                    await trio.lowlevel.checkpoint()
                setup.handle.remove_datafd(theirs.fileno())
                try:
                    assert theirs.recv(10) == b"%d" % step
                    left += 1
                except BlockingIOError:
                    assert await receive(setup.channel, 1) == [b"%d" % step]
                    sent += 1
            assert sent > 0
            assert left > 0
            # Nor is anything else read later.
            ours.send(b"not yours")
            await wait_all_tasks_blocked()
            assert theirs.recv(10) == b"not yours"


async def test_what_was_read_before_the_removal_still_goes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind = trio.Event()
    send = Transmitter.send

    async def send_later(transmitter: Transmitter, messages: list[Outgoing]) -> None:
        await behind.wait()
        await send(transmitter, messages)

    async with open_setup() as setup:
        fd = setup.handle.add_datafd().fd
        monkeypatch.setattr(Transmitter, "send", send_later)
        await End(fd).write(b"before")
        await wait_all_tasks_blocked()
        setup.handle.remove_datafd(fd)
        behind.set()
        assert await receive(setup.channel, 1) == [b"before"]


async def test_removal_ends_the_tasks_whatever_they_wait_for() -> None:
    with sockets(buffer=4096) as (theirs, ours):
        async with open_setup() as setup:
            tasks = living_tasks()
            setup.handle.add_datafd(theirs.fileno(), 0)
            await setup.channel.send_many([b"x" * 65536, b"y"])
            await trio.lowlevel.wait_readable(ours)
            await wait_for(lambda: sent_to_us(setup) > 1)
            await wait_all_tasks_blocked()
            setup.handle.remove_datafd(theirs.fileno())
            await wait_for(lambda: living_tasks() == tasks)
            # The same descriptor may be a channel again at once.
            setup.handle.add_datafd(theirs.fileno(), 0)
            setup.handle.remove_datafd(theirs.fileno())
            assert setup.handle.add_datafd(theirs.fileno(), 0).channel == 0


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_nothing_is_left_of_data_fds_that_were_in_use() -> None:
    with sockets() as (theirs, ours):
        before = (living_tasks(), open_fds())
        async with open_pair() as pair:
            made = pair.a.add_datafd(channel=0)
            pair.b.add_datafd(theirs.fileno(), 0)
            os.write(made.fd, b"x")
            assert await End(ours.fileno()).read() == b"x"
            pair.a.remove_datafd(made.fd)
            pair.a.add_datafd()
        assert (living_tasks(), open_fds()) == before


async def test_nothing_is_left_of_them_wherever_the_handle_is_cancelled() -> None:
    async def live(step: int) -> None:
        del step
        async with open_handle(1) as handle:
            made = handle.add_datafd()
            handle.add_datafd(theirs.fileno())
            os.write(made.fd, b"x")
            ours.send(b"y")
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            handle.remove_datafd(made.fd)
            handle.add_datafd()

    async def check(step: int, cancelled: bool) -> None:
        del step, cancelled
        assert (living_tasks(), open_fds()) == before

    with sockets() as (theirs, ours):
        before = (living_tasks(), open_fds())
        assert await at_every_step(live, check) > 10


async def test_the_programs_number_may_be_another_files_before_the_removal() -> None:
    """It should remove it first; if it has not, the other file is not touched."""
    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            fd = theirs.fileno()
            setup.handle.add_datafd(fd, 0)
            with pipe() as (read_end, write_end):
                os.dup2(read_end, theirs.detach())
                os.write(write_end, b"for the other")
                await End(ours.fileno()).write(b"for us")
                assert await receive(setup.channel, 1) == [b"for us"]
                setup.handle.remove_datafd(fd)
                assert os.read(fd, 100) == b"for the other"
                os.close(fd)


async def test_forwarding_that_is_off_drops_what_is_read() -> None:
    async with open_setup() as setup:
        end = End(setup.handle.add_datafd().fd)
        await setup.handle.set_forwarding(False)
        await end.write(b"lost")
        await wait_dropped(setup.handle, DropCause.FORWARDING_DISABLED)
        await setup.handle.set_forwarding(True)
        await end.write(b"sent")
        assert await receive(setup.channel, 1) == [b"sent"]
