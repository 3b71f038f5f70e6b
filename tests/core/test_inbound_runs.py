"""Runs of packets, held against the same packets one by one."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from knet_trio._core.onwire import MAX_SEQ, Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import WINDOW_SIZE, SequenceWindow
from knet_trio.errors import DropCause
from tests.core.run_pairs import Both

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
            for first in (seq - 2, seq, seq + 1):
                number = first & 0xFFFF
                assert window.count_delivered(number, count) == delivered_from(plain, number, count)

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

    def test_what_is_ahead_was_not_delivered_though_the_number_a_window_before_was(self) -> None:
        window = SequenceWindow()
        window.advance(1)
        assert window.advance_delivered(2, WINDOW_SIZE - 1)
        assert window.advance_delivered(WINDOW_SIZE + 1, WINDOW_SIZE - 1)
        newest = 2 * WINDOW_SIZE - 1
        assert window.count_delivered(newest - 9, 20) == 10
        assert window.count_delivered(newest + 1, 20) == 0
        assert window.count_delivered(newest - WINDOW_SIZE + 1, 2 * WINDOW_SIZE) == WINDOW_SIZE
        assert window.count_delivered(newest - WINDOW_SIZE, 20) == 0

    def test_nor_is_the_first_of_all(self) -> None:
        window = SequenceWindow()
        assert not window.advance_delivered(1, 2)
        assert window.newest is None


def delivered_from(window: SequenceWindow, first: int, count: int) -> int:
    """How many numbers from there on were delivered, one after the other."""
    for i in range(count):
        number = (first + i) & 0xFFFF
        assert window.newest is not None
        inside = (window.newest - number) & 0xFFFF < WINDOW_SIZE
        if not inside or not window.is_delivered(number):
            return i
    return count


def assert_same_marks(window: SequenceWindow, plain: SequenceWindow) -> None:
    assert window.newest == plain.newest
    numbers = range(WINDOW_SIZE)
    for look in (SequenceWindow.is_started, SequenceWindow.is_delivered):
        assert [look(window, n) for n in numbers] == [look(plain, n) for n in numbers]


FRAGMENT_HEADERS = st.tuples(
    st.sampled_from([0, 0, 0, 5]),  # compress
    st.sampled_from([False, False, False, True]),  # broadcast
    st.sampled_from([0, 0, 0, 1]),  # channel
)


@st.composite
def runs_of_fragments(draw: st.DrawFn) -> DataRun:
    """Of few messages, so that they meet each other. ``seq`` is a step yet."""
    total = draw(st.sampled_from([2, 2, 3, 3, 3, 5, 255]))
    first = draw(st.integers(1, total)) if total < 255 else draw(st.sampled_from([1, 250]))
    count = draw(st.one_of(st.integers(2, 8), st.integers(2, 20)))
    # The largest is one of which 255 are too much.
    size = draw(st.sampled_from([1, 2, 2, 2, 3, 257, 258, 40000]))
    shorter = draw(st.one_of(st.just(size), st.integers(1, size)))
    # Those of several messages may go in turns: all of each but the last one, or one of each.
    cycle = draw(st.sampled_from([total, total, total, max(total - 1, first), 1]))
    sizes = [
        shorter
        if (first == total if cycle == 1 else (first + i) % cycle == 0 and cycle == total)
        else size
        for i in range(count)
    ]
    sizes[-1] = draw(st.one_of(st.just(sizes[-1]), st.integers(1, size)))
    if draw(st.booleans()):
        # Packets that were opened may have any sizes.
        sizes[draw(st.integers(0, count - 1))] = draw(st.integers(1, 4))
    parts = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    compress, broadcast, channel = draw(FRAGMENT_HEADERS)
    step = draw(st.one_of(st.integers(-3, 3), STEPS))
    return DataRun(1, step, compress, broadcast, total, first, channel, parts, cycle)


def place(run: DataRun, both: Both) -> DataRun:
    """``run`` from the number that its step says, as far as numbers go on from there."""
    return run._replace(seq=min(both.number(run.seq), MAX_SEQ + 1 - run.message_count))


@st.composite
def runs_of_messages(draw: st.DrawFn) -> DataRun:
    """``seq`` is a step yet."""
    payloads = [b"message %d" % i for i in range(draw(st.integers(2, 64)))]
    return DataRun(1, draw(STEPS), 0, False, 1, draw(st.integers(0, 1)), 0, payloads, 1)


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
    st.sampled_from(["contact lost", "doubt", "again", "again", "clear"]),
    st.sampled_from(["life newest", "life late", "no life"]),
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
                last = place(happening, both)
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
            case "doubt":
                both.doubt_numbers()
            case "life newest" | "life late" | "no life":
                both.is_newest = {"life newest": True, "life late": False}.get(happening)
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
    return DataRun(1, seq, 0, False, total, first, channel, list(payloads), total)


def messages(first: int, count: int = 3) -> DataRun:
    return DataRun(1, first, 0, False, 1, 0, 0, [b"message %d" % i for i in range(count)], 1)


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

    def test_some_that_were_seen_and_then_one_that_was_not_and_one_that_was(self) -> None:
        both = Both()
        both.run(messages(5))
        both.run(messages(9))
        assert both.run(messages(6, 8)) == [b"message 2", b"message 6", b"message 7"]
        assert both.drops[0] == {DropCause.DUPLICATE: 5}

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


def test_fragments_of_a_life_that_is_told_stay_of_it_in_a_run() -> None:
    """What a ping said before contact was lost is no reason to begin numbers again."""
    both = Both()
    both.is_newest = True
    both.one(Data(1, 1, 0, False, 1, 0, 0, b"first"))
    both.contact_lost()
    both.ping(1, timed=False)
    for seq in range(2, 21):
        both.one(Data(1, seq, 0, False, 1, 0, 0, b"next"))
    both.run(fragments(1, b"a", b"b", seq=21))
    assert both.run(fragments(3, b"c", b"a", seq=21)) == [b"abc"]
    assert both.run(fragments(2, b"b", b"c", seq=22)) == [b"abc"]
