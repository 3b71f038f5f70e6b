"""Links over a network that the kernel's netem makes bad.

What tests/network shows over UDP, by a relay of its own, is shown here by the kernel's means.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.interop.pairs import open_pair, our_link
from tests.machine.netem import netem_pair
from tests.network.traffic import OURS_SIDE, SMALL, THEIR_SIDE, open_traffic, over

LIMIT: Final = 120.0
# Seconds: emulated, a round trip alone may take a few tenths.
PONG_TIMEOUT: Final = 5.0
INTERVAL: Final = 0.02
SOME: Final = 100
# They send again what was lost, and keep the order.
RELIABLE: Final = ("sctp",)


@pytest.mark.parametrize("loss", ["2%", "30%"])
async def test_a_lost_packet_is_a_lost_message_and_no_more(
    program: str, transport: str, loss: str
) -> None:
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            namespaces.treat(0, f"loss {loss}")
            async with open_traffic(pair, SMALL, INTERVAL) as traffic:
                await traffic.flow(SOME)
                for side in (OURS_SIDE, THEIR_SIDE):
                    while not namespaces.dropped(0, toward=side).data:
                        await traffic.flow(10)
                await namespaces.mend()
                ours, theirs = await traffic.finish()
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                assert account.in_order
                dropped = namespaces.dropped(0, toward=side)
                if transport in RELIABLE:
                    assert dropped.all > 0
                    assert account.lost == []
                else:
                    assert len(account.lost) == dropped.data
            assert our_link(pair, 0).down_count == 0
