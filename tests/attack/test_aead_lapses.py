"""When a life is believed no more: contact lost, silence, a member that lies, a host twice."""

from __future__ import annotations

import gc

import trio

from knet_trio import CryptoConfig, Host, LinkPolicy
from knet_trio._core.onwire import Data, encode_data
from knet_trio._crypto.aead import EPOCH_BITS, KeySchedule, PacketSealer, find_algorithm
from knet_trio._crypto.life import LAST_COUNTER
from knet_trio._pipeline.aead_opening import AeadOpening
from knet_trio._state.trust import HostTrust
from knet_trio.testing import Conditions, SimulatedNetwork, run
from tests.attack.recordings import AEAD, INTERVAL, PATIENCE, TIMEOUT, Mesh, Node, at, open_mesh


def trust_of(mesh: Mesh, host_id: int, other: int) -> HostTrust:
    return mesh[host_id].handle.hosts[other].state.trust


def seal_lie(mesh: Mesh) -> bytes:
    """Seal data to host 1 as another member: with the last counter of the life of host 2."""
    algorithm = find_algorithm(AEAD)
    assert algorithm is not None
    life = mesh[2].handle._context.crypto.life  # pyright: ignore[reportPrivateUsage]

    class LastCounter:
        """The life of the other, at its end."""

        name = life.name

        def take(self, count: int) -> range:
            return range(LAST_COUNTER + 1 - count, LAST_COUNTER + 1)

    packet = encode_data(Data(2, 1, 0, False, 1, 0, 0, b"a lie"))
    sealer = PacketSealer(KeySchedule(AEAD.key, algorithm), 2, LastCounter())
    return sealer.seal_to([packet], 1)[0]


def test_when_the_last_link_goes_down_what_was_held_back_is_refused() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            host = mesh[1].handle.hosts[2]
            assert host.confirmed(1)
            life = mesh[1].handle._context.crypto.life  # pyright: ignore[reportPrivateUsage]
            before = life.name
            network.cut(at(1)[0], at(2)[0])
            mesh.tape.take()
            for _ in range(5):
                await mesh[2].channel.send(b"held back", to=[1])
            await trio.sleep(0.01)
            held = mesh.tape.take()
            await host.wait_unreachable()
            assert not host.confirmed(1)
            # It has reached nobody since, so that it begins another life.
            assert life.name != before
            network.heal()
            await mesh.start()
            await trio.sleep(1)
            assert host.confirmed(1)
            assert len(held) >= 5
            mesh.tape.play(held)
            await mesh.chat(2)
            mesh.check()
            assert mesh[1].drops()["unconfirmed"] >= 5

    run(main, seed=1)


def test_silence_while_no_link_is_up() -> None:
    async def main(network: SimulatedNetwork) -> None:
        node = Node(1, (1, 2))
        peer = Node(2, (1, 2))
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            await nursery.start(peer.run)
            host = node.handle.hosts[2]
            while not host.confirmed(1):  # noqa: ASYNC110  # no event tells of it
                await trio.sleep(0.001)
            assert not host.links[0].status.connected
            network.cut(at(1)[0], at(2)[0])
            await trio.sleep(9 * TIMEOUT)
            assert host.confirmed(1)
            await trio.sleep(2 * TIMEOUT)
            assert not host.confirmed(1)
            nursery.cancel_scope.cancel()

    run(main, seed=2)


def test_a_member_that_takes_the_last_counters_of_another_costs_it_a_few_timeouts() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            life = mesh[2].handle._context.crypto.life  # pyright: ignore[reportPrivateUsage]
            name, counter = life.name, life.counter
            assert network.inject(seal_lie(mesh), at(2), at(1))
            began = trio.current_time()
            host = mesh[1].handle.hosts[2]
            with trio.fail_after(PATIENCE):
                await host.wait_unreachable()
                await mesh.start()
                await trio.sleep(1)
            # The timeout is ten times as long while a link is young.
            assert trio.current_time() - began < 25 * TIMEOUT
            assert (life.name, life.counter > counter) == (name, True) or life.name != name
            mesh[1].received.clear()
            mesh[2].received.clear()
            for host_id in (1, 2):
                mesh.sent[host_id].clear()
            await mesh.chat(2)
            mesh.check()

    run(main, seed=3)


