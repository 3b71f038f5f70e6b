"""What one sending host's data needs: each message once, whole, and a fresh start when due."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import Data
from knet_trio._core.window import WINDOW_SIZE
from knet_trio.errors import DropCause


class Bench:
    """A source and what it dropped."""

    def __init__(self, buffers: int = 32) -> None:
        self.drops: Counter[DropCause] = Counter()
        self.source = InboundSequence(self._drop, buffers)

    def _drop(self, cause: DropCause) -> None:
        self.drops[cause] += 1

    def whole(self, seq: int, payload: bytes = b"whole") -> bytes | None:
        return self.source.receive(Data(1, seq, 0, False, 1, 0, 0, payload))

    def part(self, seq: int, frag_seq: int, frag_num: int, payload: bytes = b"ab") -> bytes | None:
        return self.source.receive(Data(1, seq, 0, False, frag_num, frag_seq, 0, payload))

    def knows(self, seq: int) -> bool:
        """Whether ``seq`` would be dropped as a duplicate."""
        return self.whole(seq) is None


@given(st.lists(st.integers(1, 40), max_size=100))
def test_each_message_is_delivered_once_in_whatever_order(numbers: list[int]) -> None:
    bench = Bench()
    delivered = [seq for seq in numbers if bench.whole(seq) is not None]
    assert delivered == list(dict.fromkeys(numbers))
    assert bench.drops[DropCause.DUPLICATE] == len(numbers) - len(delivered)


def test_a_fragmented_message_is_delivered_once_though_it_comes_over_two_links() -> None:
    bench = Bench()
    assert bench.part(1, 1, 2) is None
    assert bench.source.pending == 1
    assert bench.part(1, 1, 2) is None
    assert bench.part(1, 2, 2, b"c") == b"abc"
    assert bench.part(1, 2, 2, b"c") is None
    assert bench.drops == {DropCause.REPEATED_FRAGMENT: 1, DropCause.DUPLICATE: 1}
    assert bench.source.pending == 0


def test_a_message_is_not_marked_before_it_is_whole() -> None:
    bench = Bench()
    bench.part(1, 1, 2)
    assert bench.whole(2) == b"whole"
    assert bench.part(1, 2, 2) == b"abab"


def test_the_newest_number_is_known() -> None:
    bench = Bench()
    assert bench.source.newest is None
    bench.whole(9)
    bench.whole(8)
    assert bench.source.newest == 9


def test_a_number_far_off_starts_again_and_gives_up_what_was_unfinished() -> None:
    bench = Bench()
    bench.whole(20000)
    bench.part(20001, 1, 2)
    assert bench.whole(20001 + WINDOW_SIZE + 1) == b"whole"
    assert bench.source.pending == 0
    assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}
    # The host restarted: its numbers begin again, and all are new.
    assert bench.whole(1) == b"whole"
    assert bench.whole(2) == b"whole"


def test_a_fragmented_message_is_not_stale_because_one_65535_before_had_its_number() -> None:
    bench = Bench()
    bench.part(5, 1, 2)
    assert bench.part(5, 2, 2) == b"abab"
    for seq in [*range(6, 65536), *range(1, 5)]:
        assert bench.whole(seq) is not None
    bench.part(5, 1, 2)
    assert bench.part(5, 2, 2) == b"abab"
    assert not bench.drops


def test_forgetting_makes_every_number_new_and_gives_up_what_was_unfinished() -> None:
    bench = Bench()
    bench.whole(1)
    bench.part(2, 1, 2)
    bench.source.clear()
    assert bench.source.newest is None
    assert bench.source.pending == 0
    assert bench.whole(1) == b"whole"


def test_a_scheduled_ping_with_number_0_of_a_host_that_restarted_starts_afresh_once() -> None:
    bench = Bench()
    bench.whole(1)
    bench.source.ping_received(1, timed=True)
    assert bench.knows(1)
    bench.source.ping_received(0, timed=True)
    assert not bench.knows(1)
    # The other links of the host carry the same number, and later pings repeat it.
    bench.source.ping_received(0, timed=True)
    assert bench.knows(1)
    # It has sent something, and restarts once more.
    bench.source.ping_received(3, timed=True)
    bench.source.ping_received(0, timed=True)
    assert not bench.knows(1)


def test_a_late_ping_from_before_the_first_message_is_no_sign_of_a_restart() -> None:
    bench = Bench()
    for link in (0, 1):
        bench.source.ping_received(0, timed=True, link=link)
    bench.whole(1)
    bench.source.ping_received(1, timed=True, link=0)
    # Link 1 is slow, and so is the copy of the message that went over it.
    bench.source.ping_received(0, timed=True, link=1)
    assert bench.knows(1)
    # After a restart all links say 0, the slow one when there is data again.
    bench.source.ping_received(1, timed=True, link=1)
    bench.source.ping_received(0, timed=True, link=0)
    assert not bench.knows(1)
    bench.source.ping_received(1, timed=True, link=0)
    bench.source.ping_received(0, timed=True, link=1)
    assert bench.knows(1)


def test_a_forced_ping_starts_afresh_only_if_no_data_came_since_the_one_before() -> None:
    bench = Bench()
    bench.whole(1)
    bench.source.ping_received(8191, timed=False)
    assert bench.knows(1)
    # That was data, though a duplicate.
    bench.source.ping_received(16382, timed=False)
    assert bench.knows(1)
    bench.source.ping_received(24573, timed=False)
    bench.source.ping_received(32764, timed=False)
    assert not bench.knows(1)


def test_a_forced_ping_counts_once_however_many_links_carry_it() -> None:
    bench = Bench()
    bench.whole(1)
    bench.source.ping_received(8191, timed=False)
    bench.source.ping_received(8191, timed=False)
    bench.source.ping_received(8191, timed=False)
    assert bench.knows(1)


def test_a_forced_ping_with_a_number_from_before_says_nothing() -> None:
    bench = Bench()
    for seq in range(19990, 20001):
        bench.whole(seq)
    # Two that somebody recorded, one after the other, so that there is no data in between.
    bench.source.ping_received(8191, timed=False)
    bench.source.ping_received(16382, timed=False)
    assert bench.knows(20000)
    # Nor do they make the next real one say more than it does.
    bench.source.ping_received(8191, timed=False)
    bench.source.ping_received(24573, timed=False)
    assert bench.knows(20000)


def test_a_forced_ping_with_number_0_is_no_sign_of_a_restart() -> None:
    bench = Bench()
    bench.whole(1)
    bench.source.ping_received(0, timed=False)
    assert bench.knows(1)


class TestLostContact:
    """All links to the host were down for a while."""

    def test_what_was_unfinished_is_given_up(self) -> None:
        bench = Bench()
        bench.part(1, 1, 2)
        bench.source.contact_lost()
        assert bench.source.pending == 0
        assert bench.drops == {DropCause.REASSEMBLY_GIVEN_UP: 1}

    def test_a_host_that_goes_on_counting_is_still_the_same(self) -> None:
        bench = Bench()
        for seq in (8, 9, 10):
            bench.whole(seq)
        bench.source.contact_lost()
        bench.source.ping_received(10, timed=True)
        # Copies that a slow network delivers only now.
        assert bench.knows(9)
        assert bench.knows(10)
        assert bench.whole(11) == b"whole"

    def test_a_host_that_counts_from_the_beginning_started_again(self) -> None:
        bench = Bench()
        for seq in range(1, 11):
            bench.whole(seq)
        bench.source.contact_lost()
        # It has spoken to others before, so no ping with number 0 ever came here.
        bench.source.ping_received(4, timed=True)
        assert bench.whole(5) == b"whole"
        assert bench.whole(6) == b"whole"

    def test_its_first_data_says_the_same(self) -> None:
        bench = Bench()
        bench.whole(1000)
        bench.source.contact_lost()
        assert bench.whole(1) == b"whole"
        bench.source.contact_lost()
        assert bench.knows(1)

    def test_it_may_start_again_long_after_contact_was_lost(self) -> None:
        bench = Bench()
        for seq in range(1, 17):
            bench.whole(seq)
        bench.source.contact_lost()
        # Its pings come through, and its pongs do not; then those of its next life.
        for seq in (16, 22, 6, 12):
            bench.source.ping_received(seq, timed=True)
        assert bench.whole(13) == b"whole"
        assert bench.knows(13)

    def test_it_may_start_again_before_there_was_any_contact(self) -> None:
        bench = Bench()
        # Of a peer that found this host first.
        bench.source.ping_received(18, timed=True)
        bench.whole(19)
        for seq in (19, 1, 8):
            bench.source.ping_received(seq, timed=True)
        bench.source.contact_found()
        assert bench.whole(19) == b"whole"

    def test_with_contact_a_number_that_goes_back_is_a_late_one(self) -> None:
        bench = Bench()
        bench.source.contact_found()
        bench.whole(19)
        for seq in (19, 1, 8):
            bench.source.ping_received(seq, timed=True)
        assert bench.knows(19)

    def test_a_late_ping_is_no_sign_of_that(self) -> None:
        bench = Bench()
        for seq in range(1, 17):
            bench.whole(seq)
        bench.source.contact_lost()
        for seq in (15, 16):
            bench.source.ping_received(seq, timed=True)
        assert bench.knows(16)
        assert bench.whole(17) == b"whole"

    def test_one_that_started_again_and_is_ahead_already_loses_nothing(self) -> None:
        bench = Bench()
        bench.whole(3)
        bench.source.contact_lost()
        bench.source.ping_received(50, timed=True)
        assert all(bench.whole(seq) == b"whole" for seq in range(51, 60))

    def test_a_host_that_never_sent_anything_is_no_riddle(self) -> None:
        bench = Bench()
        bench.source.contact_lost()
        bench.source.ping_received(0, timed=True)
        assert bench.whole(1) == b"whole"


def test_where_packets_are_told_from_copies_a_first_number_behind_begins_again() -> None:
    bench = Bench()
    bench.whole(9)
    source = bench.source
    source.doubt_numbers()
    # One of another envelope says nothing of that.
    assert bench.knows(9)
    assert source.receive_whole(8, is_newest=True)
    assert not bench.knows(9)
    source.contact_lost()
    assert source.receive_whole(20, is_newest=True)
    assert not source.receive_whole(8, is_newest=False)


def test_a_host_that_goes_on_where_they_are_not_begins_nothing_again() -> None:
    bench = Bench()
    bench.whole(9)
    source = bench.source
    source.doubt_numbers()
    # A copy, as any may come late.
    assert bench.knows(9)
    bench.whole(10)
    # Late too, from before it went back to another envelope.
    assert source.receive_whole(8, is_newest=True)
    assert bench.knows(10)
