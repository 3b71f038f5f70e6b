"""Connections that take no more: who waits, who does not, and what happens when they break."""

from __future__ import annotations

import pytest
import trio

from knet_trio import DropCause, Handle, LinkCause
from knet_trio.testing import Interface, Route, SimulatedNetwork, run
from tests.testing.connected import both_up, delivered, link_of, play
from tests.testing.nodes import PATIENCE, at, open_nodes

SMALL = Interface(send_buffer=400_000, receive_buffer=100_000)


def number_of(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def numbered(number: int, size: int = 20_000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def test_what_a_slow_way_takes_comes_in_order_and_complete() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.set_interface(at(1), SMALL)
        network.set_interface(at(2), SMALL)
        network.set_route(at(1), at(2), Route(rate=1_000_000))
        inbox, outbox = b.open_channel(0), a.open_channel(0)
        received: list[int] = []

        async def receive() -> None:
            while len(received) < 150:
                received.append(number_of((await inbox.receive()).data))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for number in range(150):
                await outbox.send(numbered(number))
        assert received == list(range(150))
        # The pings got through: 3 MB take 3 s.
        assert link_of(a).status.stats.down_count == 0
        assert link_of(a).status.stats.tx_data_retries > 0

    play(body)


def test_a_host_that_takes_nothing_holds_up_no_other() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(3, transport="sctp") as (a, b, c):
            network.set_interface(at(1), SMALL)
            network.hold(at(1), at(2))
            inbox, outbox = c.open_channel(0), a.open_channel(0)
            received: list[int] = []

            async def receive() -> None:
                while len(received) < 500:
                    received.append(number_of((await inbox.receive()).data))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive)
                    for number in range(500):
                        await outbox.send(numbered(number), to=[2, 3])
                assert received == list(range(500))
                await a.hosts[2].wait_unreachable()
                assert a.hosts[3].status.reachable
                network.release(at(1), at(2))
                assert await both_up(a, b, c) < 10
                assert await delivered(a, b, b"again")

    run(main, seed=1)


@pytest.mark.parametrize("breaks", [True, False])
def test_who_waits_for_room_goes_on_when_the_connection_is_lost(breaks: bool) -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.set_interface(at(1), SMALL)
        network.hold(at(1), at(2))
        sent = 0

        async def send() -> None:
            nonlocal sent
            async with a.open_channel(0) as outbox:
                for number in range(400):
                    await outbox.send(numbered(number))
                    sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.5)
            assert 0 < sent < 400
            if breaks:
                network.break_connections(at(1), at(2))
            await a.hosts[2].wait_unreachable()
        assert sent == 400
        cause = LinkCause.DISCONNECTED if breaks else LinkCause.NO_PONG
        assert link_of(a).status.stats.transitions[cause] == 1
        assert a.statistics().drops[DropCause.HOST_DOWN] > 0
        network.release(at(1), at(2))
        assert await both_up(a, b) < 10
        assert await delivered(a, b, b"again")

    play(body)


def test_a_process_that_stands_still() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.set_interface(at(1), SMALL)
        network.set_interface(at(2), SMALL)
        inbox = b.open_channel(0)
        network.pause(at(2))
        await trio.sleep(0.1)
        with trio.move_on_after(1):
            async with a.open_channel(0) as outbox:
                for number in range(40):
                    await outbox.send(numbered(number, 4000))
        network.resume(at(2))
        got = [number_of((await inbox.receive()).data) for _ in range(10)]
        assert got == list(range(10))
        await trio.sleep(30)
        assert await both_up(a, b) == 0

    play(body)