def test_a_recording_of_a_lie_costs_nothing_more() -> None:
    """The life that it names goes on, since its host reaches another one."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            await mesh.chat(2)
            life = mesh[2].handle._context.crypto.life  # pyright: ignore[reportPrivateUsage]
            name, lie = life.name, seal_lie(mesh)

            async def play() -> None:
                while True:
                    network.inject(lie, at(2), at(1))
                    await trio.sleep(0.01)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(play)
                with trio.fail_after(PATIENCE):
                    await mesh[1].handle.hosts[2].wait_unreachable()
                    await mesh[2].handle.hosts[1].wait_unreachable()
                    await mesh.start()
                downs = mesh[1].downs()
                await trio.sleep(25 * TIMEOUT)
                assert (mesh[1].downs(), life.name) == (downs, name)
                nursery.cancel_scope.cancel()
            for host_id in (1, 2, 3):
                mesh[host_id].received.clear()
                mesh.sent[host_id].clear()
            await mesh.chat(2)
            mesh.check()

    run(main, seed=3)


def test_two_handles_with_one_id_are_told_apart_in_the_end() -> None:
    """While both are there nothing is promised but that nothing comes twice."""

    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), dynamic=host_id == 1)

        async with open_mesh(network, 1, 2, make=make) as mesh:
            await mesh.chat(2)
            twin = Node(2, (1, 2), place=7)
            async with trio.open_nursery() as nursery:
                await nursery.start(twin.run)
                await trio.sleep(20 * INTERVAL)
                await twin.stop()
            await mesh.start()
            await trio.sleep(10 * TIMEOUT)
            await mesh.start()
            assert len(mesh[1].received) == len(set(mesh[1].received))
            for node in mesh.nodes.values():
                node.received.clear()
                mesh.sent[node.host_id].clear()
            await mesh.chat(3)
            mesh.check()

    run(main, seed=4)


def test_another_key_in_the_slot_is_another_beginning() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            other = CryptoConfig(AEAD.key[::-1], model="aead")
            for node in mesh.nodes.values():
                node.handle.replace_crypto(other)
            assert not mesh[1].handle.hosts[2].confirmed(1)
            await trio.sleep(2)
            assert mesh[1].handle.hosts[2].confirmed(1)
            await mesh.start()
            await mesh.chat(2)
            mesh.check()
            assert trust_of(mesh, 1, 2).is_up

    run(main, seed=5)


def test_an_epoch_ends_without_anybody_noticing() -> None:
    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(reorder=0.2, reorder_delay=0.02)
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            for host_id in (1, 2):
                context = mesh[host_id].handle._context  # pyright: ignore[reportPrivateUsage]
                context.crypto.life.counter = (1 << EPOCH_BITS) - 100
            await mesh.chat(40)
            mesh.check()
            for node in mesh.nodes.values():
                assert set(node.drops()) <= {"duplicate"}
                assert not node.downs()

    run(main, seed=6)


def test_keys_that_are_out_of_use_are_not_kept() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            for epoch in range(1, 6):
                for host_id in (1, 2):
                    context = mesh[host_id].handle._context  # pyright: ignore[reportPrivateUsage]
                    context.crypto.life.counter = (epoch << EPOCH_BITS) - 5
                await mesh.chat(10)
            mesh.check()
            openings = [one for one in gc.get_objects() if isinstance(one, AeadOpening)]
            assert len(openings) >= len(mesh.nodes)
            for opening in openings:
                known = opening._known.values()  # pyright: ignore[reportPrivateUsage]
                assert {one.epoch for one in known} <= {4, 5}
                # One to the host and one to all of them, each in two epochs.
                assert len(known) <= 4

    # Those of earlier tests.
    gc.collect()
    run(main, seed=6)


def test_at_the_last_counter_another_life_begins() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(2)
            life = mesh[1].handle._context.crypto.life  # pyright: ignore[reportPrivateUsage]
            before, life.counter = life.name, LAST_COUNTER - 5
            # Pings use it up, and have the next life confirmed.
            await trio.sleep(10 * INTERVAL)
            assert life.name != before
            await mesh.chat(5)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=7)


def test_links_in_turns_of_which_one_takes_100_ms_longer() -> None:
    async def main(network: SimulatedNetwork) -> None:
        hosts = (1, 2)

        def make(host_id: int) -> Node:
            return Node(host_id, hosts, links=2, policy=LinkPolicy.ROUND_ROBIN)

        network.set_wire(at(1, 1)[0], at(2, 1)[0], Conditions(latency=0.1))
        async with open_mesh(network, *hosts, make=make) as mesh:
            before = mesh[2].drops()
            for number in range(300):
                for _ in range(20):
                    await mesh.send(1, 2, size=number % 5 * 900)
                await trio.sleep(0.002)
            await trio.sleep(1)
            mesh.check()
            assert mesh[2].drops() == before

    run(main, seed=8)


def test_a_host_that_is_removed_and_added_again_is_another_one() -> None:
    """What has shown that it was there, before, shows nothing of it now."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            handle = mesh[1].handle

            async def add() -> Host:
                host = handle.add_host(2)
                # So long a stamp of it proves something.
                await host.add_link(
                    0, at(1), at(2), ping_interval=INTERVAL, pong_timeout=5, pong_count=1
                )
                await host.wait_reachable()
                return host

            await handle.hosts[2].remove()
            mesh.tape.take()
            host = await add()
            await mesh[2].reaches_all()
            for _ in range(10):
                await mesh.send(2, 1)
            await trio.sleep(0.1)
            tape = [record for record in mesh.tape.take() if record.destination == at(1)]
            await host.remove()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mesh.tape.loop, tape)
                await add()
                await trio.sleep(INTERVAL)
                nursery.cancel_scope.cancel()
            mesh.check()

    run(main, seed=9)
