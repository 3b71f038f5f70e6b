from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.testing import Conditions, Fate
from knet_trio.testing.wire import Copy, Wire

MANY = 20000


def copies(outcome: Fate | list[Copy]) -> list[Copy]:
    assert not isinstance(outcome, Fate), outcome
    return outcome


def arrival(outcome: Fate | list[Copy]) -> float:
    (copy,) = copies(outcome)
    return copy.arrival


def fates(conditions: Conditions, count: int = MANY) -> list[bool]:
    """For each of so many packets, whether it was lost."""
    wire = Wire("fates")
    return [wire.carry(conditions, 100, number) is Fate.LOST for number in range(count)]


def test_a_packet_takes_the_latency() -> None:
    assert Wire("").carry(Conditions(latency=0.25), 100, 10.0) == [Copy(10.25, False)]


class TestLoss:
    @pytest.mark.parametrize("burst", [1, 10])
    def test_the_share_is_lost_whatever_the_bursts(self, burst: float) -> None:
        lost = fates(Conditions(loss=0.2, burst=burst))
        assert sum(lost) / MANY == pytest.approx(0.2, abs=0.02)

    @pytest.mark.parametrize(("burst", "mean"), [(1, 1.25), (10, 10)])
    def test_bursts_have_that_mean_length(self, burst: float, mean: float) -> None:
        runs = [len(list(run)) for lost, run in groupby(fates(Conditions(loss=0.2, burst=burst)))
                if lost]  # fmt: skip
        assert sum(runs) / len(runs) == pytest.approx(mean, rel=0.1)

    def test_none_and_all_are_exact(self) -> None:
        assert not any(fates(Conditions()))
        assert all(fates(Conditions(loss=1)))


class TestOrder:
    def test_jitter_keeps_it(self) -> None:
        wire, conditions = Wire(""), Conditions(latency=1, jitter=1)
        arrivals = [arrival(wire.carry(conditions, 100, number / 100)) for number in range(1000)]
        assert arrivals == sorted(arrivals)
        delays = [when - number / 100 for number, when in enumerate(arrivals)]
        assert 1 <= min(delays) < max(delays) <= 2

    def test_reordering_breaks_it_for_its_share(self) -> None:
        wire = Wire("")
        conditions = Conditions(latency=1, reorder=0.1, reorder_delay=0.5)
        arrivals = [arrival(wire.carry(conditions, 100, number / 100)) for number in range(MANY)]
        held = [when - number / 100 - 1 for number, when in enumerate(arrivals)]
        assert max(held) <= 0.5 + 1e-9
        assert sum(delay > 1e-9 for delay in held) / MANY == pytest.approx(0.1, abs=0.02)
        assert any(after < before for before, after in pairwise(arrivals))

    def test_other_conditions_are_another_way_that_may_be_quicker(self) -> None:
        wire = Wire("")
        assert arrival(wire.carry(Conditions(latency=1000), 100, 0)) == 1000
        assert arrival(wire.carry(Conditions(latency=1), 100, 1)) == 2


class TestRate:
    def test_packets_wait_for_each_other(self) -> None:
        wire, conditions = Wire(""), Conditions(latency=0, rate=1000)
        arrivals = [arrival(wire.carry(conditions, 100, 0)) for _ in range(3)]
        assert arrivals == pytest.approx([0.1, 0.2, 0.3])
        assert arrival(wire.carry(conditions, 100, 5)) == pytest.approx(5.1)

    def test_what_the_queue_does_not_hold_is_lost(self) -> None:
        wire, conditions = Wire(""), Conditions(rate=1000, queue=250)
        outcomes = [wire.carry(conditions, 100, 0) for _ in range(4)]
        assert [outcome is Fate.QUEUE_FULL for outcome in outcomes] == [False, False, True, True]

    def test_a_packet_larger_than_the_queue_passes_when_it_is_empty(self) -> None:
        wire, conditions = Wire(""), Conditions(rate=1000, queue=50)
        assert copies(wire.carry(conditions, 100, 0))
        assert wire.carry(conditions, 100, 0) is Fate.QUEUE_FULL


class TestDamage:
    def test_the_share_is_damaged(self) -> None:
        wire, conditions = Wire(""), Conditions(corrupt=0.3)
        damaged = [copies(wire.carry(conditions, 100, number))[0].damaged for number in range(MANY)]
        assert sum(damaged) / MANY == pytest.approx(0.3, abs=0.02)

    @given(st.binary(min_size=1))
    def test_a_few_bits_turn(self, data: bytes) -> None:
        damaged = Wire("").damage(data)
        turned = int.from_bytes(damaged) ^ int.from_bytes(data)
        assert 1 <= turned.bit_count() <= 3
        assert len(damaged) == len(data)

    def test_nothing_cannot_be_damaged(self) -> None:
        assert Wire("").damage(b"") == b""


def test_the_share_is_duplicated() -> None:
    wire, conditions = Wire(""), Conditions(duplicate=0.3)
    twice = [len(copies(wire.carry(conditions, 100, number))) - 1 for number in range(MANY)]
    assert sum(twice) / MANY == pytest.approx(0.3, abs=0.02)


def test_what_is_too_big_does_not_pass_and_what_fits_does() -> None:
    wire, conditions = Wire(""), Conditions(mtu=1000)
    assert copies(wire.carry(conditions, 1000, 0))
    assert wire.carry(conditions, 1001, 0) is Fate.TOO_BIG


def test_nothing_passes_a_cut() -> None:
    wire = Wire("")
    wire.cut = True
    assert wire.carry(Conditions(), 100, 0) is Fate.CUT


def test_what_a_packet_meets_depends_on_seed_and_place_alone() -> None:
    rough = Conditions(loss=0.5, jitter=1, duplicate=0.5, reorder=0.5)

    def outcomes(seed: str, first: Conditions) -> list[object]:
        wire = Wire(seed)
        return [wire.carry(rough if number else first, 100, 0) for number in range(100)]

    assert outcomes("a", rough) == outcomes("a", rough)
    assert outcomes("a", rough) != outcomes("b", rough)
