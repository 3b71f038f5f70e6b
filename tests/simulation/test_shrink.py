from __future__ import annotations

import attrs
import pytest

from knet_trio._core.liveness import Liveness
from tests.simulation.scenario import Fault, Kind, Scenario
from tests.simulation.shrink import failure, shrink
from tests.simulation.test_model import at_the_end_of_time

CUT = Fault(kind=Kind.CUT, begin=10.0, end=1000.0)
LARGE = Scenario(
    seed=1,
    hosts=2,
    links=2,
    policies=("active",) * 2,
    cipher="aes256",
    ping_interval=0.5,
    pong_timeout=1.0,
    pong_count=1,
    acts=((), (Fault(kind=Kind.POLICY, begin=1.0, end=1.0), CUT)),
)


def test_what_has_no_part_in_a_failure_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(LARGE) == ""
    monkeypatch.setattr(Liveness, "_silence_ends", at_the_end_of_time)
    assert "up, which does not work" in failure(LARGE)
    least = shrink(LARGE)
    assert least == attrs.evolve(
        LARGE,
        links=1,
        policies=(),
        cipher=None,
        acts=((CUT,),),
    )
    assert "up, which does not work" in failure(least)
