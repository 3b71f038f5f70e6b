"""A path that becomes narrower under a stream."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.drops import counted
from tests.interop.c_node import LIBKNET
from tests.interop.pairs import open_pair, our_link
from tests.network.routed import routed_pair
from tests.network.traffic import (
    OURS_SIDE,
    THEIR_SIDE,
    UNSENT,
    above,
    below,
    dropped,
    open_traffic,
    over,
)
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 60
SIZE: Final = 20_000
INTERVAL: Final = 0.005
NARROW: Final = 1300


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
async def test_the_mtu_of_our_interface_falls(program: str, ipv6: bool) -> None:
    """Nothing is lost: what is refused for its size is fragmented again, and sent."""
    with trio.fail_after(LIMIT):
        async with (
            open_wires(mtu=9000) as wires,
            open_pair(over(wires.namespaces, program, ipv6=ipv6)) as pair,
        ):
            handle = pair.ours.handle
            await pair.ours.wait_data_mtu(above(8000))
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                for mtu in (1500, 1280):
                    # What the C library loses then is not ours to judge.
                    side = OURS_SIDE if program == LIBKNET else None
                    wires.namespaces.set_mtu(0, mtu, side=side)
                    await pair.ours.wait_data_mtu(below(mtu))
                    await traffic.flow(SOME)
                await wires.mend()
                ours, theirs = await traffic.finish()
            assert our_link(pair, 0).tx_data_errors > 0
            assert (ours.lost, theirs.lost) == ([], [])
            assert not counted(handle.statistics().drops).keys() & UNSENT
            assert our_link(pair, 0).down_count == 0


async def test_the_middle_of_the_path_becomes_narrow_in_silence(program: str) -> None:
    """A black hole for large packets: a search finds it, and finds that it is gone."""
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            handle = pair.ours.handle
            await pair.ours.wait_data_mtu(above(1400))
            await pair.c.wait_data_mtu(above(1400))
            # Seconds until it is searched again, instead of a minute.
            handle.pmtud_interval = 1
            await pair.c.set_pmtud_interval(1)
            # The C library finds out too, which took it twelve seconds: its way stays wide.
            toward = THEIR_SIDE if program == LIBKNET else None
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                await wires.treat(0, toward=toward, mtu=NARROW)
                await pair.ours.wait_data_mtu(below(NARROW))
                if toward is None:
                    await pair.c.wait_data_mtu(below(NARROW))
                ours, theirs = await traffic.finish()
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                assert len(account.lost) <= dropped(await wires.tallies(0, toward=side))
            assert ours.lost
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                ours, theirs = await traffic.finish()
            assert (ours.lost, theirs.lost) == ([], [])
            await wires.mend()
            await pair.ours.wait_data_mtu(above(1400))
            # Small packets passed, pings among them.
            assert our_link(pair, 0).down_count == 0


async def test_a_router_says_that_it_has_become_narrow(program: str) -> None:
    """Its word (ICMP) is enough to look at once, not only when the next search is due."""
    with trio.fail_after(LIMIT), routed_pair() as routed:
        async with open_pair(over(routed, program)) as pair:
            handle = pair.ours.handle
            await pair.ours.wait_data_mtu(above(1400))
            assert handle.pmtud_interval > LIMIT / 2
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                routed.set_far_mtu(NARROW)
                await pair.ours.wait_data_mtu(below(NARROW))
                await traffic.finish()
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                ours, _ = await traffic.finish()
            assert ours.lost == []
            assert our_link(pair, 0).down_count == 0
