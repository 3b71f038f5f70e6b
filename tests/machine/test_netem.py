"""Links over a network that the kernel's netem makes bad.

What tests/network shows over UDP, by a relay of its own, is shown here by the kernel's means. A
test takes long to begin here, so it goes on with other conditions.
"""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import DropCause, LinkPolicy
from tests.interop.pairs import Pair, open_pair, our_link
from tests.machine.netem import netem_pair
from tests.network.traffic import (
    LARGE,
    OURS_SIDE,
    SMALL,
    THEIR_SIDE,
    Account,
    above,
    counted,
    exchange_large,
    open_traffic,
    over,
)

LIMIT: Final = 140.0
# Seconds: emulated, a round trip alone may take a few tenths.
PONG_TIMEOUT: Final = 10.0
INTERVAL: Final = 0.02
SOME: Final = 80
FEW: Final = 20
# They send again what was lost or damaged, and keep the order.
RELIABLE: Final = ("sctp",)
# What may be late on a slow machine is no matter here.
DATA_CAUSES: Final = set(DropCause) - {
    DropCause.UNEXPECTED_PONG,
    DropCause.UNEXPECTED_PMTUD_REPLY,
}
COPIES: Final = (DropCause.DUPLICATE, DropCause.REPEATED_FRAGMENT, DropCause.STALE_FRAGMENT)


def assert_complete(account: Account, transport: str) -> None:
    """Every message has arrived, in order if the transport keeps it."""
    assert account.lost == []
    assert account.in_order or transport not in RELIABLE


