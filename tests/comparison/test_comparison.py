"""What the comparison makes of arrivals; docs/comparison.md has what it measured."""

from __future__ import annotations

import math

import pytest

from tests.comparison.__main__ import LATE, judge, measure, show
from tests.comparison.message import INTERVAL

CUT = 10.0
ENDS = CUT + 2 + LATE
SENT = [CUT + number * INTERVAL for number in range(1, 400)]


def test_messages_that_go_on_after_a_gap() -> None:
    arrivals = [(9.0, 9.001), *((sent, sent + 0.001) for sent in SENT if sent > CUT + 0.1)]
    outcome = judge(arrivals, CUT, ENDS)
    assert outcome.again == pytest.approx(0.1, abs=2 * INTERVAL)
    assert outcome.lost == pytest.approx(0.05, abs=0.01)
    assert outcome.late == 0


def test_messages_that_were_held_up_are_late() -> None:
    arrivals = [(sent, max(sent, CUT + 1.5) + 0.001) for sent in SENT]
    outcome = judge(arrivals, CUT, ENDS)
    assert outcome.again == pytest.approx(1.5, abs=0.01)
    assert outcome.lost == pytest.approx(0, abs=0.01)
    assert outcome.late == pytest.approx(0.25, abs=0.01)


def test_what_came_before_the_cut_is_no_sign_of_life() -> None:
    outcome = judge([(9.99, 12.0)], CUT, ENDS)
    assert (outcome.again, outcome.lost) == (math.inf, 1)
    assert show(outcome) == "never | 100 % | 0 %"


async def test_a_cut_is_measured() -> None:
    outcome = await measure("knet_trio, active", "interface-down", 0.0, 2.0)
    assert outcome.again < 2
