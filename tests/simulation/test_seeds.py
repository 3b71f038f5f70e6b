"""Scenarios that are played each time: of some seeds, and those that failed once.

``nox -s simulate -- --seeds 1000 --hours 0.1 --shrink`` plays more. What fails is kept in
``regressions.json``: what was wrong, and the least scenario that showed it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import pytest

from tests.simulation.play import play
from tests.simulation.scenario import Scenario, make_scenario


class Regression(TypedDict):
    """What went wrong once, and how to see whether it does again."""

    found: str
    scenario: dict[str, object]


REGRESSIONS: list[Regression] = json.loads(
    Path(__file__).with_name("regressions.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("seed", range(20))
def test_a_random_cluster_keeps_its_promises(seed: int) -> None:
    play(make_scenario(seed))


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression["found"])
def test_what_failed_once_does_not_again(regression: Regression) -> None:
    play(Scenario(**regression["scenario"]))  # type: ignore[arg-type]  # it is checked there
