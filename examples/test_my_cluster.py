"""A small cluster program, and its tests on a simulated network.

`pytest examples/test_my_cluster.py` runs the tests, and so does `python`.

The program is a counter that every host can raise. Each tells the others now and then what it
knows, so nothing is lost for good when messages are, and all agree in the end.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from knet_trio import CryptoConfig, Handle, open_handle
from knet_trio.testing import Conditions, SimulatedNetwork, run

# The program. Nothing in it knows of tests.


class Counter:
    """Counts together with the counters of all other hosts."""

    def __init__(self, handle: Handle) -> None:
        self._me = str(handle.host_id)
        self._counts: dict[str, int] = {}
        self._channel = handle.open_channel(0)

    @property
    def value(self) -> int:
        """What all hosts have counted, as far as is known here."""
        return sum(self._counts.values())

    def add(self, amount: int) -> None:
        """Count here; the others learn of it soon."""
        self._counts[self._me] = self._counts.get(self._me, 0) + amount

    async def run(self) -> None:
        """Send and receive counts until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_counts)
            async for message in self._channel:
                heard: dict[str, int] = json.loads(message.data)
                for host, count in heard.items():
                    # Counts only grow, so of two the larger is the newer, in whatever order.
                    self._counts[host] = max(self._counts.get(host, 0), count)

    async def _send_counts(self) -> None:
        while True:
            await self._channel.send(json.dumps(self._counts).encode())
            await trio.sleep(1)


@asynccontextmanager
async def open_counter(me: int, hosts: list[int]) -> AsyncGenerator[Counter]:
    """A host of the cluster, at 10.0.0.me and 10.1.0.me."""
    # A real program reads the key from a file.
    async with open_handle(me, crypto=CryptoConfig(key=bytes(128))) as handle:
        for host_id in hosts:
            if host_id != me:
                host = handle.add_host(host_id)
                for link in (0, 1):
                    here, there = f"10.{link}.0.{me}", f"10.{link}.0.{host_id}"
                    await host.add_link(link, (here, 5405), (there, 5405))
        counter = Counter(handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.run)
            yield counter
            nursery.cancel_scope.cancel()


# Its tests: the same code, on a network that is as bad as we like.

HOSTS = [1, 2, 3]


@asynccontextmanager
async def open_cluster() -> AsyncGenerator[list[Counter]]:
    """All hosts of the cluster, after the time they need to find each other."""
    async with AsyncExitStack() as stack:
        counters = [await stack.enter_async_context(open_counter(me, HOSTS)) for me in HOSTS]
        await trio.sleep(30)
        yield counters


def test_all_agree_though_a_fifth_of_the_packets_is_lost() -> None:
    """Three times, and each time the network loses others."""

    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(latency=0.02, jitter=0.05, loss=0.2, duplicate=0.1)
        async with open_cluster() as counters:
            for _ in range(50):
                random.choice(counters).add(1)
                await trio.sleep(random.random())
            # Simulated seconds: nobody waits for them.
            await trio.sleep(60)
            assert [counter.value for counter in counters] == [50, 50, 50]

    for seed in range(3):
        run(main, seed=seed)


def test_both_sides_of_a_partition_count_on_and_agree_when_it_heals() -> None:
    """The hosts are cut from each other, on both networks."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster() as counters:
            network.partition(
                ["10.0.0.1", "10.1.0.1"], ["10.0.0.2", "10.1.0.2", "10.0.0.3", "10.1.0.3"]
            )
            for counter in counters:
                counter.add(5)
            await trio.sleep(600)
            assert [counter.value for counter in counters] == [5, 10, 10]
            network.heal()
            await trio.sleep(30)
            assert [counter.value for counter in counters] == [15, 15, 15]

    run(main)


if __name__ == "__main__":
    # What the network does to them is no news here.
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    test_all_agree_though_a_fifth_of_the_packets_is_lost()
    test_both_sides_of_a_partition_count_on_and_agree_when_it_heals()
    print("the cluster counts right")
