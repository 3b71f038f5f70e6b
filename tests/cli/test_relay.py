"""The relay, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from knet_trio.cli.relay import LOOPBACK, Relay, open_relay


class Node:
    """A socket that is plugged into a relay."""

    def __init__(self) -> None:
        self.sock = trio.socket.from_stdlib_socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    async def plug(self, relay: Relay, wire: int, side: int) -> None:
        await self.sock.bind((LOOPBACK, 0))
        end = relay.wires[wire][side]
        end.plug(self.sock.getsockname())
        self.to = end.address

    async def send(self, data: bytes) -> None:
        await self.sock.sendto(data, self.to)

    async def receive(self) -> bytes:
        with trio.fail_after(10):
            data, source = await self.sock.recvfrom(65536)
        # As it would be without a relay: from where it is sent to.
        assert source == self.to
        return data


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made = [Node() for _ in range(4)]
    yield made
    for node in made:
        node.sock.close()


async def test_what_goes_in_comes_out_at_the_other_end_of_the_wire(nodes: list[Node]) -> None:
    async with open_relay(2) as relay:
        for number, node in enumerate(nodes):
            await node.plug(relay, number // 2, number % 2)
        for number, node in enumerate(nodes):
            await node.send(b"from %d" % number)
        for number, other in enumerate((1, 0, 3, 2)):
            assert await nodes[number].receive() == b"from %d" % other
        assert relay.carried == 4


async def test_a_cut_is_of_all_wires_and_both_ways_until_mended(nodes: list[Node]) -> None:
    async with open_relay(2) as relay, open_relay(1) as other:
        for number, node in enumerate(nodes):
            await node.plug(relay, number // 2, number % 2)
        relay.cut()
        assert not other.is_cut
        for node in nodes:
            await node.send(b"lost")
        await _until_vanished(relay, 4)
        relay.mend()
        for node in nodes:
            await node.send(b"arrives")
        for node in nodes:
            assert await node.receive() == b"arrives"
        assert (relay.vanished, relay.carried) == (4, 4)


async def test_what_is_larger_than_the_mtu_is_lost(nodes: list[Node]) -> None:
    async with open_relay(1, mtu=1500) as relay:
        near, far = nodes[:2]
        await near.plug(relay, 0, 0)
        await far.plug(relay, 0, 1)
        await near.send(bytes(1500 - 28 + 1))
        await near.send(bytes(1500 - 28))
        assert len(await far.receive()) == 1500 - 28
        assert (relay.too_large, relay.carried) == (1, 1)


async def test_a_wire_with_nothing_at_its_other_end_takes_everything(nodes: list[Node]) -> None:
    async with open_relay(1) as relay:
        await nodes[0].plug(relay, 0, 0)
        await nodes[0].send(b"hello?")
        await _until_vanished(relay, 1)


async def test_its_sockets_are_closed_at_the_end(nodes: list[Node]) -> None:
    async with open_relay(1) as relay:
        address = relay.wires[0][0].address
    await nodes[0].sock.bind(address)


async def _until_vanished(relay: Relay, count: int) -> None:
    with trio.fail_after(10):
        while relay.vanished < count:
            await trio.lowlevel.checkpoint()
