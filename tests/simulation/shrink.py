"""Less of a scenario that fails: what is left is easier to understand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from tests.simulation.play import causes, play
from tests.simulation.scenario import Kind, Scenario

# What is left out if that makes no difference, the most telling first.
_PLAIN: tuple[tuple[str, Any], ...] = (
    ("loss", 0.0),
    ("corrupt", 0.0),
    ("duplicate", 0.0),
    ("reorder", 0.0),
    ("jitter", 0.0),
    ("delays", ()),
    ("filters", False),
    ("compress", ()),
    ("mtus", ()),
    ("black_hole", False),
    ("burst", 1.0),
    ("checksum", True),
    ("roaming", False),
    ("policies", ()),
    ("latency", 0.001),
)

# What there is only where packets are sealed.
_SEALED = (Kind.REKEY, Kind.RECORDING)


def failure(scenario: Scenario) -> str:
    """What is wrong with a scenario, "" if nothing is."""
    try:
        play(scenario)
    except Exception as error:
        return "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes(error))
    return ""


def shrink(scenario: Scenario) -> Scenario:
    """The least that still fails in the same way; one thing less, and it does not."""
    kind = _kind(failure(scenario))
    smaller: Scenario | None = scenario
    while smaller is not None:
        scenario = smaller
        smaller = next((s for s in _smaller(scenario) if _kind(failure(s)) == kind), None)
    return scenario


def _kind(failed: str) -> str:
    return failed.partition(":")[0]


def _fewer_links(scenario: Scenario) -> dict[str, Any]:
    links = scenario.links - 1
    return {"links": links, "mtus": scenario.mtus[:links], "delays": scenario.delays[:links]}


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    acts = scenario.acts
    for i in range(len(acts)):
        if len(acts) > 1:
            yield attrs.evolve(scenario, acts=acts[:i] + acts[i + 1 :])
    for i, act in enumerate(acts):
        for j in range(len(act)):
            less = act[:j] + act[j + 1 :]
            yield attrs.evolve(scenario, acts=(*acts[:i], less, *acts[i + 1 :]))
    faults = [fault for act in acts for fault in act]
    if scenario.hosts > 2 and all(max(f.a, f.b) < scenario.hosts for f in faults):
        yield attrs.evolve(scenario, hosts=scenario.hosts - 1)
    if scenario.links > 1 and all(fault.link < scenario.links - 1 for fault in faults):
        yield attrs.evolve(scenario, **_fewer_links(scenario))
    if scenario.cipher is not None and not any(fault.kind in _SEALED for fault in faults):
        yield attrs.evolve(scenario, cipher=None, checksum=True)
    for name, plain in _PLAIN:
        if name == "roaming" and any(fault.kind is Kind.MOVE for fault in faults):
            continue
        if getattr(scenario, name) != plain:
            yield attrs.evolve(scenario, **{name: plain})
