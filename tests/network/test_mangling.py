"""A wire on which packets overtake each other, come twice, or come damaged."""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import DropCause
from tests.interop.c_node import CCrypto
from tests.interop.pairs import Pair, check_message, connect, numbered, open_pair, our_link
from tests.network.traffic import (
    END,
    LARGE,
    OURS_SIDE,
    SMALL,
    THEIR_SIDE,
    THEIRS_ON,
    open_traffic,
    over,
)
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 200
SIZES: Final = (SMALL, LARGE)


async def test_reordering_loses_nothing(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            for size in SIZES:
                await wires.treat(0, reorder=0.1)
                async with open_traffic(pair, size) as traffic:
                    await traffic.flow(SOME)
                    await wires.mend()
                    accounts = await traffic.finish()
                for account in accounts:
                    assert account.lost == []
                    # Messages are handed on when they are whole: the protocol promises no order.
                    assert not account.in_order
            for side in (OURS_SIDE, THEIR_SIDE):
                assert (await wires.tallies(0, toward=side)).data["reordered"] > 0
            assert our_link(pair, 0).down_count == 0


# Why a packet that was here before goes no further.
COPIES: Final = (DropCause.DUPLICATE, DropCause.REPEATED_FRAGMENT, DropCause.STALE_FRAGMENT)


async def test_a_packet_that_comes_twice_counts_once(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            for size in SIZES:
                # The copies come late as well.
                await wires.treat(0, duplicate=0.2, reorder=0.1)
                async with open_traffic(pair, size) as traffic:
                    await traffic.flow(SOME)
                    await wires.mend()
                    for account in await traffic.finish():
                        assert account.lost == []
            for side in (OURS_SIDE, THEIR_SIDE):
                assert (await wires.tallies(0, toward=side)).data["duplicated"] > 0
            drops = pair.ours.handle.statistics().drops
            copies = (await wires.tallies(0, toward=OURS_SIDE)).data["duplicated"]
            assert sum(drops.get(cause, 0) for cause in COPIES) == copies
            assert our_link(pair, 0).down_count == 0


async def test_with_crypto_what_is_damaged_is_dropped(program: str) -> None:
    key = bytes(range(256)) * 4
    with trio.fail_after(LIMIT):
        async with (
            open_wires() as wires,
            open_pair(over(wires.namespaces, program, crypto=CCrypto(key=key))) as pair,
        ):
            await wires.treat(0, corrupt=0.1)
            async with open_traffic(pair, SMALL) as traffic:
                await traffic.flow(SOME)
                # It has looked at each message: none is other than it was sent.
                await wires.mend()
                ours, theirs = await traffic.finish()
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                corrupted = (await wires.tallies(0, toward=side)).all["corrupted"]
                assert 0 < len(account.lost) <= corrupted
            corrupted = (await wires.tallies(0, toward=OURS_SIDE)).all["corrupted"]
            drops = pair.ours.handle.statistics().drops
            assert drops[DropCause.NOT_AUTHENTIC] == corrupted
            link = pair.ours.host.links[0]
            assert link.status.stats.down_count == 0
            assert f"{DropCause.NOT_AUTHENTIC} x {corrupted}: " in link.explain()


async def test_in_clear_what_is_damaged_does_no_lasting_harm(program: str) -> None:
    """It may be delivered, as what it has become: the protocol has no checksum of its own."""
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            # Only toward us: what the C library does with such packets is not for us to judge.
            await wires.treat(0, corrupt=0.3, toward=OURS_SIDE)
            async with open_traffic(pair, SMALL) as traffic:
                await traffic.flow(SOME)
                sent, sent_there = await traffic.stop()
                await wires.mend()
                await connect(pair.ours, pair.c)
                assert await traffic.arrived_there() == list(range(sent))
            arrived = await receive_until_heard(pair)
            corrupted = (await wires.tallies(0, toward=OURS_SIDE)).data["corrupted"]
            assert corrupted > 0
            intact = {numbered(number, SMALL) for number in range(sent_there)}
            altered = sum(data not in intact for data in arrived)
            assert 0 < altered <= corrupted
            assert len(arrived) - altered > 0


async def receive_until_heard(pair: Pair) -> list[bytes]:
    """What has come from the peer, up to the first message of some that it sends now.

    A damaged sequence number is one that a later message has, which is dropped then: one message
    alone might be that.
    """
    channel, (marker, _) = pair.ours.channels[THEIRS_ON], END
    arrived: list[bytes] = []

    async def speak() -> None:
        while True:
            await pair.c.send(marker, THEIRS_ON)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        while (data := check_message(await channel.receive(), THEIRS_ON)) != marker:
            arrived.append(data)
        nursery.cancel_scope.cancel()
    return arrived
