"""Whose connections are refused, how many there may be, and that nothing is left of them."""

from __future__ import annotations

import gc

import pytest
import trio

from knet_trio import AclEntry, DropCause, Handle, Link, open_handle
from knet_trio._transport import find_transport
from knet_trio._transport.sctp import MOST_OF_AN_ADDRESS, SctpListener
from knet_trio._transport.sctp_connecting import ConnectingAssociation
from knet_trio.address import Address
from knet_trio.testing import SimulatedNetwork
from tests.testing.connected import (
    A,
    B,
    both_up,
    delivered,
    link_of,
    play,
    play_alone,
)
from tests.testing.nodes import at, join, open_nodes

STRANGER = Address(at(66), 5405)


def tasks_of_endpoints() -> int:
    """How many sockets of handles there are tasks for, listeners included."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    count, tasks = 0, [root]
    while tasks:
        task = tasks.pop()
        count += task.name.startswith("endpoint ")
        for nursery in task.child_nurseries:
            tasks.extend(nursery.child_tasks)
    return count


async def settled(endpoints: int) -> None:
    """Wait until there are as many sockets."""
    with trio.fail_after(5):
        while tasks_of_endpoints() != endpoints:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


def open_stranger(local: Address = STRANGER) -> SctpListener:
    """Something that can connect from there, and is no host."""
    listener = find_transport("sctp").open_endpoint(
        local, privileged=False, high_priority=False, dscp=0
    )
    assert isinstance(listener, SctpListener)
    return listener


async def connect(stranger: SctpListener, times: int) -> list[ConnectingAssociation]:
    """Connect to host 1, and wait until it has taken or refused it."""
    made: list[ConnectingAssociation] = []
    for _ in range(times):
        connection = stranger.connect(Address(*A))
        assert isinstance(connection, ConnectingAssociation)
        change = (await connection.receive()).connection
        assert change is not None
        made.append(connection)
    return made


async def are_lost(connections: list[ConnectingAssociation]) -> int:
    """Count those that are lost or refused soon."""
    lost = 0
    for connection in connections:
        with trio.move_on_after(0.1):
            while connection.fault is None:
                await connection.receive()
        lost += connection.fault is not None
    return lost


class TestStrangers:
    def test_a_stranger_at_a_static_link(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await settled(6)
            stranger = open_stranger()
            connections = await connect(stranger, 3)
            assert await are_lost(connections) == 3
            # As many as before: of each host a listener, and a connection each way.
            assert tasks_of_endpoints() == 6
            assert a.statistics().drops[DropCause.UNKNOWN_ADDRESS] == 3
            assert await delivered(a, b, b"undisturbed")
            assert link_of(a).status.stats.down_count == 0

        play(body)

    def test_the_access_list_of_a_dynamic_link(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as home:
                waiting = await home.add_host(2).add_link(0, A, transport="sctp")
                waiting.acl.append(AclEntry.address(at(2)))
                stranger = open_stranger()
                connections = await connect(stranger, 3)
                assert await are_lost(connections) == 3
                assert home.statistics().drops[DropCause.ACCESS_LIST] == 3
                assert tasks_of_endpoints() == 1
                async with open_handle(2) as roamer:
                    await roamer.add_host(1).add_link(0, B, A, transport="sctp")
                    await both_up(home, roamer)

        play_alone(main)

    def test_who_was_let_in_and_is_not_any_more(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            link = link_of(a)
            entries = list(link.acl)
            link.acl.clear()
            await a.hosts[2].wait_unreachable()
            assert a.statistics().drops[DropCause.ACCESS_LIST] > 0
            for entry in entries:
                link.acl.append(entry)
            assert await both_up(a, b) < 10

        play(body)


class TestLimits:
    def test_a_flood_of_connections_from_the_peers_own_address(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await settled(6)
            stranger = open_stranger(Address(at(2), 1))
            connections = await connect(stranger, 200)
            await trio.sleep(1)
            # What the host itself has connected is of use, and stays.
            assert tasks_of_endpoints() <= 6 + MOST_OF_AN_ADDRESS
            lost = await are_lost(connections)
            assert lost == 200 - (MOST_OF_AN_ADDRESS - 1)
            assert link_of(a).status.stats.down_count == 0
            assert await delivered(b, a, b"undisturbed")

        play(body)

    def test_half_open_ones_do_not_add_up(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            # Host 1 has no answer to its own, and takes every one of host 2's.
            network.cut(at(1), at(2), one_way=True)
            await trio.sleep(300)
            assert tasks_of_endpoints() <= 6 + MOST_OF_AN_ADDRESS
            network.heal()
            assert await both_up(a, b) < 10
            # The others are found to be dead by the system.
            await trio.sleep(400)
            await settled(6)

        play(body, patience=2000)


class TestEnds:
    def test_nothing_is_left_of_hosts_links_and_handles(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await settled(6)
            await link_of(a).remove()
            # The other one has its listener, and tries.
            await settled(2)
            await a.hosts[2].add_link(0, A, B, transport="sctp")
            await both_up(a, b)
            await settled(6)
            async with open_handle(3) as c:
                await c.add_host(1).add_link(0, (at(3), 5405), A, transport="sctp")
                await trio.sleep(2.5)
            await settled(6)
            await b.hosts[1].remove()
            await settled(2)

        play(body)

    def test_a_host_is_removed_and_others_stay_at_the_same_address(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_nodes(3, transport="sctp") as (a, b, c):
                await settled(15)
                await a.hosts[2].remove()
                # Of host 1 and host 2 the connection to the other is gone, both ends of it; host 2
                # goes on to try, and is refused.
                await settled(12)
                await b.hosts[1].wait_unreachable()
                assert a.statistics().drops.get(DropCause.UNKNOWN_HOST, 0) == 0
                assert await delivered(a, c, b"undisturbed")
                assert a.hosts[3].links[0].status.stats.down_count == 0
                await a.add_host(2).add_link(0, A, B, transport="sctp")
                await both_up(a, b)
                await settled(15)

        play_alone(main)

    @pytest.mark.parametrize("cut", [False, True])
    def test_a_link_is_removed_while_it_is_being_connected(self, cut: bool) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a, open_handle(2) as b:
                await join(b, range(1, 3), transport="sctp")
                if cut:
                    network.cut(at(1), at(2))
                host = a.add_host(2)
                for wait in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.1):
                    link = await host.add_link(0, A, B, transport="sctp")
                    await trio.sleep(wait)
                    await link.remove()
                await settled(2)
                network.heal()
                await host.add_link(0, A, B, transport="sctp")
                assert await both_up(a, b) < 10
                await settled(6)

        play_alone(main)

    def test_calls_that_are_cancelled(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a, open_handle(2) as b:
                await join(b, range(1, 3), transport="sctp")
                host = a.add_host(2)
                for _ in range(3):
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await host.add_link(0, A, B, transport="sctp")
                    for link in list(host.links.values()):
                        with trio.CancelScope() as scope:
                            scope.cancel()
                            await link.remove()
                    assert not host.links
                    await settled(2)
                await host.add_link(0, A, B, transport="sctp")
                assert await both_up(a, b) < 10

        play_alone(main)

    def test_a_handle_that_is_cancelled(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a:
                await join(a, range(1, 3), transport="sctp")
                for wait in (0.001, 0.5, 7.0):
                    with trio.move_on_after(wait):
                        async with open_handle(2) as b:
                            await join(b, range(1, 3), transport="sctp")
                            await trio.sleep_forever()
                    await settled(2)
            await settled(0)
            gc.collect()

        play_alone(main)


class TestAddresses:
    def test_two_hosts_at_one_address(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            ports = {2: 5405, 3: 5406}
            links: list[Link] = []
            async with open_handle(1) as a, open_handle(2) as b, open_handle(3) as c:
                for host_id, handle in ((2, b), (3, c)):
                    there = (at(2), ports[host_id])
                    links.append(await a.add_host(host_id).add_link(0, A, there, transport="sctp"))
                    await handle.add_host(1).add_link(0, there, A, transport="sctp")
                await both_up(a, b, c)
                for handle in (b, c):
                    assert await delivered(a, handle, b"%d" % handle.host_id)
                    assert await delivered(handle, a, b"%d" % handle.host_id)
                await c.hosts[1].remove()
                await a.hosts[3].wait_unreachable()
                assert a.hosts[2].status.reachable
                assert await delivered(a, b, b"still")
                await c.add_host(1).add_link(0, (at(2), 5406), A, transport="sctp")
                assert await both_up(a, b, c) < 10

        play_alone(main)
