"""More over SCTP than the path carries, and a peer that takes nothing for a while."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import trio

from tests.interop.c_node import LIBKNET
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import OURS, POLL, Pair, open_pair, our_link, wait_for
from tests.machine.sctp import OUR_SIDE, counted, our_namespace, over_sctp
from tests.network.traffic import OURS_ON, THEIRS_ON, Traffic, open_traffic

LIMIT: Final = 140.0
# So many fill a send buffer soon.
SIZE: Final = 8000
INTERVAL: Final = 0.01
SLOW: Final = "400kbit"
# Seconds in which we are watched, and how often a task of ours may run in one of them: it has pings
# to send and to answer, and room for a few packets.
WATCHED: Final = 3
MOST_STEPS: Final = 500


class Steps(trio.abc.Instrument):
    """Counts how often a task of the program runs."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.count += 1


def narrow(namespaces: NamespacePair, rate: str) -> None:
    """Let through no more than that toward the peer; of what comes faster, a little waits."""
    queue = ("rate", rate, "burst", "16kb", "latency", "100ms")
    device = namespaces.device(0)
    namespaces.run(OUR_SIDE, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *queue)


def widen(namespaces: NamespacePair) -> None:
    namespaces.run(OUR_SIDE, "tc", "qdisc", "delete", "dev", namespaces.device(0), "root")


async def fill(pair: Pair) -> None:
    """Until there is no room for more."""
    await wait_for(lambda: our_link(pair, 0).tx_data_retries > 0)


async def assert_idle() -> None:
    """Nothing of ours runs round and round."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    began = trio.current_time()
    await trio.sleep(WATCHED)
    trio.lowlevel.remove_instrument(steps)
    assert steps.count <= MOST_STEPS * (trio.current_time() - began)


async def their_link(pair: Pair) -> dict[str, int]:
    """The counters of the link at the peer."""
    stats: dict[str, int] = (await pair.c.link_status(OURS, 0))["stats"]
    return stats


async def assert_complete(pair: Pair, traffic: Traffic, their_downs: int) -> None:
    """All has arrived both ways, in order, and neither link was down meanwhile."""
    sent, _ = await traffic.stop()
    while (await their_link(pair))["rx_data_packets"] < sent:  # noqa: ASYNC110
        await trio.sleep(POLL)
    ours, theirs = await traffic.finish()
    assert counted(pair) == {}
    assert our_link(pair, 0).down_count == 0
    assert (await their_link(pair))["down_count"] == their_downs
    assert ours.in_order
    assert theirs.in_order
    assert theirs.lost == []
    if pair.setup.program != LIBKNET:
        # libknet drops what its program does not take at once.
        assert ours.lost == []


async def test_a_path_that_is_full(program: str) -> None:
    """Pings go before data, so the link stays up; nothing is lost, and nobody is busy waiting."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = replace(over_sctp(namespaces, program), channels=(OURS_ON, THEIRS_ON))
        async with open_pair(setup) as pair:
            downs = (await their_link(pair))["down_count"]
            narrow(namespaces, SLOW)
            async with open_traffic(pair, SIZE, INTERVAL) as traffic:
                await fill(pair)
                await pair.c.stop_stream()
                await assert_idle()
                # What waits in the send buffer takes longer.
                assert await pair.ours.host.links[0].ping() is not None
                widen(namespaces)
                await assert_complete(pair, traffic, downs)


async def test_a_peer_that_is_stopped(program: str) -> None:
    """What its system does not take waits here, and arrives when it goes on."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        setup = replace(setup, channels=(OURS_ON, THEIRS_ON), pong_timeout=60.0)
        async with open_pair(setup) as pair, open_traffic(pair, SIZE, INTERVAL) as traffic:
            downs = (await their_link(pair))["down_count"]
            pair.c.suspend()
            await fill(pair)
            await assert_idle()
            pair.c.resume()
            await assert_complete(pair, traffic, downs)
