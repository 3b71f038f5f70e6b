"""A wire that swallows everything, for some seconds, and again."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from knet_trio import LinkPolicy
from tests.interop.pairs import PING_INTERVAL, open_pair, our_link
from tests.network.traffic import (
    THEIR_SIDE,
    assert_explained,
    dropped,
    open_traffic,
    over,
)
from tests.network.wires import open_wires

LIMIT: Final = 120.0
SOME: Final = 100
# Ten times as long for a new link: so much silence takes it down within the shortest hole.
PONG_TIMEOUT: Final = 0.1


@pytest.fixture
def cycles(long: bool) -> list[tuple[float, float]]:
    """Seconds of darkness, and of light after it."""
    return [(5.0, 2.0)] * 3 if long else [(1.5, 0.7)]


async def test_the_only_link(program: str, cycles: list[tuple[float, float]]) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            link = pair.ours.host.links[0]
            # The C library pings too rarely for this, so it is for our side alone.
            link.set_ping_timers(PING_INTERVAL, PONG_TIMEOUT, 2048)
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                for dark, light in cycles:
                    await wires.treat(0, loss=1.0)
                    await trio.sleep(dark)
                    await link.wait_disconnected()
                    assert "is down: no pong for" in link.explain()
                    assert not pair.ours.host.status.reachable
                    await wires.mend()
                    await link.wait_connected()
                    before = our_link(pair, 0).tx_data_packets
                    await trio.sleep(light)
                    assert our_link(pair, 0).tx_data_packets > before
                ours, theirs = await traffic.finish()
            await assert_explained(wires, pair, ours, theirs)
            assert 0 < len(ours.lost) < ours.sent


@pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ACTIVE])
async def test_one_of_two_links(
    program: str, cycles: list[tuple[float, float]], policy: LinkPolicy
) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_wires(2) as wires,
            open_pair(over(wires.namespaces, program, policy=policy)) as pair,
        ):
            links = pair.ours.host.links
            links[1].set_ping_timers(PING_INTERVAL, PONG_TIMEOUT, 2048)
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                for dark, light in cycles:
                    # The one that the passive policy prefers.
                    await wires.treat(1, loss=1.0)
                    await trio.sleep(dark)
                    await links[1].wait_disconnected()
                    assert "is down: no pong for" in links[1].explain()
                    assert pair.ours.host.status.reachable
                    await wires.mend()
                    await links[1].wait_connected()
                    await trio.sleep(light)
                ours, theirs = await traffic.finish()
            assert our_link(pair, 0).down_count == 0
            if policy is LinkPolicy.ACTIVE:
                assert (ours.lost, theirs.lost) == ([], [])
            else:
                # Until a pong is late, and there is doubt. The peer may be the C library,
                # which has none and goes on until the link is down.
                assert len(ours.lost) <= dropped(await wires.tallies(1, toward=THEIR_SIDE))
