"""Faults and an attacker at random, model ``aead``: no message comes twice, and all is well after.

Who runs it with other seeds: ``KNET_TRIO_ATTACKS=1000 pytest tests/attack/test_aead_at_random.py``.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import suppress

import pytest
import trio

from knet_trio import LinkPolicy
from knet_trio.testing import Conditions, SimulatedNetwork, run
from tests.attack.recordings import ELSEWHERE, Mesh, Node, at, open_mesh

SEEDS = int(os.environ.get("KNET_TRIO_ATTACKS", "3"))
HOSTS = (1, 2, 3)


async def attack(mesh: Mesh, rng: random.Random) -> None:
    """Play what was recorded, in pieces, in order or not, from anywhere to anybody."""
    tape = mesh.tape.records
    while True:
        await trio.sleep(rng.choice((0.0, 0.001, 0.02)))
        start = rng.randrange(len(tape))
        piece = tape[start : start + rng.choice((1, 5, 50))]
        if rng.random() < 0.3:
            rng.shuffle(piece)
        source = None if rng.random() < 0.7 else rng.choice((ELSEWHERE, at(1), at(2), at(3)))
        to = None if rng.random() < 0.8 else at(rng.choice(HOSTS), rng.randrange(2))
        mesh.tape.play(piece, source=source, to=to)


async def talk(mesh: Mesh, node: Node, rng: random.Random) -> None:
    """Send messages, over all lives of a host."""
    number = 0
    while True:
        number += 1
        to = rng.choice((None, [2], [3], [1, 2], [1, 2, 3]))
        data = b"%d of %d " % (number, node.host_id) + bytes(rng.choice((0, 3, 900, 4000)))
        # It may be between two lives.
        with suppress(trio.ClosedResourceError):
            hosts = None if to is None else [one for one in to if one != node.host_id]
            await node.channel.send(data, to=hosts or None)
        await trio.sleep(rng.choice((0.001, 0.01)))


async def disturb(mesh: Mesh, rng: random.Random) -> None:
    """Restart hosts, cut wires, renew lives, and mend it all in the end."""
    network = mesh.network
    for _ in range(6):
        await trio.sleep(rng.uniform(0, 1))
        fault = rng.randrange(5)
        one, other = rng.sample(HOSTS, 2)
        link = rng.randrange(2)
        if fault == 0:
            again = rng.sample(HOSTS, rng.choice((1, 1, 2)))
            for host_id in again:
                await mesh[host_id].stop()
            await trio.sleep(rng.choice((0.0, 0.1, 2.0)))
            for host_id in again:
                await mesh.nursery.start(mesh[host_id].run)
        elif fault == 1:
            network.cut(at(one, link)[0], at(other, link)[0], one_way=rng.random() < 0.5)
        elif fault == 2:
            network.partition(
                [at(one, n)[0] for n in range(2)], [at(other, n)[0] for n in range(2)]
            )
            await trio.sleep(rng.uniform(0, 2))
            network.heal()
        elif fault == 3:
            mesh[one].handle.renew()
        else:
            network.set_wire(at(one, link)[0], at(other, link)[0], Conditions(latency=0.1))
    await trio.sleep(0.5)
    network.heal()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_no_message_comes_twice(seed: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        rng = random.Random(f"attack {seed}")
        network.conditions = Conditions(
            jitter=rng.choice((0.0, 0.005)),
            reorder=rng.choice((0.0, 0.1)),
            duplicate=0.1,
            loss=0.01,
        )
        policy = rng.choice(list(LinkPolicy))

        def make(host_id: int) -> Node:
            return Node(host_id, HOSTS, links=2, policy=policy)

        async with open_mesh(network, *HOSTS, make=make) as mesh:
            async with trio.open_nursery() as nursery:
                for node in mesh.nodes.values():
                    nursery.start_soon(talk, mesh, node, random.Random(f"{seed} {node.host_id}"))
                await trio.sleep(0.2)
                nursery.start_soon(attack, mesh, rng)
                await disturb(mesh, rng)
                # The attack goes on while hosts find each other again.
                await mesh.start()
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
            await trio.sleep(1)
            for node in mesh.nodes.values():
                twice = {data: n for data, n in Counter(node.received).items() if n > 1}
                assert not twice
                node.received.clear()
            network.conditions = Conditions()
            await mesh.start()
            await mesh.chat(3)
            await trio.sleep(1)
            mesh.check()

    run(main, seed=seed)
