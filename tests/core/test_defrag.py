"""Fragments to messages, whatever order they come in and whoever sends them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.defrag import Reassembly
from knet_trio._core.onwire import MAX_MESSAGE, Data, decode_untrusted, encode_message
from knet_trio._core.window import WINDOW_SIZE, SequenceWindow
from knet_trio.errors import DropCause


class Bench:
    """A reassembly with its window, driven as its host does, and what it dropped."""

    def __init__(self, limit: int = 32) -> None:
        self.drops: Counter[DropCause] = Counter()
        self.window = SequenceWindow()
        self.reassembly = Reassembly(self._drop, self.window, limit)

    def _drop(self, cause: DropCause) -> None:
        self.drops[cause] += 1

    def add(self, fragment: Data) -> bytes | None:
        self.window.advance(fragment.seq)
        return self.reassembly.add(fragment)


def part(
    seq: int,
    frag_seq: int,
    frag_num: int,
    payload: bytes = b"ab",
    *,
    channel: int = 0,
    compress: int = 0,
    broadcast: bool = False,
) -> Data:
    return Data(1, seq, compress, broadcast, frag_num, frag_seq, channel, payload)


def split(message: bytes, seq: int, size: int) -> list[Data]:
    packets = encode_message(
        message, node=1, seq=seq, compress=0, broadcast=False, channel=0, fragment_size=size
    )
    return [packet for packet in map(decode_untrusted, packets) if isinstance(packet, Data)]


class Arrivals(NamedTuple):
    """What was sent, by number, and its fragments as they arrive."""

    messages: dict[int, bytes]
    fragments: list[Data]


@st.composite
def shuffled_messages(draw: st.DrawFn) -> Arrivals:
    """Some messages whose fragments arrive interleaved, repeated and in any order."""
    size = draw(st.integers(1, 40))
    first = draw(st.integers(1, 65535))
    messages: dict[int, bytes] = {}
    fragments: list[Data] = []
    for i in range(draw(st.integers(1, 6))):
        message = draw(st.binary(min_size=size + 1, max_size=size * 8))
        seq = (first + i - 1) % 65535 + 1
        messages[seq] = message
        fragments += split(message, seq, size)
    repeated = draw(st.lists(st.sampled_from(fragments), max_size=10))
    return Arrivals(messages, draw(st.permutations(fragments + repeated)))


@given(shuffled_messages())
def test_any_order_repetition_and_interleaving_delivers_each_message_once(
    arrivals: Arrivals,
) -> None:
    bench = Bench()
    delivered: dict[int, list[bytes]] = {}
    for fragment in arrivals.fragments:
        message = bench.add(fragment)
        if message is not None:
            delivered.setdefault(fragment.seq, []).append(message)
    assert delivered == {seq: [message] for seq, message in arrivals.messages.items()}
    assert len(bench.reassembly) == 0
    # Every fragment that was not needed is counted, before or after its message was whole.
    needed = len({(fragment.seq, fragment.frag_seq) for fragment in arrivals.fragments})
    assert bench.drops.total() == len(arrivals.fragments) - needed
    assert set(bench.drops) <= {DropCause.REPEATED_FRAGMENT, DropCause.STALE_FRAGMENT}


HOSTILE = st.integers(1, 6).flatmap(
    lambda count: st.builds(
        part,
        st.one_of(st.integers(0, 8), st.integers(0, 65535)),
        st.integers(1, count),
        st.just(count),
        st.one_of(st.integers(1, 3), st.integers(1, 65536)).map(bytes),
        channel=st.integers(0, 1),
        compress=st.integers(0, 1),
        broadcast=st.booleans(),
    )
)


@given(st.integers(1, 4), st.lists(HOSTILE, max_size=60))
def test_hostile_fragments_never_raise_and_hold_bounded_memory(
    limit: int, fragments: list[Data]
) -> None:
    bench = Bench(limit)
    for fragment in fragments:
        message = bench.add(fragment)
        assert message is None or 0 < len(message) <= MAX_MESSAGE
        assert len(bench.reassembly) <= limit


@pytest.mark.parametrize("last_first", [False, True])
def test_a_message_of_the_largest_size_is_whole_and_one_byte_more_is_none(
    last_first: bool,
) -> None:
    half = MAX_MESSAGE // 2
    largest = [part(1, 1, 2, bytes(half)), part(1, 2, 2, bytes(half))]
    too_large = [part(2, 1, 2, bytes(half + 1)), part(2, 2, 2, bytes(half))]
    if last_first:
        largest.reverse()
        too_large.reverse()
    bench = Bench()
    assert [bench.add(fragment) for fragment in largest] == [None, bytes(MAX_MESSAGE)]
    assert [bench.add(fragment) for fragment in too_large] == [None, None]
    assert bench.drops == {DropCause.BAD_FRAGMENT: 1}


def test_fragments_that_leave_no_byte_for_the_last_are_refused_at_once() -> None:
    bench = Bench()
    assert bench.add(part(1, 1, 2, bytes(MAX_MESSAGE))) is None
    assert bench.drops == {DropCause.BAD_FRAGMENT: 1}
    assert len(bench.reassembly) == 0


def test_the_last_fragment_may_be_shorter_and_arrive_first() -> None:
    bench = Bench()
    assert bench.add(part(1, 3, 3, b"e")) is None
    assert bench.add(part(1, 1, 3, b"ab")) is None
    assert bench.add(part(1, 2, 3, b"cd")) == b"abcde"
    assert not bench.drops


@pytest.mark.parametrize(
    "odd",
    [
        part(1, 2, 3, b"x"),
        part(1, 2, 3, b"xyz"),
        part(1, 3, 3, b"xyz"),
        part(1, 2, 4),
        part(1, 2, 3, channel=1),
        part(1, 2, 3, compress=1),
        part(1, 2, 3, broadcast=True),
    ],
    ids=[
        "shorter than the first",
        "longer than the first",
        "a last one longer than the first",
        "of another count",
        "of another channel",
        "compressed in another way",
        "sent to others",
    ],
)
def test_a_fragment_that_does_not_fit_is_dropped_and_the_message_still_comes(odd: Data) -> None:
    bench = Bench()
    bench.add(part(1, 1, 3))
    assert bench.add(odd) is None
    assert bench.drops == {DropCause.BAD_FRAGMENT: 1}
    bench.add(part(1, 2, 3))
    assert bench.add(part(1, 3, 3, b"c")) == b"ababc"


def test_a_fragment_shorter_than_the_last_one_is_refused() -> None:
    bench = Bench()
    bench.add(part(1, 2, 2, b"long"))
    bench.add(part(1, 1, 2, b"abc"))
    assert bench.drops == {DropCause.BAD_FRAGMENT: 1}
    assert bench.add(part(1, 1, 2, b"abcd")) == b"abcdlong"


def test_a_repeated_fragment_is_counted_and_changes_nothing() -> None:
    bench = Bench()
    bench.add(part(1, 1, 2, b"ab"))
    assert bench.add(part(1, 1, 2, b"xx")) is None
    assert bench.drops == {DropCause.REPEATED_FRAGMENT: 1}
    assert bench.add(part(1, 2, 2, b"c")) == b"abc"


def test_when_all_buffers_are_busy_the_least_recently_touched_is_given_up() -> None:
    bench = Bench(limit=2)
    bench.add(part(1, 1, 3))
    bench.add(part(2, 1, 3))
    bench.add(part(1, 2, 3))
    bench.add(part(3, 1, 3))
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}
    assert bench.add(part(1, 3, 3)) == b"ababab"
    assert bench.add(part(2, 2, 3)) is None
    assert bench.drops[DropCause.STALE_FRAGMENT] == 1


def test_a_late_fragment_of_a_message_given_up_starts_nothing() -> None:
    bench = Bench(limit=1)
    bench.add(part(1, 1, 2))
    bench.add(part(2, 1, 2))
    assert bench.add(part(1, 2, 2)) is None
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1, DropCause.STALE_FRAGMENT: 1}
    assert len(bench.reassembly) == 1


def test_what_has_left_the_window_is_given_up_when_the_next_begins() -> None:
    bench = Bench()
    bench.add(part(1, 1, 2))
    bench.add(part(2, 1, 2))
    bench.add(part(1 + WINDOW_SIZE, 1, 2))
    assert len(bench.reassembly) == 2
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}
    assert bench.add(part(2, 2, 2)) == b"abab"


def test_fragments_of_a_number_that_comes_again_are_not_mixed_with_those_of_its_first_time() -> (
    None
):
    bench = Bench()
    bench.add(part(5, 1, 2, b"old"))
    # Everything that comes until the number returns is whole, and goes past the reassembly.
    for seq in [*range(6, 65536), *range(1, 5)]:
        bench.window.advance(seq)
        bench.window.mark_delivered(seq)
    bench.add(part(5, 2, 2, b"new"))
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}
    assert bench.add(part(5, 1, 2, b"New")) == b"Newnew"


def test_with_a_lower_limit_the_least_recently_touched_are_given_up_at_once() -> None:
    bench = Bench(limit=4)
    for seq in (1, 2, 3, 4):
        bench.add(part(seq, 1, 3))
    bench.add(part(1, 2, 3))
    bench.reassembly.set_limit(2)
    assert len(bench.reassembly) == 2
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 2}
    assert bench.add(part(1, 3, 3)) == b"ababab"
    bench.add(part(5, 1, 3))
    bench.add(part(6, 1, 3))
    assert len(bench.reassembly) == 2
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 3}


def test_with_a_higher_limit_nothing_is_given_up() -> None:
    bench = Bench(limit=1)
    bench.add(part(1, 1, 2))
    bench.reassembly.set_limit(2)
    bench.add(part(2, 1, 2))
    assert bench.add(part(1, 2, 2)) == b"abab"
    assert not bench.drops


def test_clearing_gives_up_and_counts_what_was_unfinished() -> None:
    bench = Bench()
    bench.add(part(1, 1, 2))
    bench.add(part(2, 1, 2))
    bench.reassembly.clear()
    assert len(bench.reassembly) == 0
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 2}


def test_without_a_newest_number_nothing_old_is_worth_keeping() -> None:
    bench = Bench()
    bench.add(part(1, 1, 2))
    bench.window.clear()
    bench.reassembly.add(part(2, 1, 2))
    assert len(bench.reassembly) == 1
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}
