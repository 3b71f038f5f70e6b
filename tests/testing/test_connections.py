"""Links over connections, which break and are made again, on the simulated network."""

from __future__ import annotations

import logging
import random

import pytest
import trio

from knet_trio import CryptoConfig, Handle, LinkCause, LinkPolicy, open_handle
from knet_trio.testing import Conditions, Fate, PacketRecord, SimulatedNetwork
from tests.testing.connected import (
    A,
    B,
    both_down,
    both_up,
    delivered,
    link_of,
    play,
    play_alone,
)
from tests.testing.nodes import at, join, open_nodes


class TestGoingUp:
    def test_links_go_up_and_say_that_packets_of_any_size_pass(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            assert trio.current_time() < 5.1
            text = link_of(a).explain()
            assert "is up: the peer answers pings" in text
            assert "SCTP fragments packets to fit the path" in text
            assert link_of(a).status.mtu > 65000
            assert await delivered(a, b, b"there")
            assert await delivered(b, a, b"and back")

        play(body)

    def test_nobody_listens(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "knet_trio")

        async def main(network: SimulatedNetwork) -> None:
            # The machine is there, and refuses.
            async with open_handle(1) as a, open_handle(2) as b:
                await b.add_host(3).add_link(0, (at(2), 1), (at(3), 1), transport="sctp")
                link = await a.add_host(2).add_link(0, A, B, transport="sctp")
                await trio.sleep(2.5)
                text = link.explain()
                assert "cannot connect to 10.0.0.2:5405: Connection refused" in text
                assert "is the peer running, does its link have these addresses" in text
                assert link.status.stats.tx_ping_packets == 0
                refused = network.statistics().fates[Fate.REFUSED]
                assert refused == 3

        play_alone(main)
        # It has never been up, so no line says that it is down.
        said = [
            record.getMessage() for record in caplog.records if "refused" in record.getMessage()
        ]
        words = "link 0 to host 2: cannot connect to 10.0.0.2:5405: Connection refused"
        assert f"[host 1] {words}" in said

    def test_nobody_answers_at_all(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a:
                link = await a.add_host(2).add_link(0, A, B, transport="sctp")
                await trio.sleep(0.5)
                assert "10.0.0.2:5405 has not answered yet" in link.explain()
                await trio.sleep(9)
                assert "Connection timed out" in link.explain()

        play_alone(main)

    def test_connected_but_not_answered(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a, open_handle(2) as b:
                # The other end has a link to somebody else at this address.
                await b.add_host(3).add_link(0, B, A, transport="sctp")
                link = await a.add_host(2).add_link(0, A, B, transport="sctp")
                await trio.sleep(1.5)
                text = link.explain()
                assert "none answered" in text
                assert "does a firewall drop SCTP?" in text

        play_alone(main)

    def test_an_interface_that_is_down(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            network.take_down(at(1))
            async with open_handle(1) as a, open_handle(2) as b:
                await join(a, range(1, 3), transport="sctp")
                await join(b, range(1, 3), transport="sctp")
                await trio.sleep(3)
                assert "Network is unreachable" in link_of(a).explain()
                network.bring_up(at(1))
                assert await both_up(a, b) < 8

        play_alone(main)


class TestBreaking:
    def test_a_link_goes_down_and_comes_back(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await trio.sleep(20)
            assert network.break_connections(at(1), at(2)) == 4
            await both_down(a, b)
            for handle in (a, b):
                link = link_of(handle)
                stats = link.status.stats
                assert stats.transitions[LinkCause.DISCONNECTED] == 1
                assert "the association is lost: Connection reset by peer" in link.explain()
            # Not in a second, since it was there for long: at once.
            assert await both_up(a, b) < 5.1
            assert await delivered(a, b, b"again")

        play(body)

    def test_between_others_nothing_breaks(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            assert network.break_connections(at(1), at(3)) == 0
            await trio.sleep(10)
            assert link_of(a).status.stats.down_count == 0

        play(body)

    @pytest.mark.parametrize("seed", range(3))
    def test_over_and_over(self, seed: int) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            for _ in range(10):
                network.break_connections(at(1), at(2))
                await trio.sleep(0.3)
            assert await both_up(a, b) < 8

        play(body, seed=seed)

    def test_a_cut_is_found_by_pings_and_mended_soon(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await trio.sleep(30)
            network.cut(at(1), at(2))
            await both_down(a, b)
            for handle in (a, b):
                assert link_of(handle).status.stats.transitions[LinkCause.NO_PONG] == 1
            # The kernel would try for minutes, ever more seldom.
            await trio.sleep(100)
            network.mend(at(1), at(2))
            assert await both_up(a, b) < 8

        play(body)

    def test_one_direction_is_cut(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await trio.sleep(30)
            network.cut(at(1), at(2), one_way=True)
            await both_down(a, b)
            await trio.sleep(100)
            network.mend(at(1), at(2))
            assert await both_up(a, b) < 8

        play(body)

    def test_an_interface_goes_down_and_up(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await trio.sleep(30)
            network.take_down(at(1))
            await both_down(a, b)
            await trio.sleep(50)
            network.bring_up(at(1))
            assert await both_up(a, b) < 8

        play(body)


class TestRestarting:
    @pytest.mark.parametrize("crashes", [False, True])
    def test_either_side_ten_times(self, crashes: bool) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a:
                await join(a, range(1, 3), transport="sctp")
                for number in range(10):
                    async with open_handle(2) as b:
                        await join(b, range(1, 3), transport="sctp")
                        assert await both_up(a, b) < 9
                        assert await delivered(a, b, b"%d" % number)
                        assert await delivered(b, a, b"%d" % number)
                        if crashes:
                            network.take_down(at(2))
                    network.bring_up(at(2))

        play_alone(main)

    def test_a_program_that_ends_is_missed_at_once(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            await b.hosts[1].remove()
            began = trio.current_time()
            await a.hosts[2].wait_unreachable()
            assert trio.current_time() - began < 0.01
            assert "the peer has closed the association" in link_of(a).explain()

        play(body)


class TestReconnectInterval:
    def test_it_is_kept(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            attempts: list[float] = []

            def count(record: PacketRecord) -> None:
                if record.transport == "sctp" and record.destination == B:
                    attempts.append(record.sent)

            network.trace = count
            async with open_handle(1) as a, open_handle(2) as b:
                await b.add_host(3).add_link(0, (at(2), 1), (at(3), 1), transport="sctp")
                a.reconnect_interval = 7.0
                await a.add_host(2).add_link(0, A, B, transport="sctp")
                await trio.sleep(30)
                assert attempts == pytest.approx([0, 7, 14, 21, 28])
                # While it waits.
                a.reconnect_interval = 0.5
                await trio.sleep(1.75)
                assert attempts[5:] == pytest.approx([30, 30.5, 31, 31.5])

        play_alone(main)

    def test_a_peer_that_does_not_answer_is_asked_by_the_new_one(self) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a, open_handle(2) as b:
                a.reconnect_interval = b.reconnect_interval = 500.0
                network.cut(at(1), at(2))
                await join(a, range(1, 3), transport="sctp")
                await join(b, range(1, 3), transport="sctp")
                await trio.sleep(1)
                network.mend(at(1), at(2))
                a.reconnect_interval = b.reconnect_interval = 1.0
                assert await both_up(a, b) < 7

        play_alone(main)


class TestMessages:
    @pytest.mark.parametrize("key", [None, bytes(128)])
    def test_of_all_sizes(self, key: bytes | None) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            for size in (1, 2, 1400, 1452, 1453, 9000, 32768, 65000, 65535, 65536):
                data = bytes([size % 251]) * size
                assert await delivered(a, b, data)
                assert await delivered(b, a, data)

        play(body, crypto=None if key is None else CryptoConfig(key=key))

    def test_nothing_is_lost_where_packets_are(self) -> None:
        async def body(network: SimulatedNetwork, a: Handle, b: Handle) -> None:
            # A retransmission takes a second, and a young link has no more patience than twice two.
            network.conditions = Conditions(loss=0.05, mtu=1000, duplicate=0.05, corrupt=0.02)
            inbox = b.open_channel(0)
            sent = [bytes([number]) * (number * 40) for number in range(1, 200)]
            received: list[bytes] = []

            async def receive() -> None:
                while len(received) < len(sent):
                    received.append((await inbox.receive()).data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                outbox = a.open_channel(0)
                for data in sent:
                    await outbox.send(data)
            assert received == sent
            fates = network.statistics().fates
            assert fates[Fate.LOST] > 0
            assert fates[Fate.TOO_BIG] == 0

        play(body)


class TestFailover:
    @pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ACTIVE])
    def test_between_udp_and_sctp(self, policy: LinkPolicy) -> None:
        async def main(network: SimulatedNetwork) -> None:
            async with open_handle(1) as a, open_handle(2) as b:
                for handle, me, peer in ((a, 1, 2), (b, 2, 1)):
                    host = handle.add_host(peer, policy=policy)
                    for link, transport in enumerate(("sctp", "udp")):
                        # At the same addresses and ports.
                        await host.add_link(
                            link, (at(me), 5405), (at(peer), 5405), transport=transport
                        )
                for handle in (a, b):
                    (host,) = handle.hosts.values()
                    for each in host.links.values():
                        await each.wait_connected()
                assert await delivered(a, b, b"over both")
                network.break_connections(at(1), at(2))
                assert await delivered(a, b, b"over UDP")
                assert await delivered(b, a, b"over UDP")
                assert a.hosts[2].status.reachable
                await a.hosts[2].links[0].wait_connected()
                assert await delivered(b, a, b"over both again")

        play_alone(main)


def test_a_seed_makes_it_the_same_run() -> None:
    def record(seed: int) -> list[tuple[float, str, str, int]]:
        records: list[tuple[float, str, str, int]] = []

        async def main(network: SimulatedNetwork) -> None:
            def trace(record: PacketRecord) -> None:
                where = str(record.source), str(record.destination)
                records.append((record.ended, *where, len(record.data)))

            network.trace = trace
            network.conditions = Conditions(loss=0.05, jitter=0.01)
            async with open_nodes(2, transport="sctp") as (a, _):
                outbox = a.open_channel(0)
                for number in range(20):
                    await outbox.send(bytes(1 + number * 500))
                    await trio.sleep(random.random())
                    network.break_connections(at(1), at(2))

        play_alone(main, seed=seed)
        return records

    first = record(1)
    assert record(1) == first
    assert record(2) != first
