"""A long wire."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.interop.pairs import open_pair, our_link
from tests.network.traffic import LARGE, open_traffic, over
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 100


@pytest.mark.parametrize("delay", [0.015, 0.75], ids=["15 ms", "750 ms"])
async def test_a_link_works_however_long_it_is(program: str, delay: float) -> None:
    round_trip = 2 * delay
    # A pong has to come within this, and a busy machine takes its time too.
    pong_timeout = round_trip + 2.0
    with trio.fail_after(LIMIT):
        async with open_wires() as wires:
            await wires.treat(0, delay=delay)
            async with open_pair(
                over(wires.namespaces, program, pong_timeout=pong_timeout)
            ) as pair:
                async with open_traffic(pair, LARGE) as traffic:
                    await traffic.flow(SOME)
                    status = pair.ours.host.links[0].status
                    # In this order: what comes after would overtake what is on its way.
                    await traffic.stop()
                    await wires.mend()
                    ours, theirs = await traffic.finish()
                for account in (ours, theirs):
                    assert account.lost == []
                    assert account.in_order
                assert status.stats.latency_min is not None
                assert round_trip <= status.stats.latency_min <= status.latency < pong_timeout
                assert our_link(pair, 0).down_count == 0
