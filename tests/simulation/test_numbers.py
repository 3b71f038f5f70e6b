from __future__ import annotations

import math
from typing import ClassVar

import pytest

from knet_trio.testing import Fate
from tests.simulation.numbers import WINDOW, Numbers, distance, is_behind
from tests.simulation.timeline import Timeline
from tests.simulation.witness import Control, Crossing, Sender, Track

ME = Sender(1, 1)
FIRST, SECOND = Sender(2, 1), Sender(2, 2)
# Its first life ended at 10, and what follows is of the second.
END = 10.0


def heard(
    data: dict[Sender, list[tuple[float, int]]],
    pings: dict[Sender, list[tuple[float, int]]],
    *,
    disabled: bool = False,
    timed: bool = True,
) -> Numbers:
    """What host 1 heard of host 2, over link 0: when, and which number."""
    tracks = [
        Track(sender, number, 0, [b""], [Crossing(ME, 0, 0, at, at, Fate.DELIVERED)])
        for sender, numbers in data.items()
        for at, number in numbers
    ]
    controls = {
        (sender, ME): [Control(0, None, at, at, number, timed) for at, number in numbers]
        for sender, numbers in pings.items()
    }
    switched_off = Timeline()
    switched_off.set(0.0, disabled)
    numbers = Numbers()
    numbers.note(tracks, controls, {(1, 2, 0): switched_off})
    return numbers


def test_numbers_go_round() -> None:
    assert is_behind(65535, 1)
    assert not is_behind(1, 65535)
    assert not is_behind(7, 7)
    assert distance(65535, 1) == distance(1, 65535) == 2


@pytest.mark.parametrize("said_by", ["data", "pings"])
def test_a_number_leaves_the_window_when_one_far_off_is_heard(said_by: str) -> None:
    said = {FIRST: [(5.0, 1 + WINDOW)]}
    numbers = heard(said, {}) if said_by == "data" else heard({}, said, timed=False)
    assert numbers.left_window(FIRST, ME, 1, 4.0, 6.0)
    assert not numbers.left_window(FIRST, ME, 2, 4.0, 6.0)
    assert not numbers.left_window(FIRST, ME, 1, 5.5, 6.0)
    assert not numbers.left_window(FIRST, ME, 1, 4.0, 4.5)
    assert not numbers.left_window(SECOND, ME, 1, 4.0, 6.0)
    assert not heard({}, said).left_window(FIRST, ME, 1, 4.0, 6.0)


class TestForgottenForAnother:
    """A number leaves the window, too, when another one that is near to it leaves it."""

    newest: ClassVar = (3.0, WINDOW)

    def test_that_is_far_behind_what_came_before_both(self) -> None:
        numbers = heard({FIRST: [self.newest, (4.0, 102), (5.0, 0)]}, {})
        assert numbers.left_window(FIRST, ME, 102, 4.0, 6.0)
        # It was not there yet, or the other one came first.
        assert not numbers.left_window(FIRST, ME, 102, 4.0, 4.5)
        assert not numbers.left_window(FIRST, ME, 102, 5.5, 6.0)

    def test_but_not_when_that_is_in_the_window_still(self) -> None:
        numbers = heard({FIRST: [self.newest, (4.0, 102), (5.0, 1)]}, {})
        assert not numbers.left_window(FIRST, ME, 102, 4.0, 6.0)

    def test_or_the_number_itself_had_it_begin_anew(self) -> None:
        numbers = heard({FIRST: [self.newest, (4.0, 0), (5.0, 1)]}, {})
        assert not numbers.left_window(FIRST, ME, 0, 4.0, 6.0)

    def test_or_the_number_itself_became_the_newest(self) -> None:
        numbers = heard({FIRST: [(3.0, 1), (4.0, 90), (5.0, 1 + WINDOW)]}, {})
        assert not numbers.left_window(FIRST, ME, 90, 4.0, 6.0)


def test_a_copy_may_come_when_its_sender_has_begun_anew() -> None:
    for numbers in (heard({SECOND: [(5.0, 1)]}, {}), heard({}, {SECOND: [(5.0, 0)]})):
        assert numbers.restarted(FIRST, ME, 4.0, 6.0)
        assert not numbers.restarted(FIRST, ME, 5.5, 6.0)
        assert not numbers.restarted(FIRST, ME, 4.0, 4.5)
        assert not numbers.restarted(SECOND, ME, 4.0, 6.0)


class TestMistaken:
    """Whether a message of the second life can only be taken for one of the first."""

    data: ClassVar = {FIRST: [(1.0, 15), (2.0, 16)]}

    def test_only_one_whose_number_was_used(self) -> None:
        numbers = heard(self.data, {})
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, math.inf)
        assert not numbers.is_mistaken(SECOND, ME, 17, 20.0, math.inf)

    @pytest.mark.parametrize("lost", [END, math.inf])
    def test_a_ping_that_says_0_tells(self, lost: float) -> None:
        numbers = heard(self.data, {FIRST: [(9.0, 16)], SECOND: [(12.0, 0)]})
        assert not numbers.is_mistaken(SECOND, ME, 16, 20.0, lost)

    def test_unless_it_came_too_late_or_for_a_link_that_is_off(self) -> None:
        pings = {FIRST: [(9.0, 16)], SECOND: [(12.0, 0)]}
        assert heard(self.data, pings).is_mistaken(SECOND, ME, 16, 11.0, math.inf)
        ignored = heard(self.data, pings, disabled=True)
        assert ignored.is_mistaken(SECOND, ME, 16, 20.0, math.inf)

    def test_or_that_link_had_not_said_anything_else_before(self) -> None:
        numbers = heard(self.data, {FIRST: [(0.5, 0)], SECOND: [(12.0, 0)]})
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, math.inf)
        numbers = heard(self.data, {FIRST: [(0.5, 16), (1.5, 0)], SECOND: [(12.0, 0)]})
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, math.inf)

    def test_a_number_that_goes_back_tells_after_contact_was_lost(self) -> None:
        numbers = heard(self.data, {SECOND: [(12.0, 6)]})
        assert not numbers.is_mistaken(SECOND, ME, 16, 20.0, END)
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, 20.1)
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, math.inf)

    def test_one_that_does_not_go_back_tells_nothing(self) -> None:
        numbers = heard(self.data, {SECOND: [(12.0, 16)]})
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, END)

    def test_without_any_ping_its_data_tells(self) -> None:
        numbers = heard(self.data, {})
        assert not numbers.is_mistaken(SECOND, ME, 15, 20.0, END)
        assert numbers.is_mistaken(SECOND, ME, 16, 20.0, END)
