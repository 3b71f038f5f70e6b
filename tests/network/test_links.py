"""One of two links loses its carrier, its interface or its address; the other is none the worse."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from knet_trio import LinkPolicy
from tests.interop.c_node import LIBKNET
from tests.interop.namespaces import namespace_pair
from tests.interop.pairs import OURS, PING_INTERVAL, Pair, open_pair, our_link, wait_for
from tests.network.traffic import OURS_SIDE, THEIR_SIDE, open_traffic, over
from tests.network.wires import open_wires

LIMIT: Final = 60.0
SOME: Final = 100
# At this pace a carrier comes and goes within a fifth of a second.
FEW: Final = 50
PONG_TIMEOUT: Final = 0.5
# For our side alone, since the C library pings too rarely for it: ten times as long for a new link.
QUICK: Final = 0.1


async def arrived_by_link_0(pair: Pair) -> int:
    """How many data packets the peer has had by the good link."""
    status = await pair.c.link_status(OURS, 0)
    return int(status["stats"]["rx_data_packets"])


@pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ACTIVE])
async def test_an_interface_flaps(program: str, policy: LinkPolicy) -> None:
    """With ours down sends fail with ENETUNREACH, with its counterpart down with ENOBUFS.

    Neither holds up the good link, and what was refused goes by that one.
    """
    with trio.fail_after(LIMIT), namespace_pair(2) as namespaces:
        setup = over(namespaces, program, policy=policy, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                for side in (OURS_SIDE, THEIR_SIDE) * 3:
                    before = await arrived_by_link_0(pair)
                    namespaces.set_link(1, up=False, side=side)
                    await traffic.flow(FEW)
                    namespaces.set_link(1, up=True, side=side)
                    assert await arrived_by_link_0(pair) > before
                    await traffic.flow(FEW)
                ours, theirs = await traffic.finish()
            assert our_link(pair, 1).tx_data_errors > 0
            assert ours.lost == []
            assert our_link(pair, 0).down_count == 0
            # The C library lost up to half of its messages with the passive policy, for it knows
            # no doubt and waits for the timeout.
            if program != LIBKNET or policy is LinkPolicy.ACTIVE:
                assert theirs.lost == []


async def test_a_cable_is_pulled_out_and_plugged_in(program: str) -> None:
    """Sends succeed and nothing arrives, as with most network cards."""
    with trio.fail_after(LIMIT):
        async with open_wires(2) as wires:
            setup = over(wires.namespaces, program, policy=LinkPolicy.ACTIVE)
            async with open_pair(setup) as pair:
                async with open_traffic(pair) as traffic:
                    await traffic.flow(SOME)
                    for _ in range(4):
                        before = await arrived_by_link_0(pair)
                        await wires.set_carrier(1, on=False)
                        # A tap takes in frames without a carrier too.
                        await wires.treat(1, loss=1.0)
                        await traffic.flow(FEW)
                        await wires.treat(1)
                        await wires.set_carrier(1, on=True)
                        assert await arrived_by_link_0(pair) > before
                        await traffic.flow(FEW)
                    await wires.mend()
                    ours, theirs = await traffic.finish()
                assert (await wires.tallies(1, toward=OURS_SIDE)).data["lost"] > 0
                assert (ours.lost, theirs.lost) == ([], [])
                assert our_link(pair, 0).down_count == 0


async def test_an_interface_is_deleted_and_made_again(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires(2) as wires, open_pair(over(wires.namespaces, program)) as pair:
            link = pair.ours.host.links[1]
            link.set_ping_timers(PING_INTERVAL, QUICK, 2048)
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                wires.namespaces.delete_device(1)
                await link.wait_disconnected()
                assert "this machine refuses to send" in link.explain()
                await traffic.flow(SOME)
                wires.namespaces.create_device(1)
                await wires.attach(1)
                await link.wait_connected()
                before = our_link(pair, 1).tx_data_packets
                await wait_for(lambda: our_link(pair, 1).tx_data_packets > before)
                ours, _ = await traffic.finish()
            # The system says at once that there is no way, so the other link is taken.
            assert ours.lost == []
            assert our_link(pair, 0).down_count == 0


async def test_an_address_moves_to_another_interface(program: str) -> None:
    """On both sides, and the first interface is switched off: the link goes where its address is.

    The socket is bound to the address and stays so.
    """
    with trio.fail_after(LIMIT):
        async with (
            open_wires(3) as wires,
            open_pair(over(wires.namespaces, program, links=2)) as pair,
        ):
            async with open_traffic(pair) as traffic:
                await traffic.flow(SOME)
                for side in (THEIR_SIDE, OURS_SIDE):
                    wires.namespaces.move_address(1, 2, side=side)
                wires.namespaces.set_link(1, up=False)
                await traffic.flow(SOME)
                ours, _ = await traffic.finish()
            for side in (THEIR_SIDE, OURS_SIDE):
                assert (await wires.tallies(2, toward=side)).data["passed"] > 0
            # What had no way for a moment went over the other link. (The C library lost some.)
            assert ours.lost == []
            assert our_link(pair, 0).down_count == 0


REFUSED: Final = "is down: the network reports for 10.77.1.2:5405: Connection refused"
# What is said of the link while the firewall of a side has such a rule. Those for what comes in are
# known by silence or by the answer to what was sent. One for what goes out fails the sending.
FIREWALLS: Final = {
    (THEIR_SIDE, "INPUT", "DROP"): "is down: no pong for",
    (THEIR_SIDE, "INPUT", "REJECT"): REFUSED,
    (OURS_SIDE, "OUTPUT", "DROP"): "is down: this machine refuses to send: Operation not permitted",
    (
        OURS_SIDE,
        "OUTPUT",
        "REJECT",
    ): "is down: this machine refuses to send: Operation not permitted",
}


async def test_a_firewall(program: str) -> None:
    with trio.fail_after(LIMIT):
        async with open_wires(2) as wires:
            setup = over(wires.namespaces, program, policy=LinkPolicy.ACTIVE)
            async with open_pair(setup) as pair:
                link = pair.ours.host.links[1]
                link.set_ping_timers(PING_INTERVAL, QUICK, 2048)
                async with open_traffic(pair) as traffic:
                    for (side, chain, target), said in FIREWALLS.items():
                        await traffic.flow(SOME)
                        with wires.namespaces.rule(side, chain, 1, "-j", target):
                            await link.wait_disconnected()
                            assert said in link.explain()
                            await traffic.flow(FEW)
                        await link.wait_connected()
                    ours, theirs = await traffic.finish()
                assert (ours.lost, theirs.lost) == ([], [])
                assert our_link(pair, 0).down_count == 0
