from __future__ import annotations

import json

import pytest

from tests.simulation.scenario import STORM, Kind, Scenario, make_scenario

SEEDS = range(200)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_seed_makes_one_scenario(seed: int) -> None:
    assert make_scenario(seed) == make_scenario(seed)
    assert make_scenario(seed) != make_scenario(seed + 1)


def test_json_keeps_all_of_it() -> None:
    for seed in SEEDS:
        scenario = make_scenario(seed, hours=0.1)
        assert Scenario(**json.loads(json.dumps(scenario.to_dict()))) == scenario


def test_hours_are_filled_with_acts() -> None:
    scenario = make_scenario(1, hours=2)
    assert len(scenario.acts) * scenario.act_seconds == pytest.approx(7200, abs=200)


def test_everything_happens_in_some_of_them() -> None:
    scenarios = [make_scenario(seed) for seed in SEEDS]
    faults = [fault for scenario in scenarios for act in scenario.acts for fault in act]
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(0 <= fault.begin <= STORM < 1000 for fault in faults)
    assert {scenario.hosts for scenario in scenarios} == {2, 3, 4, 5}
    assert {scenario.links for scenario in scenarios} == {1, 2, 3}
    assert len({scenario.policies for scenario in scenarios if scenario.hosts == 2}) > 3
    for name in ("cipher", "filters", "roaming", "lossy", "black_hole", "hedge"):
        assert len({bool(getattr(scenario, name)) for scenario in scenarios}) == 2
