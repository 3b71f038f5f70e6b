"""What the tests of the way out share."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from knet_trio._core.onwire import Data
from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.turns import Turns
from knet_trio.address import Address
from knet_trio.errors import DropCause
from tests.state.fakes import World, address, refusal


def make(*hosts: int, policy: LinkPolicy = LinkPolicy.PASSIVE, links: int = 1) -> World:
    """A node with hosts that are up; link l of host h is at address 10 h + l."""
    world = World()
    for host_id in hosts:
        host = world.add_host(host_id, policy)
        for link_id in range(links):
            world.bring_up(world.add_link(host, link_id, dst=address(10 * host_id + link_id)))
    return world


class Outgoing(NamedTuple):
    """Messages that a test sends together."""

    datas: Sequence[bytes]
    channel: int = 0
    to: tuple[int, ...] | None = None


def message(data: bytes = b"hello", channel: int = 0, to: Sequence[int] | None = None) -> Outgoing:
    return Outgoing((data,), channel, None if to is None else tuple(to))


@asynccontextmanager
async def running(world: World) -> AsyncGenerator[Transmitter]:
    """The pipeline at work."""
    transmitter = Transmitter(world.handle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transmitter.run)
        yield transmitter
        nursery.cancel_scope.cancel()


async def send(world: World, *messages: Outgoing) -> None:
    """Send messages through the pipeline to its end."""
    with trio.fail_after(5):
        async with running(world) as transmitter:
            for one in messages:
                await transmitter.send(*one)
            await transmitter.flush()


def data(world: World, destination: Address | None = None) -> list[Data]:
    """The data that went out, all of it or that to one destination."""
    return [packet for packet in world.endpoint.packets(destination) if isinstance(packet, Data)]


def drops(world: World) -> dict[DropCause, int]:
    return dict(world.context.counters.drops)


def refusing(*destinations: Address) -> Callable[[bytes, Address], None]:
    """Refuse what goes to these."""

    def refuse(_: bytes, destination: Address) -> None:
        if destination in destinations:
            raise refusal(errno.EPERM)

    return refuse


def use_up(turns: Turns) -> None:
    """Have the turn be over, until the loop has gone round."""
    turns.began = -math.inf
