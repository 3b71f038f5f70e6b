"""Runs of packets, held against the same packets one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import MAX_SEQ, Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import WINDOW_SIZE, SequenceWindow
from knet_trio.errors import DropCause

# Steps from the newest number: next to it, around the ends of the window, and anywhere.
STEPS = st.one_of(
    st.integers(-30, 30),
    st.integers(-WINDOW_SIZE - 20, -WINDOW_SIZE + 3),
    st.integers(WINDOW_SIZE - 20, WINDOW_SIZE + 3),
    st.integers(-0x8000, 0x8000),
)
STARTS = st.one_of(st.integers(0, 3), st.integers(65500, MAX_SEQ), st.integers(0, MAX_SEQ))


class TestWindow:
    @given(
        STARTS,
        st.lists(
            st.tuples(STEPS, st.integers(1, 70), st.sampled_from(["run", "start", "deliver"])),
            max_size=30,
        ),
        st.sampled_from([70, WINDOW_SIZE]),
    )
    def test_many_that_are_delivered_are_those_one_by_one(
        self, first: int, moves: list[tuple[int, int, str]], most: int
    ) -> None:
        window, plain = SequenceWindow(), SequenceWindow()
        for each in (window, plain):
            each.advance(first)
        for step, count, action in moves:
            assert plain.newest is not None
            seq = (plain.newest + step) & 0xFFFF
            if action == "run":
                run = count * most // 70
                if window.advance_delivered(seq, run):
                    for i in range(run):
                        number = (seq + i) & 0xFFFF
                        assert not plain.advance(number)
                        assert not plain.is_started(number)
                        plain.mark_delivered(number)
            else:
                for each in (window, plain):
                    each.advance(seq)
                    if action == "deliver":
                        each.mark_delivered(seq)
                    elif not each.is_delivered(seq):
                        each.mark_started(seq)
            assert_same_marks(window, plain)

    @given(STARTS, st.integers(1, WINDOW_SIZE + 2), st.integers(1, WINDOW_SIZE + 2))
    @example(65535, 1, 64)
    @example(65520, 1, 64)
    @example(0, 1, WINDOW_SIZE - 1)
    def test_what_is_next_is_taken_as_far_as_the_window_reaches(
        self, newest: int, step: int, count: int
    ) -> None:
        window = SequenceWindow()
        window.advance(newest)
        first = (newest + step) & 0xFFFF
        taken = window.advance_delivered(first, count)
        assert taken is (step + count - 1 < WINDOW_SIZE)
        assert window.newest == ((first + count - 1) & 0xFFFF if taken else newest)

    @pytest.mark.parametrize("step", [0, -1, -63, -64, -WINDOW_SIZE, 0x8000])
    def test_what_is_not_ahead_is_not(self, step: int) -> None:
        window = SequenceWindow()
        window.advance(30000)
        assert not window.advance_delivered(30000 + step, 64)
        assert window.newest == 30000

    def test_nor_is_the_first_of_all(self) -> None:
        window = SequenceWindow()
        assert not window.advance_delivered(1, 2)
        assert window.newest is None


def assert_same_marks(window: SequenceWindow, plain: SequenceWindow) -> None:
    assert window.newest == plain.newest
    numbers = range(WINDOW_SIZE)
    for look in (SequenceWindow.is_started, SequenceWindow.is_delivered):
        assert [look(window, n) for n in numbers] == [look(plain, n) for n in numbers]


class Both:
    """A source that is given runs, and one that is given each of their packets."""

    def __init__(self, buffers: int = 3) -> None:
        self.drops: tuple[Counter[DropCause], Counter[DropCause]] = (Counter(), Counter())
        self.runs = InboundSequence(self._note(0), buffers)
        self.plain = InboundSequence(self._note(1), buffers)
        self.touched: set[int] = set()

    def _note(self, which: int) -> Callable[[DropCause], None]:
        def drop(cause: DropCause) -> None:
            self.drops[which][cause] += 1

        return drop

    def number(self, step: int) -> int:
        return ((self.plain.newest or 0) + step) & 0xFFFF

    def run(self, run: DataRun) -> list[bytes]:
        self.touched.add(run.seq)
        received = [self.plain.receive(data) for data in run.packets()]
        expected = [payload for payload in received if payload is not None]
        assert self.runs.receive_run(run) == expected
        self.check()
        return expected

    def one(self, data: Data) -> None:
        self.touched.add(data.seq)
        assert self.runs.receive(data) == self.plain.receive(data)
        self.check()

    def ping(self, seq: int, *, timed: bool) -> None:
        for source in (self.runs, self.plain):
            source.ping_received(seq, timed=timed)
        self.check()

    def set_buffers(self, buffers: int) -> None:
        for source in (self.runs, self.plain):
            source.set_buffers(buffers)
        self.check()

    def contact_lost(self) -> None:
        for source in (self.runs, self.plain):
            source.contact_lost()
        self.check()

    def clear(self) -> None:
        for source in (self.runs, self.plain):
            source.clear()
        self.check()

    def check(self) -> None:
        assert self.runs.newest == self.plain.newest
        assert self.runs.pending == self.plain.pending
        assert self.drops[0] == self.drops[1]

    def check_what_is_known(self) -> None:
        """What comes later meets the same state: of what is whole, and of what is not."""
        for seq in sorted(self.touched):
            for number in range(max(seq - 2, 0), min(seq + 20, MAX_SEQ + 1)):
                if self.plain.newest is None or (self.plain.newest - number) & 0xFFFF < WINDOW_SIZE:
                    for part in (1, 2, 3):
                        self.one(Data(1, number, 0, False, 3, part, 0, b"ab"))
                    self.one(Data(1, number, 0, False, 1, 0, 0, b"whole"))


FRAGMENT_HEADERS = st.tuples(
    st.sampled_from([0, 0, 0, 5]),  # compress
    st.sampled_from([False, False, False, True]),  # broadcast
    st.sampled_from([0, 0, 0, 1]),  # channel
)


@st.composite
def runs_of_fragments(draw: st.DrawFn) -> DataRun:
    """Of few messages, so that they meet each other. ``seq`` is a step yet."""
    total = draw(st.sampled_from([2, 3, 3, 3, 5, 255]))
    first = draw(st.integers(1, total - 1)) if total < 255 else draw(st.sampled_from([1, 250]))
    count = draw(st.integers(2, min(total - first + 1, 8)))
    # The largest is one of which 255 are too much.
    size = draw(st.sampled_from([1, 2, 2, 2, 3, 257, 258, 40000]))
    last = draw(st.one_of(st.just(size), st.integers(1, size)))
    parts = [bytes([65 + i]) * size for i in range(count - 1)]
    parts.append(b"z" * last)
    compress, broadcast, channel = draw(FRAGMENT_HEADERS)
    step = draw(st.one_of(st.integers(-3, 3), STEPS))
    return DataRun(1, step, compress, broadcast, total, first, channel, parts)


@st.composite
def runs_of_messages(draw: st.DrawFn) -> DataRun:
    """``seq`` is a step yet."""
    payloads = [b"message %d" % i for i in range(draw(st.integers(2, 64)))]
    return DataRun(1, draw(STEPS), 0, False, 1, draw(st.integers(0, 1)), 0, payloads)


@st.composite
def single_packets(draw: st.DrawFn) -> Data:
    """One packet of a run."""
    run = draw(st.one_of(runs_of_fragments(), runs_of_messages()))
    return draw(st.sampled_from(run.packets()))


class PingStep(NamedTuple):
    """``step`` is from the newest number, None for number 0."""

    step: int | None
    timed: bool


HAPPENINGS = st.one_of(
    runs_of_messages(),
    runs_of_fragments(),
    runs_of_fragments(),
    single_packets(),
    st.builds(PingStep, st.one_of(st.none(), STEPS), st.booleans()),
    st.sampled_from(["contact lost", "again", "again", "clear"]),
    st.integers(1, 4),
)


@given(STARTS, st.lists(HAPPENINGS, max_size=40))
def test_a_run_is_its_packets_one_by_one(
    start: int, happenings: list[DataRun | Data | PingStep | str | int]
) -> None:
    both = Both()
    both.one(Data(1, start, 0, False, 1, 0, 0, b"first"))
    last: DataRun | None = None
    for happening in happenings:
        match happening:
            case DataRun():
                seq = both.number(happening.seq)
                if happening.frag_num == 1:
                    seq = min(seq, MAX_SEQ + 1 - len(happening.payloads))
                last = happening._replace(seq=seq)
                both.run(last)
            case Data():
                both.one(happening._replace(seq=both.number(happening.seq)))
            case PingStep(step, timed):
                both.ping(0 if step is None else both.number(step), timed=timed)
            case "again":
                # Over another link, say.
                if last is not None:
                    both.run(last)
            case "contact lost":
                both.contact_lost()
            case "clear":
                both.clear()
            case int():
                both.set_buffers(happening)
            case _:
                raise AssertionError(happening)
    both.check_what_is_known()


def fragments(
    first: int, *payloads: bytes, total: int = 3, seq: int = 7, channel: int = 0
) -> DataRun:
    return DataRun(1, seq, 0, False, total, first, channel, list(payloads))


def messages(first: int, count: int = 3) -> DataRun:
    return DataRun(1, first, 0, False, 1, 0, 0, [b"message %d" % i for i in range(count)])


class TestMessages:
    def test_those_that_are_new_are_delivered_and_the_others_are_not(self) -> None:
        both = Both()
        assert both.run(messages(5)) == messages(5).payloads
        assert both.run(messages(6)) == [b"message 2"]
        assert both.run(messages(9)) == messages(9).payloads
        assert both.run(messages(7, 6)) == [b"message 5"]
        assert both.drops[0] == {DropCause.DUPLICATE: 7}

    def test_they_are_data_between_two_forced_pings(self) -> None:
        both = Both()
        both.run(messages(5))
        both.ping(8191, timed=False)
        both.run(messages(8))
        both.ping(16382, timed=False)
        assert both.runs.newest == 10
        both.ping(24573, timed=False)
        assert both.runs.newest is None

    def test_of_a_host_that_may_have_started_again(self) -> None:
        both = Both()
        both.run(messages(5))
        both.contact_lost()
        assert both.run(messages(8)) == messages(8).payloads
        both.ping(10, timed=True)
        assert both.run(messages(5)) == []
        both.contact_lost()
        assert both.run(messages(5)) == messages(5).payloads

    def test_that_ends_the_doubt(self) -> None:
        both = Both()
        both.run(messages(5))
        both.contact_lost()
        both.run(messages(8))
        both.ping(3, timed=True)
        assert both.runs.newest == 10


class TestFragments:
    """What is easily got wrong where the rest of a run is added in one go."""

    def test_a_whole_message(self) -> None:
        both = Both()
        assert both.run(fragments(1, b"ab", b"cd", b"e")) == [b"abcde"]
        assert both.run(fragments(1, b"ab", b"cd", b"e")) == []
        assert both.drops[0] == {DropCause.DUPLICATE: 3}

    def test_in_two_runs_in_either_order(self) -> None:
        head, tail = fragments(1, b"ab", b"cd", total=5), fragments(3, b"ef", b"gh", b"i", total=5)
        for order in ((head, tail), (tail, head)):
            both = Both()
            assert both.run(order[0]) == []
            assert both.run(order[1]) == [b"abcdefghi"]
            assert not both.drops[0]

    def test_runs_that_overlap(self) -> None:
        both = Both()
        assert both.run(fragments(1, b"ab", b"cd", total=4)) == []
        assert both.run(fragments(2, b"cd", b"ef", b"g", total=4)) == [b"abcdefg"]
        assert both.drops[0] == {DropCause.REPEATED_FRAGMENT: 1}

    def test_the_rest_of_another_channel(self) -> None:
        both = Both()
        assert both.run(fragments(1, b"ab", b"cd", total=4, channel=1)) == []
        # Both begin where nothing is missing, so only the channel tells them apart.
        assert both.run(fragments(2, b"CD", b"EF", b"G", total=4, channel=2)) == []
        assert both.drops[0] == {DropCause.BAD_FRAGMENT: 3}
        assert both.run(fragments(3, b"ef", b"g", total=4, channel=1)) == [b"abcdefg"]

    @pytest.mark.parametrize("field", ["compress", "broadcast"])
    def test_or_of_another_kind(self, field: str) -> None:
        both = Both()
        same = fragments(2, b"CD", b"EF", b"G", total=4)
        other = same._replace(compress=1) if field == "compress" else same._replace(broadcast=True)
        assert both.run(fragments(1, b"ab", b"cd", total=4)) == []
        assert both.run(other) == []
        assert both.drops[0] == {DropCause.BAD_FRAGMENT: 3}

    def test_the_rest_of_another_size(self) -> None:
        both = Both()
        assert both.run(fragments(1, b"ab", b"cd", total=5)) == []
        assert both.run(fragments(3, b"EFG", b"HIJ", b"KL", total=5)) == []
        # The last may be shorter than any of them.
        assert both.drops[0] == {DropCause.BAD_FRAGMENT: 2}
        assert both.run(fragments(3, b"ef", b"gh", total=5)) == [b"abcdefghKL"]

    def test_a_number_that_was_delivered_and_has_an_older_one_unfinished(self) -> None:
        """The same number, 65536 messages ago, was that of a message that never got whole."""
        both = Both()
        assert both.run(fragments(1, b"ab", b"cd", total=4)) == []
        for seq in range(4000, 0x10000, 4000):
            both.one(Data(1, seq, 0, False, 1, 0, 0, b"x"))
        assert both.plain.pending == 1
        both.one(Data(1, 7, 0, False, 1, 0, 0, b"a new one"))
        dropped = both.drops[0][DropCause.DUPLICATE]
        assert both.run(fragments(3, b"ef", b"g", total=4)) == []
        assert both.drops[0][DropCause.DUPLICATE] == dropped + 2

    def test_one_that_grows_too_long(self) -> None:
        both = Both()
        assert both.run(fragments(1, bytes(257), bytes(257), bytes(257), total=255)) == []
        assert both.run(fragments(250, *[bytes(257)] * 6, total=255)) == []
        both = Both()
        assert both.run(fragments(250, *[bytes(258)] * 6, total=255)) == []

    def test_a_short_one_in_the_middle(self) -> None:
        both = Both()
        assert both.run(fragments(1, b"ab", b"c", total=4)) == []
        assert both.drops[0] == {DropCause.BAD_FRAGMENT: 1}
