"""What becomes of recorded packets with model ``aead``: nothing, whoever has started again."""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice

import pytest
import trio

from knet_trio import LinkPolicy
from knet_trio._crypto.aead import KeySchedule, PacketKey
from knet_trio.address import Address
from knet_trio.testing import Conditions, SimulatedNetwork, run
from knet_trio.testing.fabric import Fabric
from knet_trio.testing.queues import Outgoing
from tests.attack.recordings import ELSEWHERE, Node, at, open_mesh


def test_into_the_same_life() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            await mesh.chat()
            mesh.check()
            tape = mesh.tape.take()
            for _ in range(3):
                mesh.tape.play(tape)
                mesh.tape.play(tape, source=ELSEWHERE)
                await mesh.chat(2)
            await mesh.tape.play_slowly(tape)
            await mesh.chat(2)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())
            assert "replayed" not in mesh[1].drops()

    run(main, seed=1)


@pytest.mark.parametrize("links", [1, 2])
def test_over_links_of_each_policy(links: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        for policy in (LinkPolicy.ACTIVE, LinkPolicy.ROUND_ROBIN):
            hosts = (1, 2)
            async with open_mesh(
                network,
                *hosts,
                make=lambda one: Node(one, hosts, links=links, policy=policy),  # noqa: B023
            ) as mesh:
                await mesh.chat()
                mesh.tape.play(mesh.tape.take())
                await mesh.chat(2)
                mesh.check()
                assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=2)


@pytest.mark.parametrize(("again", "lives"), [((2,), 1), ((1,), 1), ((1, 2, 3), 1), ((2,), 5)])
def test_while_hosts_start_again(again: tuple[int, ...], lives: int) -> None:
    """All that was ever sent comes in a loop, from everywhere, before, while and after."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            for _ in range(1, lives):
                await mesh.chat(2)
                for host_id in again:
                    await mesh[host_id].stop()
                await mesh.start(*again)
            await mesh.chat(4)
            mesh.check()
            tape = list(mesh.tape.records)
            for host_id in again:
                await mesh[host_id].stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mesh.tape.loop, tape)
                await trio.sleep(0.3)
                began = trio.current_time()
                await mesh.start(*again)
                assert trio.current_time() - began < 5
                await trio.sleep(1)
                downs = [node.downs() for node in mesh.nodes.values()]
                await mesh.chat(4)
                await trio.sleep(1)
                assert downs == [node.downs() for node in mesh.nodes.values()]
                nursery.cancel_scope.cancel()
            mesh.check()

    run(main, seed=3)


def test_in_bulk_at_a_host_that_has_just_started() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(30)
            tape = mesh.tape.take()
            await mesh[2].stop()
            await mesh.nursery.start(mesh[2].run)
            for _ in range(40):
                mesh.tape.play(record for record in tape if record.destination == at(2))
                await trio.sleep(0.05)
            await mesh.start()
            await mesh.chat(3)
            mesh.check()
            assert mesh[2].drops()["unconfirmed"] > 100

    run(main, seed=4)


def test_for_another_host() -> None:
    async def main(network: SimulatedNetwork) -> None:
        hosts = (1, 2, 3, 4, 65535)
        async with open_mesh(network, *hosts) as mesh:
            mesh.tape.take()
            for _ in range(5):
                await mesh.send(1, 2, 3)
                await mesh.send(1, 65535)
                await trio.sleep(0.01)
            await trio.sleep(0.3)
            tape = [record for record in mesh.tape.take() if record.source == at(1)]
            for to in (2, 3, 4):
                mesh.tape.play(tape, to=at(to))
            await trio.sleep(0.5)
            mesh.check()
            assert mesh[4].drops()["not_for_this_host"] > 10

    run(main, seed=5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_copies_that_race_the_original_from_elsewhere(
    dynamic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused for where it came from marks nothing: the original is taken."""
    carry = Fabric._carry  # pyright: ignore[reportPrivateUsage]

    def carry_and_copy(self: Fabric, outgoing: Outgoing, departure: float) -> None:
        if outgoing.source[0] != ELSEWHERE[0]:
            self.inject(outgoing.data, Address(*ELSEWHERE), outgoing.destination)
        carry(self, outgoing, departure)

    monkeypatch.setattr(Fabric, "_carry", carry_and_copy)

    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), dynamic=dynamic and host_id == 1)

        async with open_mesh(network, 1, 2, make=make) as mesh:
            await mesh.chat(20)
            await trio.sleep(3)
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=6)


