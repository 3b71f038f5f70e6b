"""Whether the key-value store is linearizable while the network and its hosts fail."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import attrs
import trio

from examples.key_value import Client, NoMajorityError, Replica, UnknownOutcomeError
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.examples.histories import Operation, is_linearizable
from tests.examples.stores import StoreCluster, directory, open_cluster, simulate


class Trial:
    """Hosts that set and get one value while the network and the hosts fail, and what they saw."""

    def __init__(self, cluster: StoreCluster) -> None:
        self.history: list[Operation] = []
        self.refused = set[str]()
        self._cluster = cluster
        self._numbers = count()

    async def use(self, host_id: int) -> None:
        """Set and get on a host, whenever it runs."""
        member = self._cluster[host_id]
        while True:
            await trio.sleep(random.expovariate(4))
            if member.is_running:
                done = trio.Event()
                member.start_soon(partial(self._do_one, member.store, done))
                await done.wait()

    async def _do_one(self, store: Replica | Client, done: trio.Event) -> None:
        try:
            await random.choice((self._set, self.get))(store)
        finally:
            done.set()

    async def _set(self, store: Replica | Client) -> None:
        value, began = f"value {next(self._numbers)}", trio.current_time()
        # If the host crashes, or does not know, then nobody knows.
        unknown = Operation("set", value, began)
        self.history.append(unknown)
        try:
            await store.set("key", value)
        except UnknownOutcomeError:
            return
        except NoMajorityError:
            self.refused.add(value)
        else:
            self.history.append(attrs.evolve(unknown, ended=trio.current_time()))
        self.history.remove(unknown)

    async def get(self, store: Replica | Client) -> None:
        """Get the value, and note it."""
        began = trio.current_time()
        with suppress(NoMajorityError):
            value = await store.get("key")
            self.history.append(Operation("get", value, began, trio.current_time()))

    async def break_things(self) -> None:
        """Cut the network into parts, and have hosts crash, as long as this runs."""
        cluster = self._cluster
        while True:
            await trio.sleep(random.uniform(0.5, 4))
            if random.random() < 0.7:
                hosts = random.sample(list(cluster.members), len(cluster.members))
                size = random.randint(1, len(hosts) - 1)
                cluster.partition(hosts[:size], hosts[size:])
                await trio.sleep(random.uniform(0.1, 6))
                cluster.network.heal()
            else:
                member = cluster[random.choice(cluster.copies)]
                await member.crash()
                await trio.sleep(random.uniform(0.1, 6))
                await member.start()

    def check(self) -> None:
        """Judge what they saw."""
        got = {one.value for one in self.history if one.kind == "get"}
        assert not got & self.refused, "a value was refused, and set all the same"
        assert is_linearizable(self.history), "this history is not linearizable"


async def try_it(network: SimulatedNetwork, path: Path, copies: int) -> Trial:
    """Use a store with so many copies for a while, and let it recover."""
    host_ids = range(1, copies + 1)
    async with open_cluster(network, path, copies=host_ids, clients=[8, 9]) as cluster:
        trial = Trial(cluster)
        network.conditions = Conditions(latency=0.02, jitter=0.1, loss=0.1, duplicate=0.05)
        async with trio.open_nursery() as nursery:
            for host_id in cluster.members:
                nursery.start_soon(trial.use, host_id)
            with trio.move_on_after(40):
                await trial.break_things()
            nursery.cancel_scope.cancel()
        network.heal()
        for member in cluster.members.values():
            if not member.is_running:
                await member.start()
        for member in cluster.members.values():
            await member.wait_reachable(*(set(cluster.members) - {member.host_id}))
        await cluster.agreed()
        await trial.get(cluster[9].store)
        return trial


def play(seed: int) -> Trial:
    """Make the trial of a seed, every fourth with five copies."""
    copies = 5 if seed % 4 == 3 else 3
    with directory() as path:
        return simulate(lambda network: try_it(network, path, copies), seed=seed)
