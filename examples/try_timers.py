"""Try timers of links on a simulated network, before a real one: ``python examples/try_timers.py``.

Two hosts with one link live through an hour on a network that is as bad as told. How often does the
link go down though the network works? How long does it take to notice that the network does not,
and to be up again? For instance, where a fifth of all packets is lost::

    python examples/try_timers.py --latency 0.03 --jitter 0.03 --loss 0.2
    python examples/try_timers.py --latency 0.03 --jitter 0.03 --loss 0.2 \
        --ping-interval 0.25 --pong-timeout 4 --pong-count 3

docs/programs.md says how to choose.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Final

import trio

from knet_trio import Host, KnetError, Link, open_handle
from knet_trio.testing import Conditions, SimulatedNetwork, run

HERE: Final = ("10.0.0.1", 5405)
THERE: Final = ("10.0.0.2", 5405)
# A link has more patience for nine seconds after it was added or went down.
GROWN_UP: Final = 10.0
# A link that has not been up for that long by then will not be.
GIVE_UP: Final = 3600.0


async def add_link(
    host: Host, src: tuple[str, int], dst: tuple[str, int], timers: argparse.Namespace
) -> Link:
    """Add a link with the timers that are tried."""
    return await host.add_link(
        0,
        src,
        dst,
        ping_interval=timers.ping_interval,
        pong_timeout=timers.pong_timeout,
        pong_count=timers.pong_count,
    )


async def seconds(wait: Callable[[], Awaitable[None]]) -> float:
    """Return how long it takes."""
    began = trio.current_time()
    await wait()
    return trio.current_time() - began


async def grow_up(link: Link) -> None:
    """Wait until the link is up and has its usual patience."""
    with trio.fail_after(GIVE_UP):
        await link.wait_connected()
        await trio.sleep(GROWN_UP)
        while not link.status.connected:
            await link.wait_connected()
            await trio.sleep(GROWN_UP)


async def measure(network: SimulatedNetwork, timers: argparse.Namespace) -> None:
    """Watch a link while the network works, then break that again and again."""
    async with open_handle(1) as here, open_handle(2) as there:
        link = await add_link(here.add_host(2), HERE, THERE, timers)
        await add_link(there.add_host(1), THERE, HERE, timers)
        await grow_up(link)
        before = link.status.stats.down_count
        await trio.sleep(timers.hours * 3600)
        downs = link.status.stats.down_count - before
        print(f"down though the network works: {downs / timers.hours:.1f} times an hour")
        noticed: list[float] = []
        back: list[float] = []
        for _ in range(timers.cuts):
            await grow_up(link)
            network.cut(HERE[0], THERE[0])
            noticed.append(await seconds(link.wait_disconnected))
            # At any moment between two pings.
            await trio.sleep(random.uniform(0, timers.ping_interval))
            network.heal()
            back.append(await seconds(link.wait_connected))
            await trio.sleep(random.uniform(0, timers.ping_interval))
        for what, times in (("dead network noticed", noticed), ("up again when mended", back)):
            print(f"{what}: {min(times):.1f} to {max(times):.1f} s, median {median(times):.1f} s")


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description="Try timers of links on a simulated network.")
    add = parser.add_argument
    add("--ping-interval", type=float, default=1.0, help="seconds")
    add("--pong-timeout", type=float, default=2.0, help="seconds")
    add("--pong-count", type=int, default=5)
    add("--latency", type=float, default=0.001, help="seconds each way")
    add("--jitter", type=float, default=0.0, help="more seconds at most, each way")
    add("--loss", type=float, default=0.0, help="share of the packets, 0 to 1, each way")
    add("--burst", type=float, default=1.0, help="how many are lost in a row on average")
    add("--hours", type=float, default=1.0, help="to watch the link, simulated")
    add("--cuts", type=int, default=20, help="how often the network breaks")
    add("--seed", type=int, default=1, help="another one is another hour")
    timers = parser.parse_args()
    # That links go down is no news here.
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    try:
        conditions = Conditions(
            latency=timers.latency, jitter=timers.jitter, loss=timers.loss, burst=timers.burst
        )
    except KnetError as error:
        parser.error(str(error))
    status = 0
    try:
        run(lambda network: measure(network, timers), seed=timers.seed, conditions=conditions)
    except* trio.TooSlowError:
        print(f"in {GIVE_UP:.0f} s the link has not once stayed up for {GROWN_UP:.0f} s")
        status = 1
    sys.exit(status)


main()
