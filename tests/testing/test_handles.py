"""What handles make of a simulated network: the same as of a real one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from knet_trio import AclEntry, CryptoConfig, DropCause, Handle, open_handle
from knet_trio.testing import Conditions, Fate, Interface, SimulatedNetwork, open_network, run
from tests.testing.nodes import PATIENCE, at, open_nodes

TestBody = Callable[[SimulatedNetwork, Handle, Handle], Awaitable[None]]


def play(body: TestBody, *, links: int = 1, conditions: Conditions = Conditions()) -> None:  # noqa: B008  # frozen
    """Have two hosts that reach each other, and no more time than anybody needs."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(2, links=links) as (a, b):
            with trio.fail_after(PATIENCE):
                await body(network, a, b)

    run(main, seed=1, conditions=conditions)


@pytest.mark.parametrize("black_hole", [False, True])
def test_the_path_mtu_is_found(black_hole: bool) -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        await trio.sleep(30)
        # 28 bytes of IP and UDP and 26 of the protocol.
        assert a.data_mtu == b.data_mtu == 1333 - 54
        complaints = network.statistics().troubles
        assert complaints == 0 if black_hole else complaints > 0

    play(body, conditions=Conditions(mtu=1333, black_hole=black_hole))


def test_a_path_that_becomes_narrow_is_searched_again_when_a_router_says_so() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        await trio.sleep(30)
        assert a.data_mtu == 1500 - 54
        network.conditions = Conditions(mtu=1400)
        # Which finds out, and is lost.
        await a.open_channel(0).send(bytes(1446), to=[2])
        await trio.sleep(3)
        assert a.data_mtu == 1400 - 54

    play(body)


def test_an_interface_that_becomes_narrow_says_so_and_nothing_is_lost() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        await trio.sleep(30)
        assert a.data_mtu == 1500 - 54
        network.set_interface(at(1), Interface(mtu=1400))
        inbox = b.open_channel(0)
        await a.open_channel(0).send(bytes(1446), to=[2])
        assert (await inbox.receive()).data == bytes(1446)
        assert a.data_mtu == 1400 - 54
        assert network.statistics().too_big > 0

    play(body)


def test_a_program_that_ends_is_missed_soon() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(2) as (a, b), trio.open_nursery() as nursery:
            link = a.hosts[2].links[0]
            nursery.start_soon(b.hosts[1].remove)
            began = trio.current_time()
            await link.wait_disconnected()
            # With the next ping the network says so, and then a ping decides.
            assert trio.current_time() - began < 1.3
            assert "the network reports for 10.0.0.2:5405: Connection refused" in link.explain()
            assert network.statistics().fates[Fate.REFUSED] >= 1

    run(main, seed=1)


def test_a_router_takes_a_link_down_soon() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.cut(at(1), at(2), tells=True)
        began = trio.current_time()
        await a.hosts[2].links[0].wait_disconnected()
        assert trio.current_time() - began < 1.3
        assert "No route to host" in a.hosts[2].links[0].explain()

    play(body)


def test_a_machine_without_power_is_missed_when_its_pongs_are() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        await trio.sleep(30)
        network.take_down(at(2))
        began = trio.current_time()
        await a.hosts[2].wait_unreachable()
        assert 1 < trio.current_time() - began < 2.1
        assert "no pong for" in a.hosts[2].links[0].explain()
        assert "refuses to send: Network is unreachable" in b.hosts[1].links[0].explain()

    play(body)


def test_what_a_paused_host_is_sent_it_gets_when_it_goes_on() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        inbox, outbox = b.open_channel(0), b.open_channel(1)
        arrived = a.open_channel(1)
        network.pause(at(2))
        await a.open_channel(0).send(b"waits there")
        await outbox.send(b"waits here")
        await trio.sleep(0.5)
        with pytest.raises(trio.WouldBlock):
            inbox.receive_nowait()
        with pytest.raises(trio.WouldBlock):
            arrived.receive_nowait()
        network.resume(at(2))
        assert (await inbox.receive()).data == b"waits there"
        assert (await arrived.receive()).data == b"waits here"

    play(body)


