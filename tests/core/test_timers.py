"""Deadlines of many things, held against a plain dictionary."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.timers import TimerQueue

KEYS = st.integers(0, 9)
TIMES = st.integers(0, 30).map(float)
ACTIONS = st.one_of(
    st.tuples(st.just("set"), KEYS, TIMES),
    st.tuples(st.just("set"), KEYS, st.just(math.inf)),
    st.tuples(st.just("discard"), KEYS, st.just(0.0)),
    st.tuples(st.just("pop"), st.just(0), TIMES),
)


@given(st.lists(ACTIONS, max_size=200))
def test_the_queue_agrees_with_a_dictionary(actions: list[tuple[str, int, float]]) -> None:
    queue: TimerQueue[int] = TimerQueue()
    model: dict[int, float] = {}
    for action, key, when in actions:
        if action == "set":
            queue.set(key, when)
            model[key] = when
            if when == math.inf:
                del model[key]
        elif action == "discard":
            queue.discard(key)
            model.pop(key, None)
        else:
            due = queue.pop_due(when)
            assert set(due) == {k for k, deadline in model.items() if deadline <= when}
            assert len(due) == len(set(due))
            assert [model[k] for k in due] == sorted(model[k] for k in due)
            for k in due:
                del model[k]
        assert queue.next() == min(model.values(), default=math.inf)
        assert len(queue) == len(model)


def test_an_empty_queue_waits_forever() -> None:
    queue: TimerQueue[str] = TimerQueue()
    assert queue.next() == math.inf
    assert queue.pop_due(1e9) == []
    assert len(queue) == 0


def test_what_is_due_comes_earliest_first_and_in_the_order_it_was_set_on_a_tie() -> None:
    queue: TimerQueue[str] = TimerQueue()
    for key, deadline in (("c", 3.0), ("a", 1.0), ("b2", 2.0), ("b1", 2.0), ("d", 4.0)):
        queue.set(key, deadline)
    assert queue.pop_due(3.0) == ["a", "b2", "b1", "c"]
    assert queue.next() == 4.0


def test_keys_need_no_order_of_their_own() -> None:
    queue: TimerQueue[object] = TimerQueue()
    things = [object() for _ in range(200)]
    for _ in range(3):
        for thing in things:
            queue.set(thing, 1.0)
            queue.set(thing, 2.0)
    due = queue.pop_due(2.0)
    assert len(due) == len(things)
    assert set(due) == set(things)


def test_a_moved_deadline_is_due_at_its_new_time_alone() -> None:
    queue: TimerQueue[str] = TimerQueue()
    queue.set("x", 1.0)
    queue.set("x", 5.0)
    assert queue.pop_due(4.0) == []
    queue.set("x", 2.0)
    queue.set("x", 5.0)
    assert queue.pop_due(5.0) == ["x"]
    assert queue.pop_due(9.0) == []


def test_deadlines_moved_many_times_over_are_still_right() -> None:
    queue: TimerQueue[int] = TimerQueue()
    for tick in range(5000):
        for key in range(3):
            queue.set(key, float(tick + key))
    assert queue.next() == 4999.0
    assert queue.pop_due(math.inf) == [0, 1, 2]
