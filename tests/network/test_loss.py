"""A wire that loses packets."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from knet_trio import DropCause, LinkPolicy
from tests.interop.pairs import open_pair, our_link
from tests.network.traffic import (
    LARGE,
    OURS_SIDE,
    SMALL,
    THEIR_SIDE,
    assert_bounded,
    counted,
    dropped,
    open_traffic,
    over,
)
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 400
# Answers to pings and probes may be late on a busy machine: those causes are no matter here.
DATA_CAUSES: Final = set(DropCause) - {
    DropCause.UNEXPECTED_PONG,
    DropCause.UNEXPECTED_PMTUD_REPLY,
}


@pytest.mark.parametrize("loss", [0.02, 0.3], ids=["2%", "30%"])
async def test_a_lost_packet_is_a_lost_message_and_no_more(program: str, loss: float) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            await wires.treat(0, loss=loss)
            async with open_traffic(pair, SMALL) as traffic:
                await traffic.flow(SOME)
                for side in (OURS_SIDE, THEIR_SIDE):
                    while not (await wires.tallies(0, toward=side)).data["lost"]:
                        await traffic.flow(1)
                await wires.mend()
                ours, theirs = await traffic.finish()
            assert ours.in_order
            assert theirs.in_order
            assert ours.lost
            assert theirs.lost
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                assert len(account.lost) == dropped(await wires.tallies(0, toward=side))
            # Some pings are lost too, and that is what pings every so often are for.
            assert our_link(pair, 0).down_count == 0


async def test_a_lost_fragment_is_a_lost_message_and_no_more(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires, open_pair(over(wires.namespaces, program)) as pair:
            await wires.treat(0, loss=0.3)
            async with open_traffic(pair, LARGE) as traffic:
                await traffic.flow(SOME)
                await wires.mend()
                ours, theirs = await traffic.finish()
            for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                lost = dropped(await wires.tallies(0, toward=side))
                assert 0 < len(account.lost) <= lost
                assert account.arrived
            # What is not delivered has been given up, or is one of those still waited for.
            await assert_bounded(wires, pair, ours, theirs)
            assert counted(pair).keys() & DATA_CAUSES == {DropCause.REASSEMBLY_GIVEN_UP}
            assert our_link(pair, 0).down_count == 0


async def test_the_active_policy_loses_nothing_beside_a_good_link(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires(2) as wires:
            setup = over(wires.namespaces, program, policy=LinkPolicy.ACTIVE)
            async with open_pair(setup) as pair:
                await wires.treat(1, loss=0.3)
                async with open_traffic(pair, LARGE) as traffic:
                    await traffic.flow(SOME)
                    await wires.mend()
                    ours, theirs = await traffic.finish()
                for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                    assert (await wires.tallies(1, toward=side)).data["lost"] > 0
                    assert account.lost == []
                assert pair.ours.handle.statistics().drops[DropCause.DUPLICATE] > 0
                assert our_link(pair, 0).down_count == 0
