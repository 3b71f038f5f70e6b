"""Numbers of messages with model ``aead`` that have come round, or begin again."""

from __future__ import annotations

import pytest
import trio

from knet_trio import CryptoConfig
from knet_trio._state.handle import FORCED_PING_EVERY
from knet_trio.testing import SimulatedNetwork, run
from knet_trio.testing.fabric import Fabric
from knet_trio.testing.queues import Outgoing
from tests.attack.recordings import AEAD, KEY, Mesh, Node, at, open_mesh

CBC = CryptoConfig(KEY[::-1])
NUMBERS = 65535


async def go_round(mesh: Mesh, source: int, to: int, behind: int) -> None:
    """Have a host use all numbers but the last ones, in messages that are not for all others."""
    context = mesh[source].handle._context  # pyright: ignore[reportPrivateUsage]
    end = context.seq + NUMBERS - behind
    for number in range(1, NUMBERS // FORCED_PING_EVERY + 1):
        context.seq = number * FORCED_PING_EVERY - 1
        await mesh.send(source, to)
        await trio.sleep(0.01)
    context.seq = end - NUMBERS


def test_no_message_is_taken_for_one_that_had_its_number_65535_before() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            for _ in range(100):
                await mesh.send(1, 2)
            await trio.sleep(0.5)
            await go_round(mesh, 1, 3, behind=50)
            for _ in range(40):
                await mesh.send(1, 2)
            await trio.sleep(0.5)
            mesh.check()

    run(main, seed=1)


def test_nor_while_there_is_no_contact() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2, 3) as mesh:
            for _ in range(100):
                await mesh.send(1, 2)
            await trio.sleep(0.5)
            network.cut(at(1)[0], at(2)[0])
            await mesh[1].handle.hosts[2].wait_unreachable()
            await mesh[2].handle.hosts[1].wait_unreachable()
            await go_round(mesh, 1, 3, behind=50)
            network.heal()
            await mesh.start()
            for _ in range(40):
                await mesh.send(1, 2)
            await trio.sleep(0.5)
            mesh.check()

    run(main, seed=3)


def test_no_fragment_is_put_into_a_message_that_had_its_number_65535_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is on the way lets through the pings, and of the messages what suits."""
    carry = Fabric._carry  # pyright: ignore[reportPrivateUsage]
    fragments: list[bool] = []

    def carry_some(self: Fabric, outgoing: Outgoing, departure: float) -> None:
        if len(outgoing.data) <= 66 or not fragments or fragments.pop(0):
            carry(self, outgoing, departure)

    monkeypatch.setattr(Fabric, "_carry", carry_some)

    async def main(network: SimulatedNetwork) -> None:
        async with open_mesh(network, 1, 2) as mesh:
            await mesh.chat(1)
            context = mesh[1].handle._context  # pyright: ignore[reportPrivateUsage]
            before = context.seq
            fragments[:] = [True, False]
            await mesh[1].channel.send(b"a" * 2000, to=[2])
            await trio.sleep(0.05)
            assert not fragments
            context.seq = before
            context.crypto.life.counter += NUMBERS
            fragments[:] = [False, True]
            await mesh[1].channel.send(b"b" * 2000, to=[2])
            await trio.sleep(0.05)
            assert not fragments
            await mesh.chat(1)
            mesh.check()

    run(main, seed=5)


@pytest.mark.parametrize("messages", [5, 50])
def test_a_host_that_starts_again_in_another_envelope_than_it_was_known_by(messages: int) -> None:
    """It is back before anybody has missed it."""

    async def main(network: SimulatedNetwork) -> None:
        hosts = (1, 2)
        async with open_mesh(
            network, *hosts, make=lambda one: Node(one, hosts, crypto=CBC)
        ) as mesh:
            mesh[1].handle.set_crypto(AEAD, 2)
            for _ in range(20):
                await mesh.send(2, 1)
            await trio.sleep(0.5)
            await mesh[2].stop()
            await mesh.nursery.start(mesh[2].run)
            mesh[2].handle.set_crypto(AEAD, 2)
            mesh[2].handle.use_crypto(2)
            await mesh[2].reaches_all()
            assert not mesh[1].downs()
            for _ in range(messages):
                await mesh.send(2, 1)
            await trio.sleep(0.5)
            mesh.check()

    run(main, seed=4)
