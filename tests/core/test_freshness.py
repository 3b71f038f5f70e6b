"""Copies of pings are known, and numbers of probes are good for one answer."""

from __future__ import annotations

import random
from collections import deque

import pytest

from knet_trio._core.freshness import MAX_PINGS, MAX_PROBES, ProbeNumbers, SeenPings


def stamp(number: int) -> bytes:
    return number.to_bytes(16, "big")


def draw(limit: int = MAX_PROBES) -> ProbeNumbers:
    return ProbeNumbers(random.Random(1).randrange, limit)


class TestSeenPings:
    def test_the_second_time_it_is_a_copy(self) -> None:
        seen = SeenPings()
        assert [seen.is_copy(stamp(number)) for number in (1, 2, 1, 1, 2, 3)] == [
            False,
            False,
            True,
            True,
            True,
            False,
        ]

    def test_so_many_are_remembered_and_no_more(self) -> None:
        seen = SeenPings()
        assert not any(seen.is_copy(stamp(number)) for number in range(MAX_PINGS + 1))
        assert len(seen) == MAX_PINGS
        assert seen.is_copy(stamp(1))
        assert not seen.is_copy(stamp(0))
        assert len(seen) == MAX_PINGS

    def test_looking_is_not_remembering(self) -> None:
        seen = SeenPings(2)
        assert stamp(1) not in seen
        assert len(seen) == 0
        for number in (1, 2, 2, 3):
            seen.add(stamp(number))
            assert stamp(number) in seen
        assert [stamp(number) in seen for number in (1, 2, 3)] == [False, True, True]

    @pytest.mark.parametrize("limit", [1, 2, 7, 64])
    def test_it_remembers_what_a_list_of_the_last_ones_does(self, limit: int) -> None:
        dice = random.Random(limit)
        seen = SeenPings(limit)
        last: deque[bytes] = deque(maxlen=limit)
        for _ in range(3000):
            one = stamp(dice.randrange(3 * limit))
            assert (one in seen) == (one in last)
            assert seen.is_copy(one) == (one in last)
            if one not in last:
                last.append(one)
            assert len(seen) == len(last)

    def test_numbers_that_come_round(self) -> None:
        """More stamps than its numbers have values, and buckets whose newest is from before."""
        seen = SeenPings(16)
        last: deque[bytes] = deque(maxlen=16)
        dice = random.Random(1)
        for number in range(150_000):
            seen.add(stamp(number))
            last.append(stamp(number))
            asked = stamp(dice.randrange(max(0, number - 70_000), number + 1))
            assert (asked in seen) == (asked in last)
        assert all(one in seen for one in last)

    def test_zeros_are_a_stamp_like_others(self) -> None:
        seen = SeenPings()
        assert bytes(16) not in seen
        seen.add(stamp(1))
        assert bytes(16) not in seen
        assert not seen.is_copy(bytes(16))
        assert seen.is_copy(bytes(16))


class TestProbeNumbers:
    def test_each_is_another_and_good_for_one_answer(self) -> None:
        numbers = draw()
        drawn = {numbers.draw(size): size for size in range(1000, 1000 + MAX_PROBES)}
        assert len(drawn) == len(numbers) == MAX_PROBES
        assert {number: numbers.take(number) for number in drawn} == drawn
        assert {numbers.take(number) for number in drawn} == {None}

    def test_one_that_was_never_drawn(self) -> None:
        numbers = draw()
        number = numbers.draw(1500)
        assert numbers.take((number + 1) % 65536) is None
        assert numbers.take(number) == 1500

    def test_the_oldest_without_an_answer_is_forgotten(self) -> None:
        numbers = draw(2)
        drawn = [numbers.draw(size) for size in (1, 2, 3)]
        assert [numbers.take(number) for number in drawn] == [None, 2, 3]

    def test_none_is_drawn_that_is_on_its_way(self) -> None:
        chances = iter([7, 7, 7, 8])
        numbers = ProbeNumbers(lambda _: next(chances))
        assert [numbers.draw(1), numbers.draw(2)] == [7, 8]
        assert [numbers.take(7), numbers.take(8)] == [1, 2]
