"""Numbered messages both ways over wires, and an account of what became of each.

Ours go on one channel, the peer's on another.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio

from knet_trio import DropCause, LinkPolicy
from tests.interop.c_node import LIBKNET, CCrypto
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    Pair,
    Setup,
    Stream,
    check_message,
    connect,
    in_namespaces,
    number_of,
)
from tests.network.relay import Tallies
from tests.network.wires import Wires

OURS_ON: Final = 0
THEIRS_ON: Final = 5
OURS_SIDE: Final = 0
THEIR_SIDE: Final = 1
FOREVER: Final = 10**9
# One packet, also before the path MTU is known.
SMALL: Final = 400
# Several packets on a path with an MTU of 1500.
LARGE: Final = 5000
INTERVAL: Final = 0.002
END: Final = (b"the end", b"the very end")


@dataclass(frozen=True)
class Account:
    """Messages one way: how many were sent, and the numbers of those that arrived, in order."""

    sent: int
    arrived: Sequence[int]

    def __post_init__(self) -> None:
        assert len(set(self.arrived)) == len(self.arrived), "a message came twice"
        assert set(self.arrived) <= set(range(self.sent)), "a message came that was never sent"

    @property
    def lost(self) -> list[int]:
        """The numbers of those that did not arrive."""
        return sorted(set(range(self.sent)) - set(self.arrived))

    @property
    def in_order(self) -> bool:
        """Whether each came after those sent before it."""
        return list(self.arrived) == sorted(self.arrived)


class Traffic:
    """A stream each way. Made by `open_traffic`."""

    def __init__(self, pair: Pair, size: int, ours: Stream) -> None:
        self.ours = ours
        self._pair, self._size = pair, size

    async def flow(self, more: int) -> None:
        """Until we have sent so many more; the peer sends as fast."""
        await self.ours.flow(more)

    async def stop(self) -> tuple[int, int]:
        """End the streams; how many messages we and the peer have sent."""
        return await self.ours.stop(), await self._pair.c.stop_stream()

    async def finish(self) -> tuple[Account, Account]:
        """End the streams and wait until all links are up; what became of ours and of theirs.

        The network has to be good again for small packets: the last ones must not be lost.
        """
        sent, sent_there = await self.stop()
        await connect(self._pair.ours, self._pair.c)
        ours = Account(sent, await self.arrived_there())
        return ours, Account(sent_there, await self._arrived_here())

    async def arrived_there(self) -> list[int]:
        """The numbers of our messages that the peer has received, in the order of that."""
        pair, numbers = self._pair, list[int]()
        # What came twice, or late by another link, is there when the second marker is: that was
        # sent after the first had arrived.
        for marker in END:
            await pair.ours.channels[OURS_ON].send(marker)
            while (message := await pair.c.receive()) != (OURS_ON, marker):
                assert message[0] == OURS_ON
                numbers.append(number_of(message[1], self._size))
        return numbers

    async def _arrived_here(self) -> list[int]:
        pair, numbers = self._pair, list[int]()
        channel = pair.ours.channels[THEIRS_ON]
        for marker in END:
            await pair.c.send(marker, THEIRS_ON)
            while (data := check_message(await channel.receive(), THEIRS_ON)) != marker:
                numbers.append(number_of(data, self._size))
        return numbers


def over(
    namespaces: NamespacePair,
    program: str,
    *,
    links: int | None = None,
    crypto: CCrypto | None = None,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    pong_timeout: float = 1.0,
    ipv6: bool = False,
    transport: str = "udp",
) -> Setup:
    """A link over each of their pairs, or the first few, to a peer that runs that program."""
    setup = in_namespaces(
        namespaces,
        namespaces.links if links is None else links,
        address=namespaces.v6 if ipv6 else namespaces.v4,
        crypto=crypto,
        policy=policy,
        pong_timeout=pong_timeout,
        hedge=True,
    )
    channels = (OURS_ON, THEIRS_ON)
    return replace(setup, program=program, channels=channels, transport=transport)


@asynccontextmanager
async def open_traffic(
    pair: Pair, size: int = SMALL, interval: float = INTERVAL
) -> AsyncGenerator[Traffic, None]:
    """Streams both ways, as long as the block lasts or until they are finished."""
    async with trio.open_nursery() as nursery:
        ours = Stream(pair.ours.channels[OURS_ON], size, interval)
        nursery.start_soon(ours.run)
        await pair.c.start_stream(FOREVER, size, interval=interval, channel=THEIRS_ON)
        yield Traffic(pair, size, ours)
        await ours.stop()
        await pair.c.stop_stream()


def dropped(tallies: Tallies) -> int:
    """Packets with data that did not get through a wire."""
    fates = ("lost", "too_large", "queue_full", "refused")
    return sum(tallies.data[fate] for fate in fates)


def above(limit: int) -> Callable[[int], bool]:
    """Of a data MTU to wait for: larger than that."""
    return lambda mtu: mtu > limit


def below(limit: int) -> Callable[[int], bool]:
    """Of a data MTU to wait for: smaller than that."""
    return lambda mtu: mtu < limit


def counted(pair: Pair) -> dict[str, int]:
    """What our side has dropped, by the names of the causes."""
    drops = pair.ours.handle.statistics().drops
    return {str(cause): times for cause, times in drops.items() if times}


# Why a message, or a packet of it, never left.
UNSENT: Final = frozenset({DropCause.HOST_DOWN, DropCause.SEND_FAILED, DropCause.SEND_QUEUE_FULL})


async def assert_explained(wires: Wires, pair: Pair, ours: Account, theirs: Account) -> None:
    """Over one wire, with messages of one packet: what was lost was lost by somebody who counts.

    Each was dropped by the wire, not sent for want of a link, or refused for want of one. Where
    the C library drops messages it does not tell, so then there may be more.
    """
    here = counted(pair)
    there: Mapping[str, int] = {}
    if pair.setup.program != LIBKNET:
        there = (await pair.c.statistics())["drops"]
    for account, side, sender, receiver in (
        (ours, THEIR_SIDE, here, there),
        (theirs, OURS_SIDE, there, here),
    ):
        known = dropped(await wires.tallies(0, toward=side))
        known += sum(sender.get(cause, 0) for cause in UNSENT)
        known += receiver.get(DropCause.PEER_UNREACHABLE, 0)
        if pair.setup.program == LIBKNET:
            assert len(account.lost) >= known, f"{known} lost toward {side} are known"
        else:
            assert len(account.lost) == known, f"{known} lost toward {side} are known"


# As many messages of one host are put together at once.
_BUFFERS: Final = 32


async def assert_bounded(wires: Wires, pair: Pair, ours: Account, theirs: Account) -> None:
    """Over one wire, in order: nobody has more unfinished messages than there are buffers.

    Where the C library gives messages up it does not tell.
    """
    here = counted(pair)
    sides: list[tuple[Account, int, Mapping[str, int]]] = [(theirs, OURS_SIDE, here)]
    if pair.setup.program != LIBKNET:
        sides.append((ours, THEIR_SIDE, (await pair.c.statistics())["drops"]))
    for account, side, drops in sides:
        begun = (await wires.tallies(0, toward=side)).data["begun"]
        over = begun - len(account.arrived) - len(END)
        over -= drops.get(DropCause.REASSEMBLY_GIVEN_UP, 0)
        assert 0 <= over <= _BUFFERS, f"{over} messages toward {side} are unfinished"


async def exchange_large(pair: Pair) -> None:
    """The largest message there is, either way, arrives."""
    data = os.urandom(65536)
    await pair.ours.channels[OURS_ON].send(data)
    assert await pair.c.receive() == (OURS_ON, data)
    await pair.c.send(data, THEIRS_ON)
    assert check_message(await pair.ours.channels[THEIRS_ON].receive(), THEIRS_ON) == data
