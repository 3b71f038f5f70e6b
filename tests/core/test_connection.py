"""When a connection to a peer is tried. Times are binary fractions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.connection import (
    TRANSITIONS,
    ConnectCue,
    Connector,
    ConnectPhase,
)

DESIGN: Final = Path(__file__).parents[2] / "docs" / "design.md"
START: Final = 1000.0
INTERVAL: Final = 4.0


def draw() -> str:
    """The table of the transitions, as it is in the docs."""
    rows = ["| a connection is | and | so it is |", "| --- | --- | --- |"]
    rows += [
        f"| {old.value} | {cue.value} | {new.value} |" for (old, cue), new in TRANSITIONS.items()
    ]
    return "\n".join(rows)


def test_the_table_in_the_docs_is_this_one() -> None:
    assert draw() in DESIGN.read_text()


def connected() -> Connector:
    """One that is there since the first attempt."""
    connector = Connector(INTERVAL)
    connector.begin(START)
    assert connector.taken()
    return connector


class TestTrying:
    def test_the_first_attempt_is_due_at_once(self) -> None:
        assert Connector(INTERVAL).deadline == -math.inf

    def test_one_that_is_refused_is_tried_an_interval_after_it_began(self) -> None:
        connector = Connector(INTERVAL)
        connector.begin(START)
        assert connector.deadline == math.inf
        assert connector.broken()
        assert connector.deadline == START + INTERVAL

    def test_one_that_was_there_for_long_is_made_again_at_once(self) -> None:
        connector = connected()
        assert connector.deadline == math.inf
        assert connector.broken()
        # It was lost a minute later, and that is over.
        assert connector.deadline == START + INTERVAL < START + 60

    def test_what_has_happened_already_is_no_news(self) -> None:
        connector = Connector(INTERVAL)
        assert not connector.broken()
        assert not connector.taken()
        connector.begin(START)
        connector.begin(START + 1)
        assert connector.taken()
        assert not connector.taken()
        assert connector.broken()
        assert not connector.broken()
        # The attempt under way was not begun again.
        assert connector.deadline == START + INTERVAL

    def test_another_interval_counts_from_the_same_attempt(self) -> None:
        connector = Connector(INTERVAL)
        connector.begin(START)
        connector.interval = 1.0
        assert connector.broken()
        assert connector.deadline == START + 1
        connector.interval = 100.0
        assert connector.deadline == START + 100


EVENTS: Final = st.lists(
    st.tuples(
        st.sampled_from(["wait", "taken", "broken", "interval"]),
        st.integers(0, 64).map(lambda ticks: ticks / 8),
    ),
    max_size=50,
)


@given(EVENTS)
def test_attempts_are_an_interval_apart_and_no_further(events: list[tuple[str, float]]) -> None:
    """Whatever happens: it is tried as soon as it may be, and never sooner."""
    connector = Connector(INTERVAL)
    now = START
    attempts: list[float] = []
    for what, amount in events:
        phase = connector.phase
        if what == "wait":
            now += amount
        elif what == "taken":
            assert connector.taken() is (phase is ConnectPhase.CONNECTING)
        elif what == "broken":
            assert connector.broken() is (phase is not ConnectPhase.WAITING)
        else:
            connector.interval = amount + 1 / 8
        waits = connector.phase is ConnectPhase.WAITING
        since = attempts[-1] if attempts else -math.inf
        assert connector.deadline == (since + connector.interval if waits else math.inf)
        if now >= connector.deadline:
            connector.begin(now)
            attempts.append(now)
            assert connector.phase is ConnectPhase.CONNECTING


def test_every_phase_can_be_left_and_reached() -> None:
    assert {old for old, _ in TRANSITIONS} == set(ConnectPhase)
    assert set(TRANSITIONS.values()) == set(ConnectPhase)
    assert {cue for _, cue in TRANSITIONS} == set(ConnectCue)
