"""What waits on the machine that sends it: in buffers of sockets, and queues of routes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from knet_trio._core.sizes import IPV4_HEADER, UDP_HEADER
from knet_trio.address import Address
from knet_trio.errors import InvalidArgumentError, TransportError
from knet_trio.testing import Conditions, Interface, PacketRecord, Route, SimulatedNetwork, run
from knet_trio.testing.endpoint import CONNECTED_SHARE, SimulatedEndpoint
from tests.testing.conftest import PATIENCE, A, B, bind, receive

C = Address("10.0.0.3", 5405)
D = Address("10.0.0.4", 5405)
# One packet, which has 1000 bytes on the wire.
PACKET = bytes(1000 - IPV4_HEADER - UDP_HEADER)


def fill(endpoint: SimulatedEndpoint, destination: Address) -> int:
    """Send packets until there is no room; how many there was room for."""
    taken = 0
    while endpoint.send_nowait([PACKET], destination):
        taken += 1
    return taken


async def arrivals(endpoint: SimulatedEndpoint, count: int) -> list[float]:
    """When so many packets arrive."""
    times: list[float] = []
    with trio.fail_after(PATIENCE):
        while len(times) < count:
            for train in (await endpoint.receive()).trains:
                times += [trio.current_time()] * len(train.datagrams())
    return times


class TestHolding:
    async def test_what_is_sent_waits_until_it_is_released(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.hold(A.host, B.host)
        assert a.send_nowait([b"one", b"two!"], B) == 2
        assert a.send_nowait([b"passes"], C) == 1
        assert b.send_nowait([b"too"], A) == 1
        assert await receive(c) == [(b"passes", A)]
        await trio.sleep(60)
        assert network.statistics().sent == 1
        network.release(A.host, B.host)
        assert await receive(a) == [(b"too", B)]
        assert await receive(b, 2) == [(b"one", A), (b"two!", A)]
        assert a.send_nowait([b"three"], B) == 1
        assert await receive(b) == [(b"three", A)]

    async def test_one_way(self, network: SimulatedNetwork, autojump_clock: MockClock) -> None:
        a, b = bind(A), bind(B)
        network.hold(A.host, B.host, one_way=True)
        a.send_nowait([b"there"], B)
        b.send_nowait([b"back"], A)
        assert await receive(a) == [(b"back", B)]
        network.hold(B.host, A.host)
        network.release(A.host, B.host, one_way=True)
        assert await receive(b) == [(b"there", A)]
        b.send_nowait([b"kept"], A)
        with trio.move_on_after(60) as scope:
            await a.receive()
        assert scope.cancelled_caught

    async def test_it_fills_the_buffer_of_the_socket_for_all_who_share_that(
        self, network: SimulatedNetwork, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        network.set_interface(A.host, Interface(send_buffer=8000))
        a, other, b, c = bind(A), bind(Address(A.host, 1)), bind(B), bind(C)
        network.hold(A.host, B.host)
        assert a.backlog == 0.0
        assert a.send_nowait([PACKET] * 4, B) == 4
        assert a.backlog == 0.5
        with assert_checkpoints():
            await a.wait_sendable()
        assert fill(a, B) == 4
        assert a.backlog == 1.0
        assert a.send_nowait([b"x"], C) == 0
        # Not of another socket with the same interface.
        assert other.backlog == 0.0
        assert other.send_nowait([b"x"], C) == 1
        room = trio.Event()

        async def wait() -> None:
            await a.wait_sendable()
            room.set()

        nursery.start_soon(wait)
        await trio.sleep(60)
        assert not room.is_set()
        network.release(A.host, B.host)
        await room.wait()
        assert a.backlog == 0.0
        assert a.send_nowait([b"x"], C) == 1
        assert len(await arrivals(b, 8)) == 8
        assert len(await arrivals(c, 2)) == 2

    async def test_or_the_queue_before_that_and_then_only_that_route_is_refused(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        network.set_interface(A.host, Interface(queue=3000))
        a, b, c = bind(A), bind(B), bind(C)
        network.hold(A.host, B.host)
        assert a.send_nowait([PACKET] * 5, B) == 3
        for datagrams in ([PACKET], [PACKET] * 2):
            with pytest.raises(OSError, match="No buffer space") as caught:
                a.send_nowait(datagrams, B)
            assert caught.value.errno == errno.ENOBUFS
        assert a.backlog < 0.001
        with assert_checkpoints():
            await a.wait_sendable()
        assert a.send_nowait([PACKET] * 5, C) == 5
        assert len(await arrivals(c, 5)) == 5
        network.release(A.host, B.host)
        assert len(await arrivals(b, 3)) == 3
        assert a.send_nowait([PACKET] * 5, B) == 5

    async def test_one_that_was_not_held_is_released_for_nothing(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.release(A.host, B.host)
        network.set_route(A.host, B.host, Route(rate=1000))
        a.send_nowait([PACKET] * 2, B)
        network.release(A.host, B.host)
        assert await arrivals(b, 2) == pytest.approx([1.001, 2.001])

    async def test_what_a_closed_socket_has_sent_goes_on(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.hold(A.host, B.host)
        a.send_nowait([b"left"], B)
        a.close()
        assert a.backlog == 0.0
        network.release(A.host, B.host)
        assert await receive(b) == [(b"left", A)]

    async def test_it_moves_with_its_interface(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.hold(A.host, B.host)
        network.move(A.host, "192.0.2.1")
        a.send_nowait([b"x"], B)
        await trio.sleep(60)
        assert network.statistics().sent == 0
        network.release("192.0.2.1", B.host)
        assert await receive(b) == [(b"x", Address("192.0.2.1", A.port))]


class TestRoutes:
    async def test_a_slow_one_delays_no_other(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.set_route(A.host, B.host, Route(rate=1000))
        assert a.send_nowait([PACKET] * 3, B) == 3
        assert a.send_nowait([PACKET] * 3, C) == 3
        assert await arrivals(c, 3) == pytest.approx([0.001] * 3)
        assert await arrivals(b, 3) == pytest.approx([1.001, 2.001, 3.001])

    async def test_several_have_one_queue(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c, d = bind(A), bind(B), bind(C), bind(D)
        network.set_route(A.host, [B.host, C.host], Route(rate=1000, queue=3000))
        assert a.send_nowait([PACKET] * 2, B) == 2
        assert a.send_nowait([PACKET] * 2, C) == 1
        with pytest.raises(OSError, match="No buffer space"):
            a.send_nowait([PACKET], B)
        assert a.send_nowait([PACKET] * 4, D) == 4
        assert await arrivals(b, 2) == pytest.approx([1.001, 2.001])
        assert await arrivals(c, 1) == pytest.approx([3.001])
        # All are held or none.
        network.hold(A.host, B.host)
        assert a.send_nowait([PACKET], C) == 1
        await trio.sleep(60)
        assert network.statistics().sent == 7
        network.release(A.host, C.host)
        assert len(await arrivals(c, 1)) == 1
        del d

    async def test_then_comes_the_queue_of_the_interface(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        network.set_interface(A.host, Interface(rate=1000))
        a, b, c = bind(A), bind(B), bind(C)
        network.set_route(A.host, B.host, Route(rate=2000))
        a.send_nowait([PACKET], B)
        a.send_nowait([PACKET] * 2, C)
        assert await arrivals(c, 2) == pytest.approx([1.001, 2.001])
        assert await arrivals(b, 1) == pytest.approx([3.001])

    @pytest.mark.parametrize("new", [Route(rate=500), Route(), None])
    async def test_what_waits_goes_on_in_the_next_queue(
        self, new: Route | None, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.set_route(A.host, B.host, Route(rate=1))
        a.send_nowait([PACKET] * 2, B)
        await trio.sleep(10)
        network.set_route(A.host, B.host, new)
        each = 2 if new == Route(rate=500) else 0
        assert await arrivals(b, 2) == pytest.approx([10.001 + each, 10.001 + 2 * each])
        assert a.backlog == 0.0

    async def test_a_held_one_stays_so(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.hold(A.host, B.host)
        a.send_nowait([b"first"], B)
        for route in (Route(rate=1000), None):
            network.set_route(A.host, [B.host, C.host], route)
            a.send_nowait([b"other"], C)
        await trio.sleep(60)
        assert network.statistics().sent == 0
        network.release(A.host, B.host)
        assert await receive(b) == [(b"first", A)]
        assert await receive(c, 2) == [(b"other", A)] * 2

    async def test_one_leaves_a_common_queue(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.set_route(A.host, [B.host, C.host], Route(rate=1000))
        a.send_nowait([PACKET], B)
        a.send_nowait([PACKET], C)
        network.set_route(A.host, B.host, None)
        a.send_nowait([b"overtakes"], B)
        assert await receive(b) == [(b"overtakes", A)]
        assert trio.current_time() == pytest.approx(0.001)
        assert await arrivals(b, 1) == pytest.approx([1.001])
        assert await arrivals(c, 1) == pytest.approx([2.001])

    async def test_the_rate_of_an_interface_changes_for_what_waits(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        network.set_interface(A.host, Interface(rate=1))
        a, b = bind(A), bind(B)
        a.send_nowait([PACKET] * 2, B)
        await trio.sleep(10)
        network.set_interface(A.host, Interface(rate=1000))
        assert await arrivals(b, 2) == pytest.approx([11.001, 12.001])

    @pytest.mark.parametrize(
        "make",
        [
            partial(Route, rate=0),
            partial(Route, queue=0),
            partial(Interface, queue=0),
            partial(Interface, send_buffer=0),
        ],
    )
    def test_what_is_out_of_range_is_refused(self, make: Callable[[], object]) -> None:
        with pytest.raises(InvalidArgumentError, match="from 1 to inf"):
            make()


class TestRoom:
    async def test_it_is_waited_for_until_there_is_some(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        """Never for nothing, since time would not go on."""
        network.set_interface(A.host, Interface(rate=1000, send_buffer=2500))
        a, b = bind(A), bind(B)
        sent = 0
        with trio.fail_after(PATIENCE):
            while sent < 20:
                taken = a.send_nowait([PACKET], B)
                sent += taken
                if not taken:
                    before = trio.current_time()
                    await a.wait_sendable()
                    assert trio.current_time() > before
        assert len(await arrivals(b, 20)) == 20

    async def test_a_larger_buffer_has_room_at_once(
        self, network: SimulatedNetwork, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        network.set_interface(A.host, Interface(rate=1, send_buffer=2000))
        a = bind(A)
        fill(a, B)
        room = trio.Event()

        async def wait() -> None:
            await a.wait_sendable()
            room.set()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        network.set_interface(A.host, Interface(rate=1, send_buffer=4000))
        await room.wait()
        assert trio.current_time() == 0


class TestConnecting:
    async def test_what_the_peer_sends_arrives_there(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        b.send_nowait([b"early"], A)
        await trio.sleep(1)
        connected = a.connect(B)
        assert connected is not None
        assert connected.local == A
        b.send_nowait([b"one"], A)
        c.send_nowait([b"two"], A)
        assert await receive(connected) == [(b"one", B)]
        assert await receive(a, 2) == [(b"early", B), (b"two", C)]
        for sender, data in ((a, b"shared"), (connected, b"own")):
            sender.send_nowait([data], B)
            assert await receive(b) == [(data, A)]
        connected.close()
        connected.close()
        b.send_nowait([b"again"], A)
        assert await receive(a) == [(b"again", B)]

    async def test_it_has_a_send_buffer_of_its_own(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        network.set_interface(A.host, Interface(send_buffer=16000))
        a, b, c = bind(A), bind(B), bind(C)
        network.hold(A.host, B.host)
        assert fill(a, B) == 16
        to_b, to_c = a.connect(B), a.connect(C)
        assert to_b is not None
        assert to_c is not None
        assert fill(to_b, B) == 16 * CONNECTED_SHARE
        assert [endpoint.backlog for endpoint in (a, to_b, to_c)] == [1.0, 1.0, 0.0]
        assert to_c.send_nowait([b"goes"], C) == 1
        assert await receive(c) == [(b"goes", A)]
        network.release(A.host, B.host)
        assert len(await arrivals(b, 18)) == 18

    async def test_what_is_said_of_the_peer_comes_there(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        for address in (B, C):
            bind(address).close()
        connected = a.connect(B)
        assert connected is not None
        a.send_nowait([b"x"], C)
        connected.send_nowait([b"x"], B)
        for endpoint, destination in ((a, C), (connected, B)):
            with trio.fail_after(PATIENCE):
                (trouble,) = (await endpoint.receive()).troubles
            assert (trouble.destination, trouble.errno) == (destination, errno.ECONNREFUSED)

    async def test_there_is_one_for_a_peer_and_only_with_a_route(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        network.take_down(A.host)
        assert a.connect(B) is None
        network.bring_up(A.host)
        connected = a.connect(B)
        assert connected is not None
        assert a.connect(B) is None
        assert connected.connect(C) is None
        connected.close()
        again = a.connect(B)
        assert again is not None
        a.close()
        assert a.connect(C) is None

    async def test_the_address_is_in_use_until_the_last_is_closed(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        connected = a.connect(B)
        assert connected is not None
        a.close()
        with pytest.raises(TransportError, match="in use"):
            bind(A)
        b.send_nowait([b"x"], A)
        assert await receive(connected) == [(b"x", B)]
        connected.close()
        bind(A)

    async def test_it_moves_and_pauses_with_the_others(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        connected = a.connect(B)
        assert connected is not None
        moved = Address("192.0.2.1", A.port)
        network.move(A.host, moved.host)
        assert connected.local == A
        connected.send_nowait([b"x"], B)
        assert await receive(b) == [(b"x", moved)]
        network.pause(moved.host)
        b.send_nowait([b"y"], moved)
        with trio.move_on_after(60) as scope:
            await connected.receive()
        assert scope.cancelled_caught
        network.resume(moved.host)
        assert await receive(connected) == [(b"y", B)]


class TestTroubles:
    async def test_come_after_what_has_arrived(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        bind(C).close()
        a.send_nowait([b"x"], C)
        await trio.sleep(1)
        b.send_nowait([bytes(1400)] * 400, A)
        await trio.sleep(1)
        assert a.troubles() == []
        first = await a.receive()
        assert first.troubles == []
        second = await a.receive()
        assert sum(len(t.datagrams()) for t in first.trains + second.trains) == 400
        assert [trouble.destination for trouble in second.troubles] == [C]

    async def test_a_flood_keeps_them_for_as_long_as_what_the_buffer_holds(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        buffer = 1_000_000
        network.set_interface(A.host, Interface(receive_buffer=buffer))
        a, b = bind(A), bind(B)
        bind(C).close()
        flood = [bytes(1400)] * 400
        b.send_nowait(flood, A)
        a.send_nowait([b"x"], C)
        await trio.sleep(1)
        taken = 0
        while not (got := await a.receive()).troubles:
            taken += sum(len(train.data) for train in got.trains)
            b.send_nowait(flood, A)
            await trio.sleep(1)
            assert taken < 2 * buffer
        assert taken + sum(len(train.data) for train in got.trains) >= buffer

    async def test_what_the_interface_says_is_read_at_once(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        bind(C).close()
        a.send_nowait([b"x"], C)
        b.send_nowait([b"waits"], A)
        await trio.sleep(1)
        with pytest.raises(OSError, match="too long"):
            a.send_nowait([bytes(2000)], B)
        assert [(t.errno, t.mtu) for t in a.troubles()] == [(errno.EMSGSIZE, 1500)]
        arrived = await a.receive()
        assert [trouble.errno for trouble in arrived.troubles] == [errno.ECONNREFUSED]


def test_the_same_seed_is_the_same_run() -> None:
    async def play(network: SimulatedNetwork) -> list[PacketRecord]:
        records: list[PacketRecord] = []
        network.trace = records.append
        network.set_interface(A.host, Interface(rate=1e5, send_buffer=20_000))
        network.set_route(A.host, [C.host, D.host], Route(rate=5e4, queue=5000))
        network.hold(A.host, B.host)
        a = bind(A)
        others = [bind(B), bind(C), bind(D)]
        refused = 0

        async def send(destination: Address) -> None:
            nonlocal refused
            for _ in range(30):
                try:
                    taken = a.send_nowait([PACKET], destination)
                except OSError:
                    refused += 1
                    await trio.sleep(0.01)
                    continue
                if not taken:
                    await a.wait_sendable()

        async def release() -> None:
            await trio.sleep(1)
            network.release(A.host, B.host)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(release)
            for endpoint in others:
                nursery.start_soon(send, endpoint.local)
        await trio.sleep(60)
        assert refused
        return records

    bad = Conditions(loss=0.1, jitter=0.01, duplicate=0.1)
    runs = [run(play, seed=seed, conditions=bad) for seed in (1, 1, 2)]
    assert len(runs[0]) > 50
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
