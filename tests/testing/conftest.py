"""A simulated network in simulated time, and sockets on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import MockClock

from knet_trio._transport import find_transport
from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.testing import SimulatedNetwork, open_network
from knet_trio.testing.endpoint import SimulatedEndpoint

A = Address("10.0.0.1", 5405)
B = Address("10.0.0.2", 5405)
# Virtual seconds: more than anything here takes.
PATIENCE = 3600.0


@pytest.fixture
async def network(autojump_clock: MockClock) -> AsyncGenerator[SimulatedNetwork]:
    # A test has to ask for the clock itself: a fixture of a fixture makes none the test's.
    assert trio.lowlevel.current_clock() is autojump_clock
    async with open_network(1) as network:
        yield network


def bind(address: Address) -> SimulatedEndpoint:
    """A socket on the network that the test is on."""
    endpoint = find_transport("udp").open_endpoint(
        address, privileged=False, high_priority=False, dscp=0
    )
    assert isinstance(endpoint, SimulatedEndpoint)
    return endpoint


async def receive(endpoint: SimulatedEndpoint, count: int = 1) -> list[tuple[bytes, Address]]:
    """The next ``count`` datagrams, and no more."""
    datagrams: list[tuple[bytes, Address]] = []
    with trio.fail_after(PATIENCE):
        while len(datagrams) < count:
            for train in (await endpoint.receive()).trains:
                datagrams += [(datagram, train.source) for datagram in train.datagrams()]
    assert len(datagrams) == count
    return datagrams


async def receive_troubles(endpoint: SimulatedEndpoint) -> list[PathTrouble]:
    """The next troubles, with which nothing else arrives."""
    with trio.fail_after(PATIENCE):
        arrivals = await endpoint.receive()
    assert not arrivals.trains
    return arrivals.troubles