async def test_a_lost_packet_is_a_lost_message_and_no_more(program: str, transport: str) -> None:
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            for loss, size in (("2%", SMALL), ("30%", SMALL), ("30%", LARGE)):
                before = [namespaces.drops(0, toward=side) for side in (0, 1)]
                namespaces.treat(0, f"loss {loss}")
                async with open_traffic(pair, size, INTERVAL) as traffic:
                    # Where a third is lost, what is sent again gets through by the kilobyte a
                    # second: no more than what fits into the send buffer, so that it goes on.
                    await traffic.flow(FEW if transport in RELIABLE else SOME)
                    for side in (OURS_SIDE, THEIR_SIDE):
                        while namespaces.drops(0, toward=side) == before[side]:
                            await traffic.flow(FEW // 4)
                    await namespaces.mend()
                    ours, theirs = await traffic.finish()
                for account, side in ((ours, THEIR_SIDE), (theirs, OURS_SIDE)):
                    drops = namespaces.drops(0, toward=side) - before[side]
                    if transport in RELIABLE:
                        assert_complete(account, transport)
                    elif size == SMALL:
                        assert account.in_order
                        assert len(account.lost) == drops.data
                    else:
                        assert account.arrived
                        assert 0 < len(account.lost) <= drops.data
            causes = counted(pair).keys() & DATA_CAUSES
            assert not causes - {DropCause.REASSEMBLY_GIVEN_UP}
            assert bool(causes) is (transport not in RELIABLE)
            # Some pings are lost too, and that is what pings every so often are for.
            assert our_link(pair, 0).down_count == 0


async def test_the_active_policy_loses_nothing_beside_a_good_link(
    program: str, transport: str
) -> None:
    with trio.fail_after(LIMIT), netem_pair(2) as namespaces:
        setup = over(
            namespaces,
            program,
            policy=LinkPolicy.ACTIVE,
            transport=transport,
            pong_timeout=PONG_TIMEOUT,
        )
        async with open_pair(setup) as pair:
            namespaces.treat(1, "loss 30%")
            async with open_traffic(pair, LARGE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                await namespaces.mend()
                accounts = await traffic.finish()
            for account, side in zip(accounts, (THEIR_SIDE, OURS_SIDE), strict=True):
                assert namespaces.drops(1, toward=side).all > 0
                assert account.lost == []
            assert pair.ours.handle.statistics().drops[DropCause.DUPLICATE] > 0
            assert our_link(pair, 0).down_count == 0


async def test_a_long_way(program: str, transport: str) -> None:
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        namespaces.treat(0, "delay 300ms")
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            async with open_traffic(pair, LARGE, INTERVAL) as traffic:
                await traffic.flow(SOME)
                status = pair.ours.host.links[0].status
                # Without mending it: what comes after would overtake what is on its way.
                for account in await traffic.finish():
                    assert account.lost == []
                    assert account.in_order
            assert status.stats.latency_min is not None
            assert 0.6 <= status.stats.latency_min <= status.latency < PONG_TIMEOUT
            assert our_link(pair, 0).down_count == 0


async def test_packets_that_overtake_others_or_come_twice(program: str, transport: str) -> None:
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            # Those that are not delayed overtake the others.
            for conditions in ("delay 200ms reorder 80%", "delay 200ms reorder 80% duplicate 20%"):
                for size in (SMALL, LARGE):
                    # The kernel takes no other netem beside one that makes copies.
                    namespaces.treat(0, conditions, together="duplicate" in conditions)
                    async with open_traffic(pair, size, INTERVAL) as traffic:
                        await traffic.flow(SOME)
                        await namespaces.mend()
                        for account in await traffic.finish():
                            assert_complete(account, transport)
                            # Messages are handed on when they are whole.
                            assert account.in_order is (transport in RELIABLE)
            copies = our_link(pair, 0).rx_data_packets - await sent_by_peer(pair)
            drops = pair.ours.handle.statistics().drops
            assert sum(drops.get(cause, 0) for cause in COPIES) == copies
            assert (copies > 0) is (transport not in RELIABLE)
            assert our_link(pair, 0).down_count == 0


async def sent_by_peer(pair: Pair) -> int:
    """How many packets with data the peer has sent over link 0."""
    status = await pair.c.link_status(1, 0)
    return int(status["stats"]["tx_data_packets"])


async def test_a_damaged_packet_goes_no_further_than_the_kernel(
    program: str, transport: str
) -> None:
    """A checksum tells: UDP's is the end of the packet, SCTP has it sent again."""
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            namespaces.treat(0, "corrupt 20%")
            async with open_traffic(pair, SMALL, INTERVAL) as traffic:
                await traffic.flow(SOME)
                await namespaces.mend()
                # It has looked at each message: none is other than it was sent.
                accounts = await traffic.finish()
            for account, side in zip(accounts, (THEIR_SIDE, OURS_SIDE), strict=True):
                assert namespaces.checksum_errors(side, transport) > 0
                if transport in RELIABLE:
                    assert_complete(account, transport)
                else:
                    assert account.in_order
                    assert account.lost
            assert counted(pair).keys() & DATA_CAUSES == set()
            assert our_link(pair, 0).down_count == 0


# Fourteen packets, more than the queue holds; ten of them a second are twice the rate.
TRAIN: Final = 20_000
TRAIN_INTERVAL: Final = 0.1
NARROW: Final = "rate 800kbit limit 8"


async def test_a_full_queue_on_the_way(program: str, transport: str) -> None:
    with trio.fail_after(LIMIT), netem_pair() as namespaces:
        setup = over(namespaces, program, transport=transport, pong_timeout=PONG_TIMEOUT)
        async with open_pair(setup) as pair:
            await pair.ours.wait_data_mtu(above(1400))
            namespaces.treat(0, NARROW, together=True)
            async with open_traffic(pair, TRAIN, TRAIN_INTERVAL) as traffic:
                await traffic.flow(SOME)
                await namespaces.mend()
                accounts = await traffic.finish()
            for account, side in zip(accounts, (THEIR_SIDE, OURS_SIDE), strict=True):
                drops = namespaces.drops(0, toward=side).all
                if transport in RELIABLE:
                    assert_complete(account, transport)
                else:
                    # More than there are buffers for.
                    assert 32 < len(account.lost) <= drops
            given_up = pair.ours.handle.statistics().drops.get(DropCause.REASSEMBLY_GIVEN_UP, 0)
            assert (given_up > 0) is (transport not in RELIABLE)
            assert our_link(pair, 0).down_count == 0
            await exchange_large(pair)
