"""Going over to model ``aead`` and back, and hosts of which only one has it."""

from __future__ import annotations

import pytest
import trio

from knet_trio import CryptoConfig, LinkPolicy
from knet_trio.testing import SimulatedNetwork, run
from tests.attack.recordings import AEAD, INTERVAL, KEY, Mesh, Node, at, open_mesh
from tests.cluster import wait_for

CBC = CryptoConfig(KEY[::-1])
# Many of them, and less than the time between two pings.
ROUND_TRIPS = INTERVAL / 8
OTHER_CBC = CryptoConfig(KEY[::-1] + b"another")
OTHER_AEAD = CryptoConfig(KEY + b"another", "chacha20-poly1305", model="aead")


async def wait_confirmed(mesh: Mesh, slot: int) -> None:
    """Wait until every host has answered every other one with what is in that slot."""
    hosts = [host for node in mesh.nodes.values() for host in node.handle.hosts.values()]
    await wait_for(lambda: all(host.confirmed(slot) for host in hosts))


async def go_over(mesh: Mesh, config: CryptoConfig, slot: int) -> None:
    """Put a configuration into the free slot everywhere, use it, and clear the other slot."""
    for node in mesh.nodes.values():
        node.handle.set_crypto(config, slot)
        await trio.sleep(0.1)
    if config.model == "aead":
        await wait_confirmed(mesh, slot)
    for node in mesh.nodes.values():
        node.handle.use_crypto(slot)
        await trio.sleep(0.1)
    await trio.sleep(0.1)
    for node in mesh.nodes.values():
        node.handle.set_crypto(None, 3 - slot)
        await trio.sleep(0.1)


async def talk(mesh: Mesh) -> None:
    """Send 1000 messages a second, until cancelled."""
    number = 0
    while True:
        number += 1
        for source in mesh.nodes:
            if number % 2:
                await mesh.send(source, size=number * 7 % 2000)
            else:
                to = source % 3 + 1
                await mesh.send(source, to, size=number * 7 % 2000)
        await trio.sleep(0.003)


@pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ACTIVE, LinkPolicy.ROUND_ROBIN])
def test_a_mesh_goes_over_and_back_and_loses_nothing(policy: LinkPolicy) -> None:
    async def main(network: SimulatedNetwork) -> None:
        hosts = (1, 2, 3)

        def make(host_id: int) -> Node:
            return Node(host_id, hosts, links=2, policy=policy, crypto=CBC)

        async with open_mesh(network, *hosts, make=make) as mesh:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, mesh)
                await go_over(mesh, AEAD, 2)
                await go_over(mesh, OTHER_AEAD, 1)
                await go_over(mesh, OTHER_CBC, 2)
                nursery.cancel_scope.cancel()
            await trio.sleep(1)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())
            for node in mesh.nodes.values():
                assert not set(node.drops()) & {"unexpected_pong", "replayed"}

    run(main, seed=1)


def test_from_clear_to_it_and_back() -> None:
    async def main(network: SimulatedNetwork) -> None:
        hosts = (1, 2, 3)
        async with open_mesh(
            network, *hosts, make=lambda one: Node(one, hosts, crypto=None)
        ) as mesh:
            for node in mesh.nodes.values():
                node.handle.allow_clear_traffic = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, mesh)
                await go_over(mesh, AEAD, 1)
                for node in mesh.nodes.values():
                    node.handle.use_crypto(0)
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            await trio.sleep(1)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=2)


def test_a_slot_that_is_set_anew_forgets_only_its_own() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            host = mesh[1].handle.hosts[2]
            assert host.confirmed(1)
            assert not host.confirmed(2)
            mesh[1].handle.set_crypto(OTHER_AEAD, 2)
            mesh[2].handle.set_crypto(OTHER_AEAD, 2)
            await wait_confirmed(mesh, 2)
            mesh[1].handle.set_crypto(None, 2)
            assert host.confirmed(1)
            assert not host.confirmed(2)
            mesh[1].handle.set_crypto(OTHER_AEAD, 2)
            assert not host.confirmed(2)
            await wait_confirmed(mesh, 2)
            await mesh.chat(2)
            mesh.check()

    run(main, seed=3)


