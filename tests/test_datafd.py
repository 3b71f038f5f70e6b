"""What data fds carry, and what they do when they cannot."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import (
    ChannelError,
    Datafd,
    Direction,
    DropCause,
    InvalidArgumentError,
    datafd,
    open_handle,
)
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio.config import DEFAULT_RECEIVE_BUFFER
from knet_trio.datafd import BATCH_BYTES
from tests.cluster import receive, wait_dropped, wait_for
from tests.datafds import (
    End,
    hold_back,
    is_open,
    number,
    open_fds,
    open_setup,
    pipe,
    sent_to_us,
    sockets,
)

SIZES = [1, 100, 1446, 5000, 65536]
# The bytes of ``size_t``, twice: the second one has the host id, and padding.
RETURN_INFO = 2 * struct.calcsize("N")
WMEM_MAX = int(Path("/proc/sys/net/core/wmem_max").read_text())

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
            # The kernel doubles the value for its own bookkeeping.
            size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
            assert size >= min(8 * 1024 * 1024, WMEM_MAX)


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


# Who sent it.


async def test_each_message_can_be_preceded_by_who_sent_it() -> None:
    messages = [bytes([size % 251]) * size for size in SIZES]
    async with open_setup() as setup:
        datafd = setup.handle.add_datafd(return_info=True)
        assert datafd == Datafd(datafd.fd, 0, return_info=True)
        end = End(datafd.fd)
        await setup.channel.send_many(messages)
        for message in messages:
            got = await end.read(RETURN_INFO + 65536)
            size, source = struct.unpack_from("@NH", got)
            assert (size, source) == (RETURN_INFO, 2)
            assert not any(got[struct.calcsize("@NH") : size])
            assert got[size:] == message
        # What is written has nothing before it.
        await end.write(b"plain")
        assert await receive(setup.channel, 1) == [b"plain"]


async def test_who_sent_it_stands_before_it_on_a_stream_too() -> None:
    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0, return_info=True)
            await setup.channel.send_many([b"one", b"two"])
            frame = struct.pack("@NH0N", RETURN_INFO, 2)
            expected = frame + b"one" + frame + b"two"
            assert await End(ours.fileno()).read_exactly(len(expected)) == expected


async def test_whether_it_is_wanted_is_a_boolean() -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="return_info"):
            handle.add_datafd(return_info=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        # Nothing has become a channel.
        assert handle.add_datafd().channel == 0


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


async def test_one_that_has_no_room_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [bytes(4000) for _ in range(100)]
    with sockets(socket.SOCK_SEQPACKET, buffer=20_000) as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            end = End(ours.fileno())

            async def overfill() -> None:
                before = sent_to_us(setup)
                await setup.channel.send_many(messages)
                await wait_for(lambda: sent_to_us(setup) >= before + len(messages))
                await wait_all_tasks_blocked()

            async def empty() -> None:
                assert [await end.read() for _ in messages] == messages

            monkeypatch.setattr(datafd, "FULL_TOLD_EVERY", 3600.0)
            await overfill()
            reported = await setup.next_error()
            assert isinstance(reported.error, BlockingIOError)
            assert reported == ChannelError(0, Direction.RX, reported.error)
            assert number(reported) == errno.EAGAIN
            # Full again and again, each time that a little is read.
            await empty()
            await overfill()
            await empty()
            monkeypatch.setattr(datafd, "FULL_TOLD_EVERY", 0.0)
            await overfill()
            later = await setup.next_error()
            assert number(later) == errno.EAGAIN
            assert later.error is not reported.error
            await empty()
            # Nothing was dropped for it, and it works on.
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
            got = [int(await end.read()) for _ in range(kept)]
            # What came while it was full is missing; some may have come when there was room again.
            oldest = list(range(DEFAULT_RECEIVE_BUFFER))
            assert got[:DEFAULT_RECEIVE_BUFFER] == oldest
            assert got == sorted(set(got))


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


async def test_nothing_follows_it_even_if_the_error_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    taken: list[int] = []

    def write_some(fd: int, data: bytes | memoryview) -> int:
        if len(taken) == 1:
            taken.append(0)
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        taken.append(write(fd, data[:100]))
        return taken[-1]

    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", write_some)
                await setup.channel.send_many([b"x" * 1000, b"next"])
                await wait_dropped(setup.handle, DropCause.CHANNEL_ERROR, 2)
            assert number(await setup.error()) == errno.ENOBUFS
            assert await End(ours.fileno()).read() == b"x" * 100
            await wait_all_tasks_blocked()
            with pytest.raises(BlockingIOError):
                ours.recv(1)


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
    behind = hold_back(monkeypatch)
    with sockets(socket.SOCK_SEQPACKET) as (theirs, ours):
        async with open_setup() as setup:
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


async def test_large_messages_are_not_sent_on_all_in_one_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []
    send = Transmitter.send

    async def send_noted(
        transmitter: Transmitter,
        datas: Sequence[bytes],
        channel: int,
        *,
        on_wait: Callable[[int], None],
    ) -> None:
        batches.append(sum(map(len, datas)))
        await send(transmitter, datas, channel, on_wait=on_wait)

    async with open_setup() as setup:
        end = End(setup.handle.add_datafd().fd)
        monkeypatch.setattr(Transmitter, "send", send_noted)
        for _ in range(30):
            await end.write(b"x" * 65536)
        assert await receive(setup.channel, 30) == [b"x" * 65536] * 30
    assert max(batches) <= BATCH_BYTES
    assert sum(batches) == 30 * 65536


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
