from __future__ import annotations

import pytest

from knet_trio.errors import InvalidArgumentError
from knet_trio.testing import Conditions, Interface


def test_the_defaults_do_nothing_but_take_time() -> None:
    conditions = Conditions()
    assert conditions.latency > 0
    assert not any(
        (
            conditions.jitter,
            conditions.loss,
            conditions.reorder,
            conditions.duplicate,
            conditions.corrupt,
        )
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency", -1),
        ("latency", "1"),
        ("jitter", float("nan")),
        ("loss", 1.5),
        ("loss", True),
        ("burst", 0),
        ("corrupt", -0.1),
        ("mtu", 67),
        ("mtu", 65536),
        ("rate", 0),
        ("queue", -1),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        Conditions(**{name: value})  # type: ignore[arg-type]  # that is the point


def test_an_interface_is_checked_too() -> None:
    with pytest.raises(InvalidArgumentError, match=r"mtu 20 is not valid: .* from 68 to 65535"):
        Interface(mtu=20)
