"""The judge of histories judges right."""

from __future__ import annotations

import pytest

from tests.examples.histories import Operation, is_linearizable

SET_A = Operation("set", "a", 0, 1)
SET_B = Operation("set", "b", 2, 3)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [Operation("get", None, 0, 1)],
        [SET_A, SET_B, Operation("get", "b", 4, 5)],
        # While it is being set, both are right, but in one order.
        [SET_A, SET_B, Operation("get", "a", 2, 2.1), Operation("get", "b", 2.2, 2.3)],
        # Two at once may come in either order.
        [SET_A, Operation("set", "b", 0.5, 3), Operation("get", "a", 4, 5)],
        # What may have been done comes late, or never.
        [Operation("set", "x", 0), SET_A, SET_B, Operation("get", "x", 4, 5)],
        [Operation("set", "x", 0), SET_A, SET_B, Operation("get", "b", 4, 5)],
    ],
)
def test_these_are_linearizable(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        # What was set is lost, or old, or was never set.
        [SET_A, Operation("get", None, 4, 5)],
        [SET_A, SET_B, Operation("get", "a", 4, 5)],
        [SET_A, Operation("get", "c", 4, 5)],
        [SET_A, Operation("set", "b", 6, 7), Operation("get", "b", 4, 5)],
        # The newer one was seen before the older one.
        [SET_A, SET_B, Operation("get", "b", 2, 2.1), Operation("get", "a", 2.2, 2.3)],
        # It comes back after it was replaced.
        [
            Operation("set", "x", 0),
            Operation("get", "x", 1, 2),
            Operation("set", "a", 3, 4),
            Operation("get", "a", 5, 6),
            Operation("get", "x", 7, 8),
        ],
    ],
)
def test_these_are_not(history: list[Operation]) -> None:
    assert not is_linearizable(history)
