"""The process of the peer is stopped, and goes on after a while as if nothing had been."""

from __future__ import annotations

from typing import Final

import trio

from tests.interop.c_node import LIBKNET
from tests.interop.pairs import OURS, PING_INTERVAL, open_pair
from tests.network.traffic import assert_explained, open_traffic, over
from tests.network.wires import open_wires

LIMIT: Final = 120.0
SOME: Final = 100
# Ten times as long for a new link.
PONG_TIMEOUT: Final = 0.1


async def test_a_stopped_peer_is_down_and_comes_back(program: str, long: bool) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            link = pair.ours.host.links[0]
            link.set_ping_timers(PING_INTERVAL, PONG_TIMEOUT, 2048)
            absence = 10.0 if long else 2.5
            if program != LIBKNET:
                # Short enough for the peer to take the link down, if it took its absence for ours.
                their_timeout = absence / 12
                await pair.c.set_ping_timers(
                    OURS, 0, ping_interval=PING_INTERVAL, pong_timeout=their_timeout
                )
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                pair.c.suspend()
                await trio.sleep(absence)
                await link.wait_disconnected()
                assert "is down: no pong for" in link.explain()
                assert not pair.ours.host.status.reachable
                pair.c.resume()
                await link.wait_connected()
                await traffic.flow(SOME)
                ours, theirs = await traffic.finish()
            await assert_explained(wires, pair, ours, theirs)
            if program != LIBKNET:
                # The other side does not take its own absence for ours.
                assert (await pair.c.link_status(OURS, 0))["stats"]["down_count"] == 0
