"""Two conversations do what streams promise, whatever happens to them: against a model.

The model is the bytes that were written on each stream. What is read is a beginning of them at any
time, and all of them when the network has been well for long enough and nobody gave up.
"""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.limits import WINDOW_BUDGET
from knet_trio.streams._core.packet_builder import MIN_PIECE
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import RECEIVING, SENDING, Code, StreamKind
from tests.streams.core.lossy import SIDES, TwoSides, Weather

SHARES = st.sampled_from([0.0, 0.0, 0.1, 0.5])


@attrs.define(eq=False)
class Way:
    """One direction of a stream: what one side has written, and the other has read."""

    written: bytearray = attrs.Factory(bytearray)
    read: bytearray = attrs.Factory(bytearray)
    finished: bool = False


@attrs.define(eq=False)
class End:
    """One end of a stream."""

    side: int
    connection: Connection
    state: StreamState
    sends: Way
    receives: Way


class TwoConversations(RuleBasedStateMachine):
    """Programs on both sides, and the network between them."""

    ends = Bundle("ends")

    def __init__(self) -> None:
        super().__init__()
        self.two = TwoSides()
        self.all: list[End] = []
        # The two ways of each stream, by the ids of its connection and its key at the opener.
        self.ways: dict[tuple[int, int], tuple[Way, Way]] = {}
        self.by_state: dict[StreamState, End] = {}

    # What the programs do.

    @rule(target=ends, side=st.sampled_from(SIDES), kind=st.sampled_from(StreamKind))
    def open(self, side: int, kind: StreamKind) -> End:
        state = self.two.open(side, kind)
        connection = self.two.connection(side)
        ways = self.ways[connection.local, state.key] = Way(), Way()
        return self.add(End(side, connection, state, *ways))

    def add(self, end: End) -> End:
        self.all.append(end)
        self.by_state[end.state] = end
        return end

    @rule(target=ends, side=st.sampled_from(SIDES))
    def accept(self, side: int) -> object:
        """Take what the other side has opened."""
        self.two.flush()
        found: list[End] = []
        connection = self.two.sides[side].connection
        for state in self.two.opened[side]:
            if connection is None:
                break
            ways = self.ways.get((connection.remote, state.key ^ 1))
            if state.is_over or ways is None:
                continue
            connection.accept(state, self.two.now)
            found.append(self.add(End(side, connection, state, ways[1], ways[0])))
        self.two.opened[side].clear()
        return multiple(*found)

    @rule(end=ends, data=st.binary(max_size=100), times=st.sampled_from([1, 10, 300, 3000]))
    def write(self, end: End, data: bytes, times: int) -> None:
        if end.sends.finished or end.state.sending.is_over:
            return
        end.connection.write(end.state, data * times)
        end.sends.written += data * times

    @rule(end=ends)
    def finish(self, end: End) -> None:
        if not end.state.sending.is_over:
            end.connection.finish(end.state)
            end.sends.finished = True

    @rule(end=ends, limit=st.sampled_from([1, 1000, 10**6]))
    def read(self, end: End, limit: int) -> None:
        end.receives.read += end.connection.read(end.state, limit, self.two.now)
        receiving = end.state.receiving
        if receiving.stage is ReceivingStage.WHOLE and not receiving.available:
            end.connection.end_read(end.state)

    @rule(
        end=consumes(ends),
        halves=st.sampled_from([SENDING, RECEIVING, SENDING | RECEIVING]),
        code=st.sampled_from([Code.CANCELLED, Code.REFUSED]),
    )
    def reset(self, end: End, halves: int, code: Code) -> None:
        end.connection.reset(end.state, halves, code, "enough")

    # What the network and the machines do.

    @rule(loss=SHARES, duplicate=SHARES, reorder=SHARES, damage=SHARES)
    def change_weather(self, loss: float, duplicate: float, reorder: float, damage: float) -> None:
        self.two.weather = Weather(loss, duplicate, reorder, damage=damage, jitter=0.01)

    @rule(piece=st.sampled_from([MIN_PIECE, 600, 1400, 9000]))
    def change_mtu(self, piece: int) -> None:
        self.two.piece = piece

    @rule(cut=st.booleans())
    def cut(self, cut: bool) -> None:
        self.two.cut = cut

    @rule(seconds=st.sampled_from([0.001, 0.05, 1.0, 10.0]))
    def go_on(self, seconds: float) -> None:
        self.two.run_for(seconds)

    @rule(side=st.sampled_from(SIDES))
    def stop_for_a_while(self, side: int) -> None:
        """A process is stopped; the other one too, since both have one clock here."""
        self.two.now += 5.0

    @precondition(lambda self: len(self.all) > 3)
    @rule(side=st.sampled_from(SIDES))
    def restart(self, side: int) -> None:
        for end in self.all:
            if end.side == side:
                # Nobody is there any more who could use it.
                end.sends.finished = True
        self.two.restart(side)
        self.two.opened[side].clear()

    # What holds.

    @invariant()
    def what_is_read_is_a_beginning_of_what_was_written(self) -> None:
        for end in self.all:
            assert end.receives.written.startswith(end.receives.read)

    @invariant()
    def nothing_was_refused_as_a_violation(self) -> None:
        for side in SIDES:
            for connection in self.two.ended[side]:
                assert connection.failure is not None
                assert "rules" not in connection.failure.cause.value

    @invariant()
    def windows_are_within_their_budget(self) -> None:
        for side in SIDES:
            connection = self.two.sides[side].connection
            if connection is not None:
                assert 0 <= connection._windows.left <= WINDOW_BUDGET  # pyright: ignore[reportPrivateUsage]
                assert connection.recovery.in_flight >= 0

    def teardown(self) -> None:
        """When all is well, everything arrives that nobody has given up."""
        self.two.cut = False
        self.two.weather = Weather()
        for _ in range(300):
            self.two.run_for(0.5)
            for side in SIDES:
                self.accept(side)
            for end in self.all:
                self.read(end, 10**6)
            if all(self.is_done(end) for end in self.all):
                break
        for end in self.all:
            assert self.is_done(end), end
        self.what_is_read_is_a_beginning_of_what_was_written()
        self.nothing_was_refused_as_a_violation()

    def is_done(self, end: End) -> bool:
        state = end.state
        if self.two.sides[end.side].connection is not end.connection:
            # The connection has ended, or the process has.
            return True
        if state.receiving_failure is not None or state.receiving.stage is ReceivingStage.STOPPED:
            return True
        if end.receives.read != end.receives.written:
            return False
        return state.receiving.stage is ReceivingStage.DONE or not end.receives.finished


TestTwoConversations = TwoConversations.TestCase
TestTwoConversations.settings = settings(
    max_examples=3 * settings().max_examples // 2, stateful_step_count=40
)
