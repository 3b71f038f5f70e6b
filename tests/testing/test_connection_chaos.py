"""Links over connections, whatever happens: in the end they are all up."""

from __future__ import annotations

import random

import pytest
import trio

from knet_trio import AclEntry, CryptoConfig, Handle, open_handle
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.testing.connected import both_up, delivered, play_alone
from tests.testing.nodes import at

HOSTS = range(1, 4)
ANYBODY = AclEntry.network("0.0.0.0/0")


async def add_links(handle: Handle, dynamic: bool) -> None:
    """Give it links to all others; those to host 1 are dynamic at its end, if at all."""
    me = handle.host_id
    for peer in HOSTS:
        if peer == me:
            continue
        host = handle.hosts.get(peer) or handle.add_host(peer)
        if 0 in host.links:
            continue
        waits = dynamic and me == 1
        link = await host.add_link(
            0, (at(me), 5405), None if waits else (at(peer), 5405), transport="sctp"
        )
        if waits:
            link.acl.append(ANYBODY)


class Chaos:
    """Hosts that come and go on a network that breaks."""

    def __init__(self, network: SimulatedNetwork, nursery: trio.Nursery, dynamic: bool) -> None:
        self.network = network
        self.nursery = nursery
        self.dynamic = dynamic
        self.handles: dict[int, Handle] = {}
        self.scopes: dict[int, trio.CancelScope] = {}

    async def start(self, host_id: int) -> None:
        await self.nursery.start(self.live, host_id)

    async def live(self, host_id: int, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self.scopes[host_id]:
            async with open_handle(host_id, crypto=CryptoConfig(key=bytes(128))) as handle:
                handle.reconnect_interval = random.choice([0.2, 1.0, 3.0])
                self.handles[host_id] = handle
                await add_links(handle, self.dynamic)
                task_status.started()
                await trio.sleep_forever()

    def stop(self, host_id: int) -> None:
        self.scopes[host_id].cancel()

    async def do(self) -> None:
        """Something happens."""
        network, (a, b) = self.network, random.sample(HOSTS, 2)
        match random.randrange(11):
            case 0:
                network.break_connections(at(a), at(b))
            case 1:
                network.cut(at(a), at(b), one_way=random.random() < 0.5)
            case 2:
                network.heal()
            case 3:
                network.take_down(at(a))
            case 4:
                network.bring_up(*map(at, HOSTS))
            case 5:
                self.stop(a)
                await trio.sleep(random.choice([0.001, 1.0]))
                await self.start(a)
            case 6:
                links = list(self.handles[a].hosts[b].links.values())
                for link in links:
                    await link.remove()
                await trio.sleep(random.choice([0.0, 0.001, 1.0]))
                await add_links(self.handles[a], self.dynamic)
            case 7:
                self.handles[a].reconnect_interval = random.choice([0.2, 1.0, 3.0])
            case 8:
                network.conditions = Conditions(loss=random.choice([0.0, 0.2]), latency=0.005)
            case 9:
                async with self.handles[a].open_channel(1) as channel:
                    with trio.move_on_after(0.01):
                        await channel.send(bytes(60000))
            case _:
                for link in self.handles[a].hosts[b].links.values():
                    link.enabled = not link.enabled

    def repair(self) -> None:
        network = self.network
        network.heal()
        network.bring_up(*map(at, HOSTS))
        network.conditions = Conditions()
        for handle in self.handles.values():
            handle.reconnect_interval = 1.0
            for host in handle.hosts.values():
                for link in host.links.values():
                    link.enabled = True


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens(seed: int, dynamic: bool) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with trio.open_nursery() as nursery:
            chaos = Chaos(network, nursery, dynamic)
            for host_id in HOSTS:
                await chaos.start(host_id)
            for _ in range(30):
                await chaos.do()
                await trio.sleep(random.choice([0.0, 0.001, 0.3, 1.0, 4.0]))
            chaos.repair()
            handles = list(chaos.handles.values())
            # A pong in a row is asked for each second, and dead connections are given up after two.
            assert await both_up(*handles) < 15
            for sender in handles:
                for receiver in handles:
                    if sender is not receiver:
                        assert await delivered(sender, receiver, b"here")
            nursery.cancel_scope.cancel()

    play_alone(main, seed=seed)
