"""A wire that is too slow for what is sent over it, and whose queue is full.

Some fragments of each message are dropped, so nearly none is whole: the case in which reassembly
ran out of buffers, and clusters fell apart.
"""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import DropCause
from tests.interop.pairs import open_pair, our_link
from tests.network.traffic import (
    OURS_SIDE,
    THEIR_SIDE,
    above,
    assert_bounded,
    exchange_large,
    open_traffic,
    over,
)
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 120
# Fourteen packets, a train of them every 10 ms: more than the queue holds, and twice the rate.
SIZE: Final = 20_000
INTERVAL: Final = 0.01
RATE: Final = 900_000
QUEUE: Final = 12_000


async def test_a_full_queue_on_the_way(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            await pair.ours.wait_data_mtu(above(1400))
            await wires.treat(0, rate=RATE, queue=QUEUE)
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                await wires.mend()
                ours, theirs = await traffic.finish()
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                tallies = await wires.tallies(0, toward=side)
                # More than there are buffers for.
                assert 64 < len(account.lost) <= tallies.data["queue_full"]
            await assert_bounded(wires, pair, ours, theirs)
            assert pair.ours.handle.statistics().drops[DropCause.REASSEMBLY_GIVEN_UP] > 32
            assert our_link(pair, 0).down_count == 0
            await exchange_large(pair)


async def test_a_full_queue_in_this_machine(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            await pair.ours.wait_data_mtu(above(1400))
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                with wires.namespaces.slow(0, RATE, QUEUE) as dropped:
                    await traffic.flow(SOME)
                    # A datagram alone is refused (ENOBUFS), and tried again. Of a train, which here
                    # is larger than the queue, the kernel says nothing as long as one datagram
                    # finds room: how many such trains there are is a matter of chance.
                    known = dropped()
                await wires.mend()
                ours, theirs = await traffic.finish()
            assert known > 0
            assert len(ours.lost) <= known
            # It was the way out that was narrow.
            assert theirs.lost == []
            await assert_bounded(wires, pair, ours, theirs)
            assert our_link(pair, 0).down_count == 0
            await exchange_large(pair)
