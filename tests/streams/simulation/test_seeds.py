"""Scenarios that are played each time. ``python -m tests.streams.simulation`` plays more."""

from __future__ import annotations

import pytest

from tests.streams.simulation.play import play
from tests.streams.simulation.scenario import make_scenario


@pytest.mark.parametrize("seed", range(8))
def test_streams_keep_their_promises(seed: int) -> None:
    play(make_scenario(seed))


@pytest.mark.parametrize("seed", [3])
def test_a_seed_is_a_run(seed: int) -> None:
    assert play(make_scenario(seed)) == play(make_scenario(seed))
