"""Associations of the simulated network, as sockets have them."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from knet_trio._transport.sctp_system import AssociationLostError
from knet_trio.address import Address
from knet_trio.testing import Conditions, Interface
from knet_trio.testing.association import SimulatedAssociation
from knet_trio.testing.chunks import Chunk, ChunkKind
from knet_trio.testing.fabric import Fabric
from knet_trio.testing.packets import Fate
from knet_trio.testing.sctp import SimulatedListener
from tests.testing.conftest import PATIENCE, A, B

Pair = tuple[SimulatedAssociation, SimulatedAssociation]
A6, B6 = Address("fd00::1", 5405), Address("fd00::2", 5405)


@pytest.fixture
async def fabric(autojump_clock: MockClock, nursery: trio.Nursery) -> Fabric:
    fabric = Fabric(1, Conditions(), Interface())
    nursery.start_soon(fabric.timeline.run)
    return fabric


def listen(fabric: Fabric, address: Address) -> SimulatedListener:
    return fabric.sctp.listen(address, None, privileged=False)


async def accept(listener: SimulatedListener) -> SimulatedAssociation:
    with trio.fail_after(PATIENCE):
        await listener.wait_acceptable()
    return listener.accept()[0]


async def connect(fabric: Fabric, a: Address = A, b: Address = B) -> Pair:
    """An association between two listeners of their own."""
    here, there = listen(fabric, a), listen(fabric, b)
    end = here.connect(b, 1.0, None)
    other = await accept(there)
    with trio.fail_after(PATIENCE):
        await end.wait_writable()
    assert end.find_error() == 0
    return end, other


async def read(end: SimulatedAssociation) -> bytes:
    """The next message."""
    with trio.fail_after(PATIENCE):
        await end.wait_readable()
    message = end.read()
    assert message is not None
    return message


async def loss_of(end: SimulatedAssociation) -> AssociationLostError:
    with pytest.raises(AssociationLostError) as caught:
        await read(end)
    return caught.value


class TestSettingUp:
    @pytest.mark.parametrize(("a", "b"), [(A, B), (A6, B6)])
    async def test_both_ends_send(
        self, autojump_clock: MockClock, fabric: Fabric, a: Address, b: Address
    ) -> None:
        end, other = await connect(fabric, a, b)
        for size in (0, 1, 1452, 1453, 100_000):
            end.send(bytes(size))
            other.send_parts((b"1", bytes(size)))
            assert await read(other) == bytes(size)
            assert await read(end) == b"1" + bytes(size)
        with pytest.raises(BlockingIOError):
            end.read()

    async def test_what_gets_lost_is_asked_again(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        here, there = listen(fabric, A), listen(fabric, B)
        fabric.wire(B.host, A.host).cut = True
        end = here.connect(B, 1.0, None)
        other = await accept(there)
        await trio.sleep(3.5)
        fabric.wire(B.host, A.host).cut = False
        await end.wait_writable()
        assert trio.current_time() == pytest.approx(4.002)
        # It was asked for several times, and is one.
        assert not there.waiting
        end.send(b"first")
        assert await read(other) == b"first"

    async def test_an_answer_that_nobody_waits_for_any_more(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        here, there = listen(fabric, A), listen(fabric, B)
        here.connect(B, 1.0, None).close()
        other = await accept(there)
        assert (await loss_of(other)).number == errno.ECONNRESET

    async def test_nobody_listens(self, autojump_clock: MockClock, fabric: Fabric) -> None:
        here = listen(fabric, A)
        listen(fabric, B).close()
        end = here.connect(B, 1.0, None)
        await end.wait_writable()
        assert end.find_error() == errno.ECONNREFUSED

    async def test_nobody_is_there(self, autojump_clock: MockClock, fabric: Fabric) -> None:
        end = listen(fabric, A).connect(B, 1.0, None)
        await end.wait_writable()
        assert trio.current_time() == 9
        assert end.find_error() == errno.ETIMEDOUT

    async def test_a_peer_that_begins_anew_with_the_same_port(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.sctp.receive(other.seen, end.seen, Chunk(ChunkKind.INIT, 99, room=1e6))
        assert other.tag == 99
        # What was the association before is not there any more.
        end.send(b"x")
        await loss_of(end)


class TestEnding:
    async def test_what_was_sent_before_the_end_arrives(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        end.send(bytes(50_000))
        end.close()
        assert await read(other) == bytes(50_000)
        lost = await loss_of(other)
        assert (lost.number, lost.reason) == (0, "the peer has closed the association")

    async def test_also_when_it_gets_lost_at_first(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.wire(A.host, B.host).cut = True
        end.send(bytes(50_000))
        end.close()
        await trio.sleep(5)
        fabric.wire(A.host, B.host).cut = False
        assert await read(other) == bytes(50_000)
        assert (await loss_of(other)).number == 0

    async def test_what_nobody_read_is_an_abort(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        other.send(b"unread")
        await trio.sleep(1)
        end.close()
        assert (await loss_of(other)).number == errno.ECONNRESET
        with pytest.raises(ConnectionResetError):
            other.send(b"x")

    async def test_a_machine_without_power_says_nothing(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.state(A.host).up = False
        end.close()
        fabric.state(A.host).up = True
        await trio.sleep(10)
        assert other.is_empty()
        # Until something is sent there.
        other.send(b"x")
        assert (await loss_of(other)).number == errno.ECONNRESET

    async def test_one_that_is_tried_in_vain_is_lost(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.wire(A.host, B.host).cut = True
        end.send(b"x")
        with trio.fail_after(PATIENCE):
            await end.wait_readable()
        assert (await loss_of(end)).reason == "the association is lost: Connection timed out"
        # The other end, which sends nothing, finds out by itself.
        assert (await loss_of(other)).number == errno.ETIMEDOUT

    async def test_an_idle_one_stays(self, autojump_clock: MockClock, fabric: Fabric) -> None:
        end, other = await connect(fabric)
        await trio.sleep(5000)
        end.send(b"still there")
        assert await read(other) == b"still there"


class TestSending:
    async def test_all_arrives_in_order_whatever_happens_to_packets(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.conditions = Conditions(
            loss=0.2, duplicate=0.2, corrupt=0.1, reorder=0.3, jitter=0.01, checksum=False, mtu=600
        )
        messages = [bytes([number]) * (number * 50) for number in range(100)]
        for message in messages:
            end.send(message)
        assert [await read(other) for _ in messages] == messages
        assert Fate.DAMAGED not in fabric.statistics().fates

    async def test_there_is_room_for_an_eighth_of_the_send_buffer(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        fabric.state(A.host).configure(Interface(send_buffer=80_000))
        end, other = await connect(fabric)
        fabric.state(A.host).hold(B.host)
        for _ in range(10):
            end.send(bytes(1000))
        assert end.backlog() == 1
        with pytest.raises(BlockingIOError):
            end.send(b"x")
        with trio.move_on_after(100) as scope:
            await end.wait_writable()
        assert scope.cancelled_caught
        fabric.state(A.host).release(B.host)
        await end.wait_writable()
        assert end.backlog() <= 0.5
        assert await read(other) == bytes(1000)

    async def test_a_peer_that_does_not_read_stops_it(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        fabric.state(B.host).configure(Interface(receive_buffer=10_000))
        end, other = await connect(fabric)
        for number in range(100):
            end.send(bytes([number]) * 1000)
        # However long that takes.
        await trio.sleep(1000)
        assert end.backlog() > 0
        assert [(await read(other))[0] for _ in range(100)] == list(range(100))

    async def test_a_path_that_becomes_narrow(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        fabric.wire(A.host, B.host).cut = True
        end.send(bytes(5000))
        await trio.sleep(0.5)
        fabric.wire(A.host, B.host).cut = False
        fabric.conditions = Conditions(mtu=576)
        assert await read(other) == bytes(5000)

    async def test_a_process_that_stands_still_has_a_kernel_that_goes_on(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        state = fabric.state(B.host)
        state.paused = True
        end.send(b"waits there")
        await trio.sleep(1)
        assert end.backlog() == 0
        assert other.is_empty()
        state.paused = False
        fabric.wake(state)
        assert await read(other) == b"waits there"

    async def test_it_finds_out_of_the_end_when_it_goes_on(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        state = fabric.state(B.host)
        state.paused = True
        end.abort()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.wait_readable)
            await trio.sleep(1)
            assert other.is_empty()
            state.paused = False
            fabric.wake(state)
        with pytest.raises(AssociationLostError):
            other.read()

    async def test_an_end_that_is_not_being_closed_is_not_over_without_a_word(
        self, autojump_clock: MockClock, fabric: Fabric
    ) -> None:
        end, other = await connect(fabric)
        other.receive(Chunk(ChunkKind.SHUTDOWN_ACK, other.tag))
        end.send(b"still there")
        assert await read(other) == b"still there"
