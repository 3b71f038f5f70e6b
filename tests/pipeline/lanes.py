"""Sending, and waiting for it, in tests of the lanes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple, Unpack

import trio

from knet_trio._pipeline.transmitter import Transmitter
from knet_trio.abc import Compressor
from tests.pipeline.test_send_lanes import Sockets
from tests.state.fakes import World

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Slow(Compressor):
    """Takes off the last byte, which takes a thread."""

    wire_id = 77
    slow = True

    def compress(self, message: bytes) -> bytes:
        return message[:-1]

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        raise NotImplementedError


async def work_here(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    """Do what a thread would do."""
    await trio.lowlevel.checkpoint()
    return work(*args)


class Senders:
    """Tasks that send, each one batch.

    Attributes:
        returned: How many have returned.
        closed: How many were told that the channel was closed, or that the handle has ended.
    """

    def __init__(self, transmitter: Transmitter, nursery: trio.Nursery) -> None:
        self._transmitter = transmitter
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []
        self.returned = 0
        self.closed = 0

    def start(self, *datas: bytes, to: tuple[int, ...] | None = None) -> None:
        self._nursery.start_soon(self._send, datas, to)

    async def _send(self, datas: Sequence[bytes], to: tuple[int, ...] | None) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                await self._transmitter.send(datas, 0, to)
            except trio.ClosedResourceError:
                self.closed += 1
            else:
                self.returned += 1

    def cancel(self) -> None:
        """Cancel all that have begun."""
        for scope in self._scopes:
            scope.cancel()


def make_room(sockets: Sockets, host_id: int) -> None:
    """Have room again, without waking those who wait for it."""
    sockets.endpoints[host_id].room = math.inf
    sockets.send_sockets[host_id].full = False


def lose(world: World, host_id: int) -> None:
    """Take the only link of a host down."""
    world.handle.hosts[host_id].network_links[0].take_down(0.0, "the test says so")
