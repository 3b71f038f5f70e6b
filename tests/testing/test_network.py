from __future__ import annotations

import errno
import time
from ipaddress import ip_address

import pytest
import trio
from trio.testing import MockClock

from knet_trio import CompressConfig, open_handle
from knet_trio._state.turns import TURN, Turns
from knet_trio._state.workers import SIMULATED_WORK
from knet_trio._transport import TRANSPORTS, find_transport
from knet_trio.abc import PathTrouble
from knet_trio.address import Address
from knet_trio.errors import InvalidArgumentError
from knet_trio.testing import (
    Conditions,
    Fate,
    Interface,
    PacketRecord,
    SimulatedNetwork,
    open_network,
)
from knet_trio.testing.endpoint import SimulatedEndpoint
from tests.testing.conftest import A, B, bind, receive, receive_troubles

C = Address("10.0.0.3", 5405)


async def passes(source: SimulatedEndpoint, destination: SimulatedEndpoint) -> bool:
    """Whether a datagram gets from one to the other."""
    assert source.send_nowait([b"hello?"], destination.seen) == 1
    with trio.move_on_after(10):
        await receive(destination)
        return True
    return False


class TestWires:
    async def test_a_packet_takes_the_latency_of_its_wire(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.conditions = Conditions(latency=1)
        network.set_wire(A.host, B.host, Conditions(latency=2))
        network.set_wire(ip_address(A.host), B.host, Conditions(latency=3), one_way=True)
        assert network.get_wire(A.host, B.host).latency == 3
        assert network.get_wire(B.host, A.host).latency == 2
        assert network.get_wire(A.host, C.host).latency == 1
        for source, destination, expected in ((a, b, 3), (b, a, 2), (a, c, 1)):
            began = trio.current_time()
            source.send_nowait([b"x"], destination.local)
            await receive(destination)
            assert trio.current_time() - began == expected
        network.set_wire(A.host, B.host, None)
        assert network.get_wire(A.host, B.host).latency == 1

    async def test_a_cut_and_its_mending(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        network.cut(A.host, B.host)
        assert [await passes(a, b), await passes(b, a), await passes(a, c)] == [False, False, True]
        network.mend(B.host, A.host, one_way=True)
        assert [await passes(a, b), await passes(b, a)] == [False, True]
        network.heal()
        network.cut(A.host, B.host, one_way=True)
        assert [await passes(a, b), await passes(b, a)] == [False, True]
        assert network.statistics().fates[Fate.CUT] == 4

    async def test_what_is_on_its_way_arrives(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        a.send_nowait([b"in time"], B)
        network.cut(A.host, B.host)
        assert await receive(b) == [(b"in time", A)]

    async def test_a_partition_is_between_groups(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b, c = bind(A), bind(B), bind(C)
        unnamed = bind(Address("10.0.0.4", 5405))
        network.partition([A.host, B.host], (host for host in [C.host]))
        assert [await passes(a, b), await passes(a, c), await passes(c, b)] == [True, False, False]
        assert [await passes(unnamed, a), await passes(c, unnamed)] == [True, True]
        network.heal()
        assert await passes(c, b)

    async def test_what_is_corrupted_fails_its_checksum(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.conditions = Conditions(corrupt=1)
        assert not await passes(a, b)
        assert network.statistics().fates == {Fate.CORRUPTED: 1}

    async def test_or_arrives_damaged(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.conditions = Conditions(corrupt=1, checksum=False, duplicate=1)
        records = list[PacketRecord]()
        network.trace = records.append
        a.send_nowait([b"whole"], B)
        await trio.sleep(1)
        ((first, _), (second, _)) = await receive(b, 2)
        assert len({b"whole", first, second}) == 3
        assert {record.data for record in records} == {b"whole"}
        assert network.statistics().fates == {Fate.DAMAGED: 2}

    async def test_what_is_duplicated_arrives_twice(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.conditions = Conditions(duplicate=1)
        a.send_nowait([b"x"], B)
        await trio.sleep(1)
        assert await receive(b, 2) == [(b"x", A), (b"x", A)]
        statistics = network.statistics()
        assert (statistics.sent, statistics.duplicated) == (1, 1)
        assert statistics.fates == {Fate.DELIVERED: 2}


class TestComplaints:
    async def test_nobody_speaks_for_an_address_that_never_was(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        a.send_nowait([b"x"], B)
        await trio.sleep(60)
        assert a.troubles() == []
        assert network.statistics().fates == {Fate.NO_HOST: 1}

    async def test_a_machine_refuses_a_port_that_was_closed(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        bind(B).close()
        a.send_nowait([b"x"], B)
        assert await receive_troubles(a) == [PathTrouble(B, errno.ECONNREFUSED, None, False)]
        assert network.statistics().fates == {Fate.REFUSED: 1}
        assert network.statistics().troubles == 1

    async def test_unless_its_answer_is_lost_too(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        bind(B).close()
        network.cut(B.host, A.host, one_way=True)
        a.send_nowait([b"x"], B)
        await trio.sleep(60)
        assert a.troubles() == []

    async def test_or_the_asker_is_gone(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a = bind(A)
        bind(B).close()
        a.send_nowait([b"x"], B)
        a.close()
        await trio.sleep(60)
        assert network.statistics().troubles == 0

    async def test_a_machine_that_is_down_says_nothing(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.take_down(B.host)
        assert not await passes(a, b)
        assert network.statistics().fates == {Fate.DOWN: 1}
        network.bring_up(B.host)
        assert await passes(a, b)
        assert a.troubles() == []

    async def test_a_router_may_say_that_the_way_is_cut(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, _ = bind(A), bind(B)
        network.cut(A.host, B.host, tells=True)
        a.send_nowait([b"x"], B)
        assert await receive_troubles(a) == [PathTrouble(B, errno.EHOSTUNREACH, None, False)]

    async def test_a_router_says_what_is_too_big(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.conditions = Conditions(mtu=1000)
        a.send_nowait([b"x" * 973], B)
        assert await receive_troubles(a) == [PathTrouble(B, errno.EMSGSIZE, 1000, False)]
        a.send_nowait([b"x" * 972], B)
        assert len(await receive(b)) == 1

    async def test_a_black_hole_does_not(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, _ = bind(A), bind(B)
        network.conditions = Conditions(mtu=1000, black_hole=True)
        a.send_nowait([b"x" * 973], B)
        await trio.sleep(60)
        assert a.troubles() == []
        assert network.statistics().fates == {Fate.TOO_BIG: 1}

    async def test_nor_does_an_interface_that_gets_what_is_too_big_for_it(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.set_interface(A.host, Interface(mtu=9000))
        a.send_nowait([b"x" * 5000], B)
        await trio.sleep(60)
        assert a.troubles() == []
        network.set_interface(B.host, Interface(mtu=9000))
        a.send_nowait([b"x" * 5000], B)
        assert len(await receive(b)) == 1


class TestMoving:
    async def test_others_see_another_address(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        network.move(A.host, "192.0.2.1")
        moved = Address("192.0.2.1", A.port)
        a.send_nowait([b"x"], B)
        assert await receive(b) == [(b"x", moved)]
        b.send_nowait([b"y"], moved)
        assert await receive(a) == [(b"y", B)]
        assert a.local == A
        b.send_nowait([b"z"], A)
        await trio.sleep(1)
        assert network.statistics().fates[Fate.NO_HOST] == 1
        # The old address is free.
        again = bind(A)
        assert await passes(b, again)
        a.close()
        assert await passes(b, again)

    async def test_only_what_is_there_moves_and_to_nobodys_place(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        for address in (A, B):
            bind(address)
        with pytest.raises(InvalidArgumentError, match=r"10\.0\.0\.2 is in use"):
            network.move(A.host, B.host)
        with pytest.raises(InvalidArgumentError, match=r"nothing is at 10\.0\.0\.3"):
            network.move(C.host, "10.0.0.4")


class TestAccounts:
    async def test_every_packet_has_one_fate_or_is_on_its_way(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        a, b = bind(A), bind(B)
        records = list[PacketRecord]()
        network.trace = records.append
        network.conditions = Conditions(
            latency=1, jitter=1, loss=0.2, duplicate=0.2, corrupt=0.2, reorder=0.2, rate=1e6
        )
        a.send_nowait([bytes([number]) for number in range(200)], B)
        before = network.statistics()
        assert before.in_flight > 0
        for statistics in (before, network.statistics()):
            assert (
                statistics.in_flight + sum(statistics.fates.values())
                == statistics.sent + statistics.duplicated
            )
            await trio.sleep(10)
        after = network.statistics()
        assert after.in_flight == 0
        assert len(records) == after.sent + after.duplicated
        assert [record.ended for record in records] == sorted(p.ended for p in records)
        delivered = [p.data for p in records if p.fate is Fate.DELIVERED]
        assert [data for data, _ in await receive(b, len(delivered))] == delivered

    async def test_an_address_must_be_one(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        with pytest.raises(InvalidArgumentError, match="'alpha' is not an IP address"):
            network.cut("alpha", "beta")

    async def test_it_says_which_it_is(
        self, network: SimulatedNetwork, autojump_clock: MockClock
    ) -> None:
        assert repr(network) == "<SimulatedNetwork: seed=1>"


class TestOpening:
    async def test_links_are_on_it_within_the_block_only(
        self,
    ) -> None:
        async with open_network():
            assert find_transport("UDP") is not TRANSPORTS["udp"]
            with pytest.raises(InvalidArgumentError, match="no transport 'tcp'"):
                find_transport("tcp")
            assert find_transport("sctp") is not TRANSPORTS["sctp"]
        assert find_transport("udp") is TRANSPORTS["udp"]

    async def test_an_error_leaves_with_the_seed(
        self,
    ) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with open_network(12345):
                raise ValueError("what the test found")
        assert caught.value.__notes__ == ["on a simulated network with seed=12345"]
        assert caught.group_contains(ValueError, match="what the test found")

    async def test_seeds_nobody_asked_for_differ(
        self,
    ) -> None:
        seeds = set[int]()
        for _ in range(3):
            async with open_network() as network:
                seeds.add(network.seed)
        assert len(seeds) == 3

    async def test_it_works_in_real_time(self) -> None:
        async with open_network():
            a, b = bind(A), bind(B)
            began = trio.current_time()
            assert await passes(a, b)
            assert trio.current_time() > began

    async def test_turns_end_by_counting(self) -> None:
        async with open_network():
            pieces: list[int] = []
            for pause in (0, 2 * TURN):
                turns = Turns()
                pieces.append(0)
                while not turns.is_over():
                    pieces[-1] += 1
                    time.sleep(pause)  # noqa: ASYNC251  # it is not to matter
        assert pieces[0] == pieces[1] > 1

    async def test_slow_compressors_need_simulated_time_and_no_thread(
        self,
        network: SimulatedNetwork,
        autojump_clock: MockClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        threads: list[object] = []
        monkeypatch.setattr(trio.to_thread, "run_sync", threads.append)
        async with (
            open_handle(1, compress=CompressConfig("bzip2")) as alpha,
            open_handle(2) as beta,
        ):
            await alpha.add_host(2).add_link(0, A, B)
            await beta.add_host(1).add_link(0, B, A)
            await alpha.get_host(2).wait_reachable()
            inbox = beta.open_channel(0)
            began = trio.current_time()
            await alpha.open_channel(0).send(b"again and " * 1000)
            assert len((await inbox.receive()).data) == 10000
            assert alpha.statistics().tx_compressed_packets == 1
            # To be made smaller, to get there, and to be opened.
            took = 2 * SIMULATED_WORK + network.conditions.latency
            assert trio.current_time() - began == pytest.approx(took)
            assert not threads


async def test_somebody_else_can_have_a_packet_arrive(
    network: SimulatedNetwork, autojump_clock: MockClock
) -> None:
    del autojump_clock
    a = bind(A)
    assert network.inject(b"forged", ("10.66.66.66", 1), A)
    arrivals = await a.receive()
    assert [(train.data, train.source) for train in arrivals.trains] == [
        (b"forged", Address("10.66.66.66", 1))
    ]
    # Nobody is there, or the interface is down.
    assert not network.inject(b"forged", ("10.66.66.66", 1), ("10.0.0.99", 5405))
    network.take_down(A[0])
    assert not network.inject(b"forged", ("10.66.66.66", 1), A)
