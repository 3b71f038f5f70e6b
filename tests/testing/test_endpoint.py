from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from knet_trio._core.sizes import IPV4_HEADER, IPV6_HEADER, UDP_HEADER
from knet_trio.abc import PathTrouble, Train
from knet_trio.address import Address
from knet_trio.errors import TransportError
from knet_trio.testing import Fate, Interface, SimulatedNetwork
from knet_trio.testing.endpoint import RECEIVE_BYTES, SimulatedEndpoint
from tests.testing.conftest import A, B, bind, receive, receive_troubles

HEADERS = IPV4_HEADER + UDP_HEADER


class TestBinding:
    async def test_an_address_is_bound_once_until_it_is_closed(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        endpoint = bind(A)
        assert endpoint.local == A
        with pytest.raises(TransportError, match=r"10\.0\.0\.1:5405: .* is in use") as caught:
            bind(A)
        assert caught.value.errno == errno.EADDRINUSE
        endpoint.close()
        endpoint.close()
        assert bind(A).local == A

    async def test_who_was_woken_before_it_was_cancelled_and_closed_is_cancelled(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        # As a handle closes the socket of a link: its tasks may have been woken in the same turn.
        endpoint = bind(A)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.receive)
            await wait_all_tasks_blocked()
            assert endpoint.put(b"news", B)
            nursery.cancel_scope.cancel()
            endpoint.close()
        with pytest.raises(trio.ClosedResourceError):
            await endpoint.receive()

    async def test_port_0_takes_a_free_one(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        ports = {bind(Address("10.0.0.1", 0)).local.port for _ in range(3)}
        assert len(ports) == 3
        assert min(ports) > 1024

    @pytest.mark.parametrize("host", ["0.0.0.0", "::"])
    async def test_a_wildcard_would_be_nobodys(
        self, host: str, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        with pytest.raises(TransportError, match="give an address") as caught:
            bind(Address(host, 5405))
        assert caught.value.errno == errno.EADDRNOTAVAIL

    async def test_a_mark_is_taken(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        bind(A).set_dscp(46)


def is_drained(endpoint: SimulatedEndpoint) -> bool:
    return endpoint.drained


class TestReceiving:
    async def test_it_is_known_whether_all_has_been_worked_on(
        self, network: SimulatedNetwork, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        a, b = bind(A), bind(B)
        assert is_drained(b)
        a.send_nowait([b"one"], B)
        await trio.sleep(1)
        assert not is_drained(b)
        assert await receive(b) == [(b"one", A)]
        assert not is_drained(b)
        nursery.start_soon(b.receive)
        await wait_all_tasks_blocked()
        assert is_drained(b)
        nursery.cancel_scope.cancel()

    async def test_it_is_always_a_checkpoint(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        a.send_nowait([b"one"], B)
        with assert_checkpoints():
            await b.receive()
        a.send_nowait([b"two"], B)
        await trio.sleep(1)
        with assert_checkpoints():
            await b.receive()

    async def test_a_cancelled_receive_takes_nothing(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        a.send_nowait([b"kept"], B)
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await b.receive()
        assert scope.cancelled_caught
        assert await receive(b) == [(b"kept", A)]

    async def test_datagrams_of_one_size_come_as_a_train_that_a_shorter_one_ends(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, other, b = bind(A), bind(Address("10.0.0.3", 1)), bind(B)
        a.send_nowait([b"one", b"two", b"3", b"four", b"fives", b""], B)
        other.send_nowait([b"sixth"], B)
        await trio.sleep(1)
        assert (await b.receive()).trains == [
            Train(b"onetwo3", 3, A),
            Train(b"four", 4, A),
            Train(b"fives", 5, A),
            Train(b"", 0, A),
            Train(b"sixth", 5, other.local),
        ]

    async def test_no_more_is_taken_at_once_than_from_a_socket(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        sent = [bytes([number % 256]) * 1400 for number in range(400)]
        a.send_nowait(sent, B)
        await trio.sleep(1)
        first = await b.receive()
        assert all(len(train.data) <= 65535 for train in first.trains)
        size = sum(len(train.data) for train in first.trains)
        assert RECEIVE_BYTES <= size < 400 * 1400
        rest = await b.receive()
        datagrams = [d for train in first.trains + rest.trains for d in train.datagrams()]
        assert datagrams == sent

    async def test_what_a_socket_has_no_room_for_is_lost_and_counted(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.set_interface(B.host, Interface(receive_buffer=250))
        a.send_nowait([b"x" * 100] * 4, B)
        await trio.sleep(1)
        assert len(await receive(b, 2)) == 2
        assert network.statistics().fates == {Fate.DELIVERED: 2, Fate.BUFFER_FULL: 2}
        # What was taken has made room.
        a.send_nowait([b"x" * 100] * 2, B)
        assert len(await receive(b, 2)) == 2


class TestSending:
    @pytest.mark.parametrize(("host", "port"), [("10.0.0.2", 0), ("fd00::2", 5405)])
    async def test_the_interface_says_what_is_too_big(
        self, host: str, port: int, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(Address("fd00::1" if ":" in host else A.host, 5405))
        headers = HEADERS + IPV6_HEADER - IPV4_HEADER if ":" in host else HEADERS
        network.set_interface(a.local.host, Interface(mtu=1400))
        destination = Address(host, 5405)
        fits, too_big = b"x" * (1400 - headers), b"x" * (1401 - headers)
        # Up to the one that is refused, and then that.
        assert a.send_nowait([fits, too_big, fits], destination) == 1
        with pytest.raises(OSError, match="too long") as caught:
            a.send_nowait([too_big, fits], destination)
        assert caught.value.errno == errno.EMSGSIZE
        trouble = PathTrouble(Address(host, port), errno.EMSGSIZE, 1400, True)
        assert await receive_troubles(a) == [trouble, trouble]
        assert network.statistics().too_big == 2
        assert network.get_interface(a.local.host).mtu == 1400

    async def test_an_interface_that_is_down_sends_nothing(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.take_down(A.host)
        with pytest.raises(OSError, match="unreachable") as caught:
            a.send_nowait([b"lost"], B)
        assert caught.value.errno == errno.ENETUNREACH
        network.bring_up(A.host)
        assert a.send_nowait([b"sent"], B) == 1
        assert await receive(b) == [(b"sent", A)]

    async def test_a_slow_interface_takes_what_its_buffer_holds(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        size = 1000 - HEADERS
        network.set_interface(A.host, Interface(rate=1000, send_buffer=4000))
        began = trio.current_time()
        assert a.send_nowait([b"x" * size] * 10, B) == 4
        assert a.send_nowait([b"x" * size], B) == 0
        await a.wait_sendable()
        # Half of it is empty.
        assert trio.current_time() - began == pytest.approx(2)
        assert a.send_nowait([b"x" * size] * 10, B) == 2
        await receive_each(b, 6)
        assert trio.current_time() - began == pytest.approx(6.001)

    async def test_another_interface_is_another_queue(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, _ = bind(A), bind(B)
        network.set_interface(A.host, Interface(rate=1, send_buffer=100))
        assert a.send_nowait([b"x" * 100] * 2, B) == 1
        network.set_interface(A.host, Interface())
        with assert_checkpoints():
            await a.wait_sendable()
        assert a.send_nowait([b"x" * 100] * 2, B) == 2


async def receive_each(endpoint: SimulatedEndpoint, count: int) -> None:
    """So many datagrams, which come one after the other."""
    for _ in range(count):
        await receive(endpoint)


class TestPausing:
    async def test_nothing_leaves_or_arrives_until_it_goes_on(
        self, network: SimulatedNetwork, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        a, b = bind(A), bind(B)
        network.pause(A.host)
        assert a.send_nowait([b"kept back"], B) == 0
        b.send_nowait([b"waits"], A)
        sendable, received = trio.Event(), trio.Event()

        async def wait_sendable() -> None:
            await a.wait_sendable()
            sendable.set()

        async def wait_received() -> None:
            assert await receive(a) == [(b"waits", B)]
            received.set()

        nursery.start_soon(wait_sendable)
        nursery.start_soon(wait_received)
        await trio.sleep(60)
        assert not sendable.is_set()
        assert not received.is_set()
        network.resume(A.host)
        await sendable.wait()
        await received.wait()
        assert a.send_nowait([b"goes"], B) == 1
        assert await receive(b) == [(b"goes", A)]


class TestClosing:
    async def test_everybody_who_waits_is_told(
        self, network: SimulatedNetwork, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        a = bind(A)
        network.pause(A.host)
        ended = 0

        async def expect(wait: str) -> None:
            nonlocal ended
            with pytest.raises(trio.ClosedResourceError):
                await getattr(a, wait)()
            ended += 1

        nursery.start_soon(expect, "receive")
        nursery.start_soon(expect, "wait_sendable")
        await wait_all_tasks_blocked()
        a.close()
        await wait_all_tasks_blocked()
        assert ended == 2
        for wait in ("receive", "wait_sendable"):
            with assert_checkpoints():
                await expect(wait)
        with pytest.raises(OSError, match="Bad file descriptor"):
            a.send_nowait([b"x"], B)
