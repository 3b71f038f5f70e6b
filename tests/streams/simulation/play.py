"""A scenario from its beginning to the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from typing import Final

import attrs
import trio

from knet_trio.testing import SimulatedNetwork, run
from tests.datafds import living_tasks
from tests.streams.simulation.cluster import Cluster
from tests.streams.simulation.judge import Judge
from tests.streams.simulation.record import Result, fail
from tests.streams.simulation.scenario import SETTLE, Job, JobKind, Scenario

# Simulated seconds that nothing needs.
LIMIT: Final = 1800.0
# Those that all jobs have at the end, when nothing is wrong any more, beside ``patience``.
LAST: Final = 60.0


@attrs.frozen
class Played:
    """What came of a scenario: the same for each run with the same seed."""

    digest: str
    packets: int
    results: dict[str, int]


def play(scenario: Scenario, tamper: Callable[[Cluster], None] | None = None) -> Played:
    """Play ``scenario``, and raise what was wrong, a BrokenPromiseError or what the package raised.

    ``tamper`` is called before it is judged.
    """

    async def main(network: SimulatedNetwork) -> Played:
        tasks = living_tasks()
        cluster = Cluster(scenario, network)
        judge = Judge(cluster)
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                await cluster.start(nursery)
                await trio.sleep(SETTLE)
                cluster.apply()
                began = trio.current_time()
                async with trio.open_nursery() as storm:
                    storm.start_soon(cluster.suffer, nursery, began)
                    storm.start_soon(_want, cluster, scenario.jobs, began)
                cluster.calm_down()
                await _finish(cluster)
                await trio.sleep(scenario.recovery)
                await _want(cluster, _last_jobs(cluster), trio.current_time())
                await _finish(cluster)
                await trio.sleep(1)
                if tamper is not None:
                    tamper(cluster)
                judge.check_all()
                judge.check_left()
                for node in cluster.nodes.values():
                    node.leave(kill=False)
                for node in cluster.nodes.values():
                    await node.ended.wait()
        if living_tasks() != tasks:
            fail(f"{living_tasks() - tasks} tasks are left")
        judge.check_garbage()
        results = {str(result): 0 for result in Result}
        for call in cluster.record.calls:
            results[str(call.result)] += 1
        return Played(cluster.record.digest(), network.statistics().sent, results)

    try:
        return run(main, seed=scenario.seed)
    except Exception as error:
        error.add_note(f"the scenario was {json.dumps(scenario.to_dict(), default=str)}")
        raise


async def _want(cluster: Cluster, jobs: tuple[Job, ...], began: float) -> None:
    """Have all jobs begin at their times."""
    for job in jobs:
        await trio.sleep_until(began + job.begin)
        cluster.nodes[job.a].want(job)


async def _finish(cluster: Cluster) -> None:
    """Wait until no call is open any more."""
    ends = trio.current_time() + cluster.scenario.patience + LAST
    while True:
        still = [call for call in cluster.record.calls if call.result is Result.OPEN]
        if not still and not cluster.record.busy:
            return
        if trio.current_time() > ends:
            fail(f"{len(still)} calls hang, {', '.join(map(str, still))}")
        await trio.sleep(0.5)


def _last_jobs(cluster: Cluster) -> tuple[Job, ...]:
    """One of each kind for every two hosts, which nothing must go wrong with."""
    number = 1 + max(cluster.jobs, default=0)
    jobs: list[Job] = []
    for a, b in permutations(cluster.nodes, 2):
        for kind in JobKind:
            back = 3 if kind is JobKind.MESSAGES else 10_000
            jobs.append(Job(number=number, kind=kind, begin=0, a=a, b=b, size=5_000, back=back))
            number += 1
    cluster.jobs.update((job.number, job) for job in jobs)
    return tuple(jobs)
