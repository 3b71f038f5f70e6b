"""What changes while messages wait on their way out."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._pipeline.compressor import CompressorStage
from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.context import Compression
from knet_trio._state.explain_host import explain_host
from knet_trio._state.send_lane import Batch
from knet_trio.abc import Compressor
from knet_trio.address import Address
from knet_trio.errors import DropCause, ForwardingDisabledError
from knet_trio.message import FilterPacket, Unicast
from tests.pipeline.sending import data, drops, make, message, send
from tests.pipeline.test_compression import Halver
from tests.pipeline.test_send_lanes import Sockets, fill
from tests.state.fakes import address


def no(*_: object) -> bool:
    return False


def to_host_named_first(packet: FilterPacket) -> Unicast:
    return Unicast((int(packet.data[:1]),))


class TestOfMessagesThatGoToDifferentHosts:
    """The first of them waits."""

    async def test_a_later_host_is_lost(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await fill(transmitter, 2)
            world.context.filter = to_host_named_first
            nursery.start_soon(transmitter.send, (b"2 a", b"3 b", b"2 c"), 0)
            await wait_all_tasks_blocked()
            world.handle.hosts[3].network_links[0].take_down(0.0, "the test says so")
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert sockets.payloads(2)[-2:] == [b"2 a", b"2 c"]
            assert drops(world) == {DropCause.HOST_DOWN: 1}

    async def test_forwarding_is_turned_off(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        async with sockets.running() as transmitter:
            sockets.hold(2)
            waiting = await fill(transmitter, 2)
            world.context.filter = to_host_named_first
            nursery.start_soon(transmitter.send, (b"2 a", b"3 b"), 0)
            await wait_all_tasks_blocked()
            world.context.forwarding = False
            transmitter.stop()
            await wait_all_tasks_blocked()
            assert sockets.payloads(3) == []
            assert drops(world) == {DropCause.FORWARDING_DISABLED: waiting + 2}

    async def test_their_channel_is_closed_as_the_first_goes(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3, 4)
        world = sockets.world
        owner = ChannelState()
        async with sockets.running() as transmitter:
            sockets.hold(2, 4)
            await fill(transmitter, 2)
            await fill(transmitter, 4)
            world.context.filter = to_host_named_first
            closed: list[bool] = []

            async def send() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await transmitter.send((b"2 a", b"4 b"), 0, None, owner)
                closed.append(True)

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            world.handle.hosts[2].network_links[0].take_down(0.0, "the test says so")
            owner.closed = True
            transmitter.close_channel(owner)
            await wait_all_tasks_blocked()
            assert closed == [True]


async def test_a_host_that_is_lost_by_what_is_said_of_another() -> None:
    world = make(2, 3)
    lost = world.handle.hosts[3].network_links[0]

    def refuse(_: bytes, destination: Address) -> None:
        if destination == address(20) and lost.connected.is_on:
            lost.take_down(0.0, "the system says so")

    world.endpoint.refuse = refuse
    await send(world, message())
    assert len(data(world, address(20))) == 1
    assert drops(world) == {DropCause.HOST_DOWN: 1}


class TestSendSync:
    async def test_its_channel_is_closed_while_it_is_compressed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(2)
        owner = ChannelState()

        async def compress(_: CompressorStage, batch: Batch, __: object) -> None:
            await trio.lowlevel.checkpoint()
            batch.ready = owner.closed = True

        monkeypatch.setattr(CompressorStage, "compress", compress)
        monkeypatch.setattr(CompressorStage, "compress_now", no)
        world.context.compression = Compression(Halver(), 1)
        with pytest.raises(trio.ClosedResourceError):
            await Transmitter(world.handle).send_sync(b"hello", 0, (2,), owner)
        assert data(world) == []

    async def test_a_bug_ends_the_handle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = make(2)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("knet_trio._pipeline.sealing.encode_messages", fail)
        with pytest.raises(trio.ClosedResourceError):
            await Transmitter(world.handle).send_sync(b"hello", 0, (2,))
        with pytest.raises(RuntimeError, match="a bug"):
            world.context.raise_bug()

    async def test_cancelled_while_somebody_waits_for_the_lane(
        self, nursery: trio.Nursery, autojump_clock: MockClock
    ) -> None:
        sockets = Sockets(2)
        flushed = trio.Event()
        async with sockets.running() as transmitter:
            sockets.hold(2)
            scope = trio.CancelScope()

            async def send() -> None:
                with scope:
                    await transmitter.send_sync(b"x", 0, (2,))

            async def flush() -> None:
                await transmitter.flush()
                flushed.set()

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            nursery.start_soon(flush)
            await wait_all_tasks_blocked()
            scope.cancel()
            with trio.fail_after(1):
                await flushed.wait()

    async def test_forwarding_is_turned_off_while_it_is_compressed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sockets = Sockets(2)
        context = sockets.world.context

        class TurnsOff(Compressor):
            wire_id = 1
            slow = True

            def compress(self, message: bytes) -> bytes:
                context.forwarding = False
                return message

            def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
                raise NotImplementedError

        context.compression = Compression(TurnsOff(), 0)
        async with sockets.running() as transmitter:
            with pytest.raises(ForwardingDisabledError):
                await transmitter.send_sync(b"x", 0, (2,))
            assert sockets.payloads(2) == []

    async def test_the_numbers_that_pings_tell_do_not_go_back(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2)
        lane = sockets.world.handle.hosts[2].lane
        newest = sockets.world.context

        def ping_number() -> int:
            return lane.ping_number(newest.seq)

        async with sockets.running() as transmitter:
            # The first pings have gone.
            await wait_all_tasks_blocked()
            sockets.endpoints[2].room = 1
            # Begun, and not more.
            await transmitter.send((bytes(2000),), 0, (2,))
            await wait_all_tasks_blocked()
            assert ping_number() == 1
            nursery.start_soon(transmitter.send_sync, b"overtakes it", 0, (2,))
            await wait_all_tasks_blocked()
            assert ping_number() == 1
            for _ in range(2):
                sockets.endpoints[2].give_room(1)
                await wait_all_tasks_blocked()
                assert ping_number() == 2
            assert [packet.seq for packet in sockets.data(2)] == [1, 2, 1]

    async def test_what_waits_for_room_is_not_told(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2)
        lane = sockets.world.handle.hosts[2].lane
        async with sockets.running() as transmitter:
            sockets.hold(2)
            nursery.start_soon(transmitter.send_sync, b"x", 0, (2,))
            await wait_all_tasks_blocked()
            assert lane.ping_number(sockets.world.context.seq) == 0
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert lane.ping_number(sockets.world.context.seq) == 1


async def test_messages_without_room_are_explained_with_their_time(
    autojump_clock: MockClock,
) -> None:
    sockets = Sockets(2)
    host = sockets.world.handle.hosts[2]
    async with sockets.running() as transmitter:
        for pause in (0.0, 0.3):
            await trio.sleep(pause)
            # What comes first finds no room at once; the others wait in the lane behind it.
            sockets.hold(2)
            for data in (b"a", b"b"):
                await transmitter.send((data,), 0, (2,))
            await trio.sleep(0.2)
            assert "2 messages waiting: for 0.2 s its links have had more" in explain_host(host)
            # Room for a moment is no end of it.
            sockets.endpoints[2].give_room(1)
            await trio.sleep(0.2)
            assert "1 message waiting: for 0.4 s its links have had more" in explain_host(host)
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert "waiting" not in explain_host(host)


async def test_what_was_sent_before_the_host_was_lost_is_not_counted() -> None:
    sockets = Sockets(2)
    world = sockets.world
    async with sockets.running() as transmitter:
        # The first pings have gone.
        await wait_all_tasks_blocked()
        sockets.endpoints[2].room = 4
        await transmitter.send([b"%d" % number for number in range(10)], 0, (2,))
        await wait_all_tasks_blocked()
        world.handle.hosts[2].network_links[0].take_down(0.0, "the test says so")
        assert len(sockets.payloads(2)) == 4
        assert drops(world) == {DropCause.HOST_DOWN: 6}
