"""The dedup window, held against a plain set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.window import WINDOW_SIZE, SequenceWindow

# Steps that stay, that move the window, and that are just within and just out of its reach.
STEPS = st.one_of(
    st.integers(-50, 50),
    st.integers(-WINDOW_SIZE - 3, -WINDOW_SIZE + 3),
    st.integers(WINDOW_SIZE - 3, WINDOW_SIZE + 3),
    st.integers(-0x8000, 0x8000),
)


class Model:
    """The rules of the window in their plainest form: newest, and two sets of numbers."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self.started: set[int] = set()
        self.delivered: set[int] = set()

    def advance(self, seq: int) -> bool:
        if self.newest is None:
            self.newest = seq
            return False
        behind = (self.newest - seq) % 65536
        ahead = (seq - self.newest) % 65536
        if behind < WINDOW_SIZE:
            return False
        self.newest = seq
        if ahead > WINDOW_SIZE:
            self.started.clear()
            self.delivered.clear()
            return True
        inside = {(seq - i) % 65536 for i in range(WINDOW_SIZE)}
        new = {(seq - i) % 65536 for i in range(ahead)}
        self.started &= inside - new
        self.delivered &= inside - new
        return False


@given(
    st.integers(0, 65535),
    st.lists(st.tuples(STEPS, st.sampled_from(["look", "start", "deliver"])), max_size=60),
)
def test_the_window_agrees_with_a_set_of_numbers(first: int, moves: list[tuple[int, str]]) -> None:
    window, model = SequenceWindow(), Model()
    seq = first
    for step, action in moves:
        seq = (seq + step) % 65536
        assert window.advance(seq) == model.advance(seq)
        assert window.newest == model.newest
        assert window.is_delivered(seq) == (seq in model.delivered)
        assert window.is_started(seq) == (seq in model.started | model.delivered)
        if action == "deliver":
            window.mark_delivered(seq)
            model.delivered.add(seq)
        elif action == "start" and seq not in model.delivered:
            window.mark_started(seq)
            model.started.add(seq)


def deliver(window: SequenceWindow, seq: int) -> bool:
    """Whether ``seq`` is new; it is delivered after."""
    window.advance(seq)
    new = not window.is_delivered(seq)
    window.mark_delivered(seq)
    return new


def test_the_first_number_may_be_any() -> None:
    window = SequenceWindow()
    assert window.newest is None
    assert window.advance(54321) is False
    assert window.newest == 54321


def test_numbers_out_of_order_are_delivered_once_each() -> None:
    window = SequenceWindow()
    assert [deliver(window, seq) for seq in (3, 1, 2, 3, 2, 1, 4)] == [
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]


def test_the_window_goes_on_where_numbers_wrap() -> None:
    window = SequenceWindow()
    assert all(deliver(window, seq) for seq in (65534, 65535, 1, 2))
    assert not any(deliver(window, seq) for seq in (65534, 65535, 1, 2))
    assert window.newest == 2


def test_the_oldest_number_of_the_window_is_remembered_and_a_step_further_starts_again() -> None:
    window = SequenceWindow()
    deliver(window, 10000)
    deliver(window, 10000 - WINDOW_SIZE + 1)
    assert deliver(window, 10000 - WINDOW_SIZE + 1) is False
    assert window.newest == 10000
    assert window.advance(10000 - WINDOW_SIZE) is True
    assert window.newest == 10000 - WINDOW_SIZE


def test_a_step_of_a_whole_window_ahead_moves_it_and_one_more_starts_again() -> None:
    for start in (0, 1, 4095, 4096, 60000):
        window = SequenceWindow()
        deliver(window, start)
        assert window.advance((start + WINDOW_SIZE) % 65536) is False
        deliver(window, (start + WINDOW_SIZE) % 65536)
        assert window.advance((start + 2 * WINDOW_SIZE + 1) % 65536) is True


def test_every_number_of_a_full_cycle_is_new_again() -> None:
    window = SequenceWindow()
    numbers = range(1, 65536)
    assert all(deliver(window, seq) for seq in numbers)
    assert all(deliver(window, seq) for seq in numbers)


def test_a_cleared_window_knows_nothing() -> None:
    window = SequenceWindow()
    deliver(window, 7)
    window.clear()
    assert window.newest is None
    assert deliver(window, 7)
