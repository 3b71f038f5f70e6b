"""Two links, and the one in use goes away while numbered messages flow both ways.

Link 1 has the higher priority. The size needs several packets before the path MTU is known, and
one after.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
import trio

from knet_trio import DropCause, LinkPolicy
from tests.interop.c_node import CNode
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    Pair,
    Setup,
    Stream,
    add_c_link,
    finish_ours,
    finish_theirs,
    gap,
    in_namespaces,
    open_pair,
    our_link,
    stream_of,
    wait_c_link,
    wait_for,
)

LIMIT: Final = 60.0
SIZE: Final = 1000
INTERVAL: Final = 0.002
SOME: Final = 100
FOREVER: Final = 10**9
# The C library pings every 200 ms at the most often, and with less than this its links flap.
PONG_TIMEOUT: Final = 0.5


def two_links(
    namespaces: NamespacePair, policy: LinkPolicy = LinkPolicy.PASSIVE, *, hedge: bool = False
) -> Setup:
    return in_namespaces(namespaces, 2, policy=policy, pong_timeout=PONG_TIMEOUT, hedge=hedge)


async def data_packets(pair: Pair) -> list[tuple[int, int]]:
    """How many data packets each side has sent over link 0, and over link 1."""
    return [(our_link(pair, i).tx_data_packets, await c_data_packets(pair.c, i)) for i in (0, 1)]


async def c_data_packets(c: CNode, link_id: int) -> int:
    try:
        status = await c.link_status(OURS, link_id)
    except OSError as error:
        # A link that was removed.
        if error.errno != errno.EINVAL:
            raise
        return 0
    return int(status["stats"]["tx_data_packets"])


class Streams:
    """A numbered stream each way, with the numbers at which something was known."""

    def __init__(self, pair: Pair, ours: Stream) -> None:
        self.pair = pair
        self.ours = ours
        self._theirs = 0

    async def mark_theirs(self) -> int:
        """The number that the C node sends next: what it knows now, it knows for that one."""
        self._theirs += await self.pair.c.stop_stream()
        await self.pair.c.start_stream(FOREVER, SIZE, interval=INTERVAL, start=self._theirs)
        return self._theirs

    async def flow(self) -> None:
        """Until some more were sent both ways."""
        theirs = sum(sent for _, sent in await data_packets(self.pair)) + SOME
        await self.ours.flow(SOME)
        while sum(sent for _, sent in await data_packets(self.pair)) < theirs:  # noqa: ASYNC110
            await trio.sleep(INTERVAL)

    async def finish(self) -> tuple[range, range]:
        """End both; which numbers of ours and which of theirs never arrived."""
        end = await self.ours.stop()
        self._theirs += await self.pair.c.stop_stream()
        lost_ours = gap(await finish_ours(self.pair, SIZE), 0, end)
        return lost_ours, gap(await finish_theirs(self.pair, SIZE), 0, self._theirs)


@asynccontextmanager
async def open_streams(setup: Setup) -> AsyncGenerator[Streams, None]:
    """Both nodes, with streams that flow both ways."""
    async with open_pair(setup) as pair, stream_of(pair.ours, SIZE, INTERVAL) as ours:
        await pair.c.start_stream(FOREVER, SIZE, interval=INTERVAL)
        streams = Streams(pair, ours)
        await streams.flow()
        yield streams


async def assert_in_use(streams: Streams, *, ours: int, theirs: int) -> None:
    """New messages from either side go by that link and by no other."""
    # Some were on their way to a link already when it was found up or down.
    await streams.flow()
    before = await data_packets(streams.pair)
    await streams.flow()
    after = await data_packets(streams.pair)
    for side, used in enumerate((ours, theirs)):
        assert after[used][side] > before[used][side]
        assert after[1 - used][side] == before[1 - used][side]


@pytest.mark.parametrize("toward", [None, 0, 1], ids=["both ways", "to us", "from us"])
async def test_the_link_in_use_is_cut(namespaces: NamespacePair, toward: int | None) -> None:
    with trio.fail_after(LIMIT):
        async with open_streams(two_links(namespaces)) as streams:
            pair = streams.pair
            link = pair.ours.host.links[1]
            await assert_in_use(streams, ours=1, theirs=1)
            ours_before, theirs_before = streams.ours.next, await streams.mark_theirs()
            await streams.flow()

            namespaces.drop(1, toward=toward)
            await link.wait_disconnected()
            ours_known = streams.ours.handed_over
            await wait_c_link(pair.c, 1, False)
            theirs_known = await streams.mark_theirs()
            await assert_in_use(streams, ours=0, theirs=0)

            namespaces.undrop(1)
            await link.wait_connected()
            await wait_c_link(pair.c, 1, True)
            await assert_in_use(streams, ours=1, theirs=1)

            lost_ours, lost_theirs = await streams.finish()
            if toward != 0:
                assert ours_before <= lost_ours.start < lost_ours.stop <= ours_known
            else:
                assert not lost_ours
            if toward != 1:
                assert theirs_before <= lost_theirs.start < lost_theirs.stop <= theirs_known
            else:
                assert not lost_theirs
            assert link.status.stats.down_count == 1
            assert pair.ours.host.links[0].status.stats.down_count == 0


async def test_hedging_is_quicker_than_the_timeout(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        async with open_streams(two_links(namespaces, hedge=True)) as streams:
            pair = streams.pair
            link = pair.ours.host.links[1]
            before = streams.ours.next
            await streams.flow()
            namespaces.drop(1)
            # Doubt arises when a pong is overdue, and lasts, since none will come.
            copies = our_link(pair, 0).tx_data_packets
            await wait_for(lambda: our_link(pair, 0).tx_data_packets >= copies + SOME)
            ours_doubted = streams.ours.next
            assert link.status.connected
            await link.wait_disconnected()
            await wait_c_link(pair.c, 1, False)
            namespaces.undrop(1)
            await link.wait_connected()
            await wait_c_link(pair.c, 1, True)
            await streams.flow()
            lost_ours, lost_theirs = await streams.finish()
            assert before <= lost_ours.start < lost_ours.stop <= ours_doubted
            assert lost_theirs


async def test_our_side_disables_the_link_in_use(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        async with open_streams(two_links(namespaces)) as streams:
            pair = streams.pair
            link = pair.ours.host.links[1]
            link.enabled = False
            assert not link.status.connected
            await wait_c_link(pair.c, 1, False)
            await assert_in_use(streams, ours=0, theirs=0)
            link.enabled = True
            await link.wait_connected()
            await wait_c_link(pair.c, 1, True)
            await assert_in_use(streams, ours=1, theirs=1)
            # We changed over at once. What the peer sent over it until it noticed is refused.
            lost_ours, lost_theirs = await streams.finish()
            assert lost_ours == range(0)
            refused = pair.ours.handle.statistics().drops[DropCause.LINK_DISABLED]
            assert 0 < len(lost_theirs) <= refused


async def test_the_c_side_disables_the_link_in_use(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        async with open_streams(two_links(namespaces)) as streams:
            pair = streams.pair
            await pair.c.set_link_enable(OURS, 1, False)
            # The C library goes on answering pings there, and takes the data: ours stays up.
            await assert_in_use(streams, ours=1, theirs=0)
            await pair.c.set_link_enable(OURS, 1, True)
            await wait_c_link(pair.c, 1, True)
            await assert_in_use(streams, ours=1, theirs=1)
            assert await streams.finish() == (range(0), range(0))


async def test_the_c_side_removes_the_link_in_use(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        setup = two_links(namespaces)
        async with open_streams(setup) as streams:
            pair = streams.pair
            link = pair.ours.host.links[1]
            await pair.c.clear_link(OURS, 1)
            await link.wait_disconnected()
            ours_known = streams.ours.handed_over
            await assert_in_use(streams, ours=0, theirs=0)
            await add_c_link(pair.c, setup, 1)
            await link.wait_connected()
            await wait_c_link(pair.c, 1, True)
            await assert_in_use(streams, ours=1, theirs=1)
            lost_ours, lost_theirs = await streams.finish()
            assert lost_ours.stop <= ours_known
            assert not lost_theirs


async def test_active_loses_nothing(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        # On a busy machine the other link must not be down as well for a moment.
        setup = replace(two_links(namespaces, LinkPolicy.ACTIVE), pong_timeout=4.0)
        async with open_streams(setup) as streams:
            pair = streams.pair
            link = pair.ours.host.links[1]
            namespaces.drop(1)
            await link.wait_disconnected()
            await wait_c_link(pair.c, 1, False)
            await assert_in_use(streams, ours=0, theirs=0)
            namespaces.undrop(1)
            await link.wait_connected()
            await wait_c_link(pair.c, 1, True)
            await streams.flow()
            assert await streams.finish() == (range(0), range(0))
            # Twice on the wire, once in the channel.
            assert pair.ours.handle.statistics().drops[DropCause.DUPLICATE] >= SOME
            assert all(our_link(pair, i).rx_data_packets >= SOME for i in (0, 1))