def test_a_slow_interface_sends_all_in_its_time() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.set_interface(at(1), Interface(rate=20000, send_buffer=5000))
        inbox = b.open_channel(0)
        began = trio.current_time()
        await a.open_channel(0).send_many([bytes(400)] * 100)
        for _ in range(100):
            await inbox.receive()
        assert trio.current_time() - began > 100 * 400 / 20000
        assert a.hosts[2].links[0].status.stats.tx_data_retries > 0

    play(body)


def test_a_bottleneck_loses_what_it_cannot_hold() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        network.conditions = Conditions(rate=20000, queue=5000)
        inbox = b.open_channel(0)
        await a.open_channel(0).send_many([bytes(400)] * 100)
        await trio.sleep(5)
        lost = network.statistics().fates[Fate.QUEUE_FULL]
        assert 0 < lost < 100
        assert len(await inbox.receive_many()) == 100 - lost

    play(body)


def test_an_interruption_while_the_mtu_is_searched_is_over_soon() -> None:
    async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
        # The first search was over by then, and the next is a minute after it.
        assert 5 < trio.current_time() < 5.01
        await trio.sleep_until(65.003)
        network.cut(at(1), at(2))
        await trio.sleep(1.9)
        network.mend(at(1), at(2))
        await trio.sleep(3)
        assert a.hosts[2].links[0].status.stats.down_count == 0
        assert a.hosts[2].status.reachable
        assert a.data_mtu == 1446

    play(body)


def test_a_dynamic_link_follows_its_peer() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as home, open_handle(2) as roamer:
            waiting = await home.add_host(2).add_link(0, (at(1), 5405))
            waiting.acl.append(AclEntry.network("0.0.0.0/0"))
            await roamer.add_host(1).add_link(0, (at(2), 5405), (at(1), 5405))
            with trio.fail_after(PATIENCE):
                await home.hosts[2].wait_reachable()
                await roamer.hosts[1].wait_reachable()
            # In the midst of a search for the path MTU.
            network.move(at(2), "192.0.2.77")
            await trio.sleep(1.5)
            assert waiting.status.dst_ipaddr == "192.0.2.77"
            inbox = roamer.open_channel(0)
            await home.open_channel(0).send(b"found you")
            with trio.fail_after(PATIENCE):
                assert (await inbox.receive()).data == b"found you"
            assert waiting.status.stats.down_count == 0

    run(main, seed=1)


def test_what_is_damaged_is_refused_where_there_is_crypto() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(2, crypto=CryptoConfig(key=bytes(128))) as (a, b):
            inbox, channel = b.open_channel(0), a.open_channel(0)
            network.conditions = Conditions(corrupt=0.3, checksum=False)
            sent = [bytes([number]) * 100 for number in range(200)]
            for data in sent:
                await channel.send(data)
                await trio.sleep(0.05)
            got = [message.data for message in await inbox.receive_many()]
            assert 50 < len(got) < 200
            assert set(got) <= set(sent)
            drops = sum(
                handle.statistics().drops.get(DropCause.NOT_AUTHENTIC, 0) for handle in (a, b)
            )
            assert drops == network.statistics().fates[Fate.DAMAGED]

    run(main, seed=1)


async def test_several_networks_do_not_meet(autojump_clock: MockClock) -> None:
    async def be_alone(hosts: int) -> None:
        async with open_network(1) as network, open_nodes(hosts):
            await trio.sleep(10)
            fates = network.statistics().fates
            assert set(fates) == {Fate.DELIVERED}

    async with trio.open_nursery() as nursery:
        # With the same addresses.
        nursery.start_soon(be_alone, 2)
        nursery.start_soon(be_alone, 3)
