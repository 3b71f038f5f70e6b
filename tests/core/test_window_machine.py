"""The dedup window, however messages, restarts and looks at it come one after the other."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from knet_trio._core.window import SequenceWindow
from tests.core.models import NUMBERS, WINDOW, WindowModel

# From the newest number: near it, at the edges of the window, and anywhere.
STEPS = st.one_of(
    st.integers(-20, 20),
    st.integers(-WINDOW - 2, -WINDOW + 2),
    st.integers(WINDOW - 2, WINDOW + 2),
    st.integers(-NUMBERS // 2, NUMBERS // 2),
)


class WindowMachine(RuleBasedStateMachine):
    """A host's numbers arrive; some messages are begun, some are delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.window = SequenceWindow()
        self.model = WindowModel()
        # What `advance` has seen last, which the marks may be asked of.
        self.current: int | None = None

    @rule(step=STEPS)
    def arrives(self, step: int) -> None:
        number = ((self.model.newest or 0) + step) % NUMBERS
        assert self.window.advance(number) == self.model.advance(number)
        self.current = number

    @precondition(lambda self: self.current is not None)
    @rule()
    def is_delivered(self) -> None:
        assert self.current is not None
        self.window.mark_delivered(self.current)
        self.model.delivered.add(self.model.closest(self.current))

    @precondition(lambda self: self.current is not None)
    @rule()
    def is_started(self) -> None:
        assert self.current is not None
        message = self.model.closest(self.current)
        if message not in self.model.delivered:
            self.window.mark_started(self.current)
            self.model.started.add(message)

    @rule()
    def begins_anew(self) -> None:
        self.window.clear()
        self.model.clear()
        self.current = None

    @invariant()
    def the_newest_is_the_same(self) -> None:
        newest = self.model.newest
        assert self.window.newest == (None if newest is None else newest % NUMBERS)

    @invariant()
    def everything_in_the_window_is_marked_the_same(self) -> None:
        if self.model.newest is None:
            return
        marked = set(filter(self.model.holds, self.model.started | self.model.delivered))
        probes = {self.model.newest, self.model.newest - WINDOW + 1, *marked}
        probes |= {message + 1 for message in marked if message < self.model.newest}
        for message in probes:
            number = message % NUMBERS
            assert self.window.is_delivered(number) == (message in self.model.delivered)
            assert self.window.is_started(number) == (message in marked)


TestWindowMachine = WindowMachine.TestCase
