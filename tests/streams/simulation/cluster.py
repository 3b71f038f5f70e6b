"""The hosts, and what is done to them and to the network."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import permutations
from typing import Final

import trio

from knet_trio.testing import Conditions, Interface, SimulatedNetwork
from tests.streams.simulation.node import Node
from tests.streams.simulation.record import Record
from tests.streams.simulation.scenario import Fault, FaultKind, Job, Scenario

MTU: Final = 1500


class Cluster:
    """Hosts of a scenario on a network, and what happens to them.

    Attributes:
        broken: For every two hosts, when no link between them could work: from, to.
        calm: Whether nothing is wrong any more.
    """

    def __init__(self, scenario: Scenario, network: SimulatedNetwork) -> None:
        self.scenario = scenario
        self.record = Record()
        self.jobs: dict[int, Job] = {job.number: job for job in scenario.jobs}
        self.calm = False
        self.broken: defaultdict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        self._network = network
        self._since: dict[tuple[int, int], float] = {}
        self._cut: Counter[tuple[int, int, int]] = Counter()
        self._paused: Counter[int] = Counter()
        self._unlinked: Counter[tuple[int, int, int]] = Counter()
        self._mtus: defaultdict[int, list[int]] = defaultdict(list)
        self._restarting: set[int] = set()
        self._unlinking: set[tuple[int, int, int]] = set()
        self.nodes = {host: Node(self, host) for host in range(1, scenario.hosts + 1)}

    @staticmethod
    def address(host: int, link: int) -> str:
        """Where a host has its end of a link."""
        return f"10.{link}.0.{host}"

    def is_linked(self, a: int, b: int, link: int) -> bool:
        """Whether a host is to have that link."""
        return not self._unlinked[a, b, link]

    def conditions(self) -> Conditions:
        """What wires are like now."""
        scenario = self.scenario
        rough = not self.calm
        return Conditions(
            latency=scenario.latency,
            jitter=scenario.jitter,
            reorder=scenario.reorder if rough else 0.0,
            reorder_delay=max(0.01, scenario.latency),
            loss=scenario.loss if rough else 0.0,
            burst=scenario.burst,
            duplicate=scenario.duplicate if rough else 0.0,
            corrupt=scenario.corrupt if rough else 0.0,
            checksum=scenario.checksum,
            rate=scenario.rate or math.inf,
        )

    async def start(self, nursery: trio.Nursery) -> None:
        """Have all hosts begin their first lives."""
        for node in self.nodes.values():
            await nursery.start(node.live)

    def calm_down(self) -> None:
        """Have nothing be lost any more."""
        self.calm = True
        self.apply()

    def apply(self) -> None:
        """Have the network be as it should."""
        network, scenario = self._network, self.scenario
        network.conditions = self.conditions()
        for host in self.nodes:
            for link in range(scenario.links):
                address = self.address(host, link)
                if self._paused[host]:
                    network.pause(address)
                else:
                    network.resume(address)
                interface = Interface(mtu=min([MTU, *self._mtus[link]]))
                if network.get_interface(address) != interface:
                    network.set_interface(address, interface)
        for a, b in permutations(self.nodes, 2):
            for link in range(scenario.links):
                here, there = self.address(a, link), self.address(b, link)
                if self._cut[a, b, link]:
                    network.cut(here, there, one_way=True)
                else:
                    network.mend(here, there, one_way=True)
            if a < b:
                self._note_broken(a, b)

    def _note_broken(self, a: int, b: int) -> None:
        now = trio.current_time()
        broken = not self._works(a, b)
        since = self._since.get((a, b))
        if broken and since is None:
            self._since[a, b] = now
        elif not broken and since is not None:
            self.broken[a, b].append((since, now))
            del self._since[a, b]

    def _works(self, a: int, b: int) -> bool:
        """Whether two hosts can reach each other."""
        for host in (a, b):
            if self._paused[host] or self.nodes[host].life is None:
                return False
        return any(
            all(
                self.is_linked(*way, link) and not self._cut[*way, link] for way in ((a, b), (b, a))
            )
            for link in range(self.scenario.links)
        )

    def troubles(self, a: int, b: int) -> list[tuple[float, float]]:
        """When two hosts could not reach each other: from, to."""
        pair = (min(a, b), max(a, b))
        still = [(self._since[pair], math.inf)] if pair in self._since else []
        return self.broken[pair] + still

    # Faults.

    async def suffer(self, nursery: trio.Nursery, began: float) -> None:
        """Have all faults happen, from their beginnings to their ends."""
        async with trio.open_nursery() as storm:
            for fault in self.scenario.faults:
                storm.start_soon(self._happen, nursery, fault, began)

    async def _happen(self, nursery: trio.Nursery, fault: Fault, began: float) -> None:
        await trio.sleep_until(began + fault.begin)
        self.record.note("fault", str(fault.kind))
        if fault.kind is FaultKind.RESTART:
            await self._restart(nursery, fault, began)
        elif fault.kind is FaultKind.UNLINK:
            await self._unlink(fault, began)
        else:
            self._count(fault, 1)
            await trio.sleep_until(began + fault.end)
            self._count(fault, -1)

    def _count(self, fault: Fault, step: int) -> None:
        a, b, link = fault.a, fault.b, fault.link
        match fault.kind:
            case FaultKind.CUT:
                self._cut[a, b, link] += step
                if not fault.value:
                    self._cut[b, a, link] += step
            case FaultKind.PARTITION:
                for one, other in permutations(self.nodes, 2):
                    if (fault.value >> (one - 1) & 1) != (fault.value >> (other - 1) & 1):
                        for each in range(self.scenario.links):
                            self._cut[one, other, each] += step
            case FaultKind.PAUSE:
                self._paused[a] += step
            case FaultKind.MTU:
                if step > 0:
                    self._mtus[link].append(fault.value)
                else:
                    self._mtus[link].remove(fault.value)
            case _:
                raise AssertionError(fault)
        self.apply()

    async def _restart(self, nursery: trio.Nursery, fault: Fault, began: float) -> None:
        host = fault.a
        if host in self._restarting or any(way[0] == host for way in self._unlinking):
            return
        self._restarting.add(host)
        ways = [
            way
            for other in self.nodes
            for link in range(self.scenario.links)
            for way in ((host, other, link), (other, host, link))
            if other != host
        ]
        gone = fault.value == 2
        if gone:
            # Nobody hears of its end.
            self._cut.update(ways)
            self.apply()
        node = self.nodes[host]
        node.leave(kill=fault.value > 0)
        await node.ended.wait()
        await trio.sleep_until(max(trio.current_time(), began + fault.end))
        if gone:
            self._cut.subtract(ways)
            self.apply()
        await nursery.start(node.live)
        self._restarting.discard(host)

    async def _unlink(self, fault: Fault, began: float) -> None:
        """Have a host remove a link, and add it again."""
        a, b, link = way = (fault.a, fault.b, fault.link)
        node = self.nodes[a]
        life = node.life
        if life is None or life.handle is None or way in self._unlinking or a in self._restarting:
            return
        self._unlinking.add(way)
        self._unlinked[way] += 1
        self.apply()
        await life.handle.hosts[b].remove_link(link)
        await trio.sleep_until(max(trio.current_time(), began + fault.end))
        self._unlinked[way] -= 1
        await node.add_link(life.handle, b, link)
        self._unlinking.discard(way)
        self.apply()