def test_a_host_that_has_started_again_is_not_believed_in_the_slot_that_it_has_left() -> None:
    """What it sealed there before, and nobody has seen yet, is of another life."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            for node in mesh.nodes.values():
                node.handle.set_crypto(OTHER_AEAD, 2)
            await wait_confirmed(mesh, 2)
            for node in mesh.nodes.values():
                node.handle.use_crypto(2)
            network.cut(at(1)[0], at(2)[0])
            mesh.tape.take()
            for _ in range(5):
                await mesh[2].channel.send(b"held back", to=[1])
            await trio.sleep(0.01)
            held = [record for record in mesh.tape.take() if record.source == at(2)]
            network.heal()
            await mesh[2].stop()
            await mesh.nursery.start(mesh[2].run)
            host = mesh[1].handle.hosts[2]
            # It has slot 1 alone now.
            await trio.sleep(2 * INTERVAL)
            assert host.status.reachable
            assert host.confirmed(1)
            assert not host.confirmed(2)
            mesh.tape.play(held)
            await trio.sleep(INTERVAL)
            mesh.check()
            assert mesh[1].drops()["unconfirmed"] >= 5
            assert len(held) >= 5

    run(main, seed=7)


@pytest.mark.parametrize(("first", "second"), [(AEAD, OTHER_AEAD), (CBC, AEAD), (AEAD, CBC)])
def test_a_dynamic_link_comes_up_while_its_ends_use_different_slots(
    first: CryptoConfig, second: CryptoConfig
) -> None:
    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), dynamic=host_id == 1, crypto=first)

        async with open_mesh(network, 1, 2, make=make) as mesh:
            for node in mesh.nodes.values():
                node.handle.set_crypto(second, 2)
            mesh[2].handle.use_crypto(2)
            await trio.sleep(1)
            network.cut(at(1)[0], at(2)[0])
            for node in mesh.nodes.values():
                for host in node.handle.hosts.values():
                    await host.links[0].wait_disconnected()
            network.heal()
            await mesh.start()
            await mesh.chat(3)
            mesh.check()

    run(main, seed=8)


@pytest.mark.parametrize(
    ("other", "here", "there"),
    [
        (None, "clear", "this host has no key"),
        (CBC, "it uses another envelope", "it uses another envelope: model 'aead'"),
        (OTHER_AEAD, "a wrong key or another cipher", "a wrong key or another cipher"),
        (CryptoConfig(KEY + b"x", model="aead"), "with a wrong key", "with a wrong key"),
    ],
)
def test_both_ends_tell_what_is_wrong(other: CryptoConfig | None, here: str, there: str) -> None:
    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), crypto=AEAD if host_id == 1 else other)

        nodes = [make(1), make(2)]
        async with trio.open_nursery() as nursery:
            for node in nodes:
                await nursery.start(node.run)
            await trio.sleep(2)
            for node, words in zip(nodes, (here, there), strict=True):
                assert words in node.handle.explain()
                assert "compare key" in node.handle.explain() or "crypto" in node.handle.explain()
            assert "it has not answered yet" in nodes[0].handle.hosts[2].explain()
            nursery.cancel_scope.cancel()

    run(main, seed=4)


def test_renewed_it_goes_on_without_a_loss_once_it_has_answered() -> None:
    """Also where the state was set back: what is then sealed again is of another life."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(3)
            context = mesh[1].handle._context  # pyright: ignore[reportPrivateUsage]
            life = context.crypto.life
            name, counter = life.name, life.counter
            await mesh.chat(3)
            tape = mesh.tape.take()
            # A snapshot is resumed.
            life.name, life.counter = name, counter
            mesh[1].handle.renew()
            # Not only with the next scheduled ping.
            await trio.sleep(ROUND_TRIPS)
            await mesh.chat(1)
            mesh.tape.play(tape)
            await mesh.chat(3)
            mesh.tape.play(tape)
            await trio.sleep(0.5)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=5)


def test_cancelled_sends_use_no_counter_twice() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            network.hold("10.0.0.1", "10.0.0.2")
            channel = mesh[1].channel
            for number in range(90):
                data = bytes(1000) * (1 + number % 20)
                with trio.move_on_after(0.001 * (number % 3)):
                    if number % 5:
                        await channel.send_many([data] * 8, to=[2, 3] if number % 2 else None)
                    else:
                        await channel.send_sync(data, to=[2])
                if number == 30:
                    network.release("10.0.0.1", "10.0.0.2")
                if number == 60:
                    network.hold("10.0.0.1", "10.0.0.2")
            network.release("10.0.0.1", "10.0.0.2")
            await trio.sleep(1)
            assert mesh[3].received

    # The tape holds that.
    run(main, seed=6)
