"""How descriptors become channels and cease to be, with nothing left of them."""

from __future__ import annotations

import errno
import os
import resource
import socket
import tempfile
from contextlib import ExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import (
    AlreadyExistsError,
    BusyError,
    DropCause,
    FilterPacket,
    FilterResult,
    Handle,
    InvalidArgumentError,
    KnetError,
    LimitError,
    TransportError,
    Unicast,
    open_handle,
)
from tests.cancelling import at_every_step, leaves
from tests.cluster import connect, open_pair, receive, wait_dropped, wait_for
from tests.datafds import (
    End,
    hold_back,
    living_tasks,
    open_fds,
    open_setup,
    pipe,
    sent_to_us,
    sockets,
)
from tests.holding import held

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
    behind = hold_back(monkeypatch)
    async with open_setup() as setup:
        fd = setup.handle.add_datafd().fd
        await End(fd).write(b"before")
        await wait_all_tasks_blocked()
        setup.handle.remove_datafd(fd)
        behind.set()
        assert await receive(setup.channel, 1) == [b"before"]


async def test_of_one_that_ended_and_was_removed_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind = hold_back(monkeypatch)
    with sockets() as (theirs, ours):
        async with open_setup() as setup:
            setup.handle.add_datafd(theirs.fileno(), 0)
            ours.send(b"last")
            ours.close()
            await wait_all_tasks_blocked()
            setup.handle.remove_datafd(theirs.fileno())
            behind.set()
            assert await receive(setup.channel, 1) == [b"last"]
            os.close(setup.handle.add_datafd(channel=1).fd)
            assert (await setup.error()).channel == 1


@pytest.mark.parametrize("messages", [[], [b"x" * 65536, b"y"]], ids=["idle", "full"])
async def test_removal_ends_the_tasks_whatever_they_wait_for(messages: list[bytes]) -> None:
    with sockets(buffer=4096) as (theirs, ours):
        async with open_setup() as setup:
            tasks = living_tasks()
            setup.handle.add_datafd(theirs.fileno(), 0)
            if messages:
                await setup.channel.send_many(messages)
                await trio.lowlevel.wait_readable(ours)
                await wait_for(lambda: sent_to_us(setup) > 1)
            await wait_all_tasks_blocked()
            setup.handle.remove_datafd(theirs.fileno())
            await wait_for(lambda: living_tasks() == tasks)
            # Written in part, taken to be written, waiting or still on its way: each is counted.
            lost = {DropCause.NO_CHANNEL: len(messages)} if messages else {}
            await wait_for(lambda: setup.drops == lost)
            # The same descriptor may be a channel again at once.
            setup.handle.add_datafd(theirs.fileno(), 0)
            setup.handle.remove_datafd(theirs.fileno())
            assert setup.handle.add_datafd(theirs.fileno(), 0).channel == 0


@pytest.mark.parametrize("place", ["block", "call"])
async def test_one_that_waits_for_room_ends_with_the_handle_and_says_nothing(place: str) -> None:
    error = RuntimeError("a bug")
    in_lane = 0
    handles: list[Handle] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with open_pair() as pair:
            handle = pair.a
            handles.append(handle)
            channel = handle.open_channel()
            lane = handle.get_host(2).state.lane
            with held(handle):
                with pytest.raises(trio.WouldBlock):
                    while True:
                        channel.send_nowait(b"fills the lane")
                        in_lane += 1
                fd = handle.add_datafd().fd
                for _ in range(3):
                    os.write(fd, b"has to wait")
                await wait_for(lambda: bool(lane.waiters))
                if place == "block":
                    raise error
                handle._context.crash(error)  # pyright: ignore[reportPrivateUsage]
                await trio.sleep_forever()
    assert leaves(caught.value) == [error]
    # What was read is lost as well, and the program cannot know of it otherwise.
    assert handles[0].statistics().drops[DropCause.SEND_FAILED] == in_lane + 3


async def test_of_what_was_read_together_only_what_went_nowhere_is_lost_with_the_handle() -> None:
    def to_host_of_first_byte(packet: FilterPacket) -> FilterResult:
        return Unicast([packet.data[0]])

    in_lane = 0
    handles: list[Handle] = []
    # Nothing leaves the lanes until the handle has ended.
    with ExitStack() as stack, trio.CancelScope() as scope:
        async with open_pair(filter=to_host_of_first_byte) as pair, open_handle(3) as third:
            handle = pair.a
            handles.append(handle)
            await connect(handle, third)
            channel = handle.open_channel()
            lanes = {host_id: host.state.lane for host_id, host in handle.hosts.items()}
            stack.enter_context(held(handle))
            with pytest.raises(trio.WouldBlock):
                while True:
                    channel.send_nowait(b"fills the lane", to=[3])
                    in_lane += 1
            fd = handle.add_datafd().fd
            # Some are in their lane, one waits to enter, and some come after that.
            for host_id in [2] * 10 + [3] + [2] * 5:
                os.write(fd, bytes([host_id]))
            await wait_for(lambda: bool(lanes[3].waiters))
            assert lanes[2].messages == 10
            scope.cancel()
            await trio.sleep_forever()
    assert handles[0].statistics().drops[DropCause.SEND_FAILED] == in_lane + 10 + 1 + 5


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
