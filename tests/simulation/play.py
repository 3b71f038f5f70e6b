"""A scenario from its beginning to the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import cast

import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio.testing import SimulatedNetwork, run
from tests.simulation.cluster import Cluster
from tests.simulation.model import Model
from tests.simulation.scenario import LAST_MESSAGES, Scenario


def play(scenario: Scenario, tamper: Callable[[Cluster], None] | None = None) -> None:
    """Play ``scenario``, and raise what was wrong, a BrokenPromiseError or what the package raised.

    ``tamper`` is called before the messages of each act are judged.
    """

    async def main(network: SimulatedNetwork) -> None:
        cluster = Cluster(scenario, network)
        model = Model(cluster)
        async with trio.open_nursery() as nursery:
            await cluster.start(nursery)
            for faults in scenario.acts:
                cluster.calm(rough=True)
                cluster.talking.set()
                await cluster.act(nursery, faults, model.check_links)
                cluster.calm(rough=False)
                cluster.talking = trio.Event()
                await trio.sleep(scenario.patience)
                await wait_all_tasks_blocked()
                model.check_links(calm=True)
                model.check_calls()
                for node in cluster.nodes.values():
                    await node.probe()
                await trio.sleep(LAST_MESSAGES)
                await wait_all_tasks_blocked()
                if tamper is not None:
                    tamper(cluster)
                model.check_messages()
            nursery.cancel_scope.cancel()

    try:
        run(main, seed=scenario.seed)
    except Exception as error:
        error.add_note(f"the scenario was {json.dumps(scenario.to_dict())}")
        raise


def causes(error: Exception) -> list[Exception]:
    """What is in groups of errors."""
    if isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error)
        return [cause for each in error.exceptions for cause in causes(each)]
    return [error]