def test_at_round_trips_of_100_ms_under_load() -> None:
    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(latency=0.05, jitter=0.01, reorder=0.05, duplicate=0.05)
        async with open_mesh(network, 1, 2) as mesh:
            async with trio.open_nursery() as nursery:
                await mesh.chat(10)
                nursery.start_soon(mesh.tape.loop, list(mesh.tape.records))
                await mesh.chat(100)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
            mesh.check()
            assert not any(node.downs() for node in mesh.nodes.values())

    run(main, seed=7)


def test_a_dynamic_link_follows_nobody() -> None:
    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), dynamic=host_id == 1)

        async with open_mesh(network, 1, 2, make=make) as mesh:
            await mesh.chat(5)
            tape = mesh.tape.take()
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(mesh.tape.loop, tape)
                    await mesh.chat(5)
                    assert mesh[1].handle.hosts[2].links[0].status.dst_ipaddr == at(2)[0]
                    nursery.cancel_scope.cancel()
                for host_id in (2, 1):
                    await mesh[host_id].stop()
                    await mesh.start(host_id)
            await mesh.chat(2)
            mesh.check()

    run(main, seed=8)


def test_from_many_places_while_a_dynamic_link_waits_for_its_peer() -> None:
    """The places that may be asked in a second are not all used up by recordings."""

    async def main(network: SimulatedNetwork) -> None:
        def make(host_id: int) -> Node:
            return Node(host_id, (1, 2), dynamic=host_id == 1)

        async with open_mesh(network, 1, 2, make=make) as mesh:
            await mesh.chat(2)
            await mesh[2].stop()
            await mesh.start(2)
            await mesh.chat(2)
            pings = [one for one in mesh.tape.records if len(one.data) == 66]
            to_dynamic = cycle(one for one in pings if one.destination == at(1))
            ports = cycle(range(1024, 1 << 16))

            async def play() -> None:
                while True:
                    for record, port in zip(islice(to_dynamic, 10), ports, strict=False):
                        mesh.tape.play([record], source=(ELSEWHERE[0], port))
                    await trio.sleep(0.001)

            await mesh[1].stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play)
                await trio.sleep(1)
                began = trio.current_time()
                await mesh.start(1)
                assert trio.current_time() - began < 2
                assert mesh[1].drops()["rate_limited"] > 100
                nursery.cancel_scope.cancel()
            await mesh.chat(2)
            mesh.check()

    run(main, seed=11)


def test_for_everybody_where_one_host_is_behind_the_others() -> None:
    """Each host gets what the others got, also if something else has overtaken it."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            await mesh.chat(2)
            mesh.tape.take()
            network.hold(at(1)[0], at(3)[0])
            lane = mesh[1].handle.hosts[3].state.lane
            # As much as the machine keeps for that host.
            for _ in range(150):
                await mesh.send(1, 3, size=60_000)
            assert lane.items
            for _ in range(3):
                await mesh.send(1)
            overtaking = partial(mesh[1].channel.send_sync, b"urgent", to=[3])
            mesh.sent[3].append(b"urgent")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(overtaking)
                await trio.sleep(0.05)
                network.release(at(1)[0], at(3)[0])
            await trio.sleep(0.5)
            tape = [record for record in mesh.tape.take() if record.source == at(1)]
            for to in (2, 3):
                mesh.tape.play(tape, to=at(to))
            await trio.sleep(0.5)
            mesh.check((2, 3))

    run(main, seed=9)


def test_no_keys_are_derived_for_data_of_many_earlier_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes far longer than to open a packet, and a recording may be of any number of lives."""
    derive = KeySchedule.derive
    derived: list[bytes] = []

    def note(self: KeySchedule, sender: int, life: bytes, epoch: int) -> PacketKey:
        derived.append(life)
        return derive(self, sender, life, epoch)

    monkeypatch.setattr(KeySchedule, "derive", note)

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            for _ in range(6):
                await mesh.chat(1)
                await mesh[2].stop()
                await mesh.start(2)
            # 66 bytes are those of pings and pongs, which may prove something.
            data = [
                record
                for record in mesh.tape.take()
                if record.source == at(2) and len(record.data) != 66
            ]
            await mesh.chat(1)
            derived.clear()
            await mesh.tape.play_slowly(data * 3)
            assert mesh[1].drops()["unconfirmed"] > len(data)
            assert not derived
            await mesh.chat(1)
            mesh.check()

    run(main, seed=10)
