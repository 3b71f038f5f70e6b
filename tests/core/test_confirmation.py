"""Which life is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.confirmation import (
    LIFE_TRANSITIONS,
    Confirmation,
    Credit,
    LifeCue,
    LifeStage,
)
from knet_trio._core.counter_window import WIDTH
from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import MAX_SEQ, Data
from knet_trio.errors import DropCause

LIVES = (b"a" * 9, b"b" * 9, b"c" * 9)
COUNTERS = st.integers(1, 12)


def test_before_a_pong_nothing_is_believed() -> None:
    confirmation = Confirmation()
    assert confirmation.judge(LIVES[0], 1) is Credit.UNCONFIRMED
    assert confirmation.life is None


def test_only_what_comes_above_the_floor_is_taken() -> None:
    confirmation = Confirmation()
    assert confirmation.prove(LIVES[0], 5)
    assert confirmation.judge(LIVES[0], 5) is Credit.EARLIER
    assert confirmation.judge(LIVES[0], 4) is Credit.EARLIER
    assert confirmation.judge(LIVES[0], 6) is Credit.FRESH
    # What is refused after that marks nothing.
    assert confirmation.judge(LIVES[0], 6) is Credit.FRESH
    confirmation.take(6)
    assert confirmation.judge(LIVES[0], 6) is Credit.COPY


def test_after_a_lapse_the_same_life_has_another_floor_and_has_not_started_again() -> None:
    confirmation = Confirmation()
    confirmation.prove(LIVES[0], 1)
    confirmation.take(9)
    confirmation.lapse()
    assert confirmation.judge(LIVES[0], 10) is Credit.UNCONFIRMED
    assert not confirmation.prove(LIVES[0], 12)
    assert confirmation.judge(LIVES[0], 10) is Credit.EARLIER
    assert confirmation.judge(LIVES[0], 13) is Credit.FRESH


def test_data_is_the_newest_though_a_ping_has_overtaken_it() -> None:
    confirmation = Confirmation()
    confirmation.prove(LIVES[0], 1)
    confirmation.take(9)
    confirmation.take_all([4, 5])
    assert confirmation.note_data([4, 5])
    confirmation.take(6)
    assert confirmation.note_data([6])
    confirmation.take_all([2, 7])
    assert not confirmation.note_data([2, 7])
    confirmation.take(3)
    assert not confirmation.note_data([3])


def test_a_fragment_that_is_held_back_until_numbers_come_round_is_in_no_other_message() -> None:
    drops: list[DropCause] = []
    confirmation, inbound = Confirmation(), InboundSequence(drops.append)
    confirmation.prove(LIVES[0], 0)

    def receive(counter: int, number: int, fragment: int, payload: bytes) -> bytes | None:
        if confirmation.judge(LIVES[0], counter) is not Credit.FRESH:
            return None
        confirmation.take(counter)
        is_newest = confirmation.note_data([counter])
        seq = (number - 1) % MAX_SEQ + 1
        return inbound.receive(Data(1, seq, 0, False, 2, fragment, 0, payload), is_newest)

    # The second fragment of message 10 is held back.
    assert receive(20, 10, 1, b"ten, ") is None
    for number in range(11, 10 + MAX_SEQ):
        assert receive(2 * number, number, 1, b"first") is None
        assert receive(2 * number + 1, number, 2, b"last") == b"firstlast"
    again = 10 + MAX_SEQ
    assert receive(2 * again, again, 1, b"later") is None
    assert receive(21, 10, 2, b"HELD") is None
    assert receive(2 * again + 1, again, 2, b"last") == b"laterlast"


def test_after_data_that_is_far_ahead_all_before_is_too_old() -> None:
    confirmation = Confirmation()
    confirmation.prove(LIVES[0], 5)
    assert not confirmation.is_far_ahead(4 + WIDTH)
    assert confirmation.is_far_ahead(5 + WIDTH)
    assert confirmation.are_fresh(LIVES[0], [6, 5 + WIDTH])
    assert not confirmation.are_fresh(LIVES[0], [6, 6 + WIDTH])


def test_every_state_has_its_row() -> None:
    assert set(LIFE_TRANSITIONS) == {(stage, cue) for stage in LifeStage for cue in LifeCue}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("prove"), st.sampled_from(LIVES), COUNTERS),
            st.tuples(st.just("packet"), st.sampled_from(LIVES), COUNTERS),
            st.tuples(st.just("lapse"), st.just(b""), st.just(0)),
        ),
        max_size=60,
    )
)
def test_no_packet_is_taken_twice_while_a_life_is_confirmed(
    steps: list[tuple[str, bytes, int]],
) -> None:
    confirmation = Confirmation()
    life, floor, changes = b"", 0, 0
    taken: set[int] = set()
    # The life that was confirmed last, and the lowest counter that was taken of it too early.
    last, spoofed = b"", set[int]()
    for what, name, counter in steps:
        if what == "prove":
            if name != life:
                above = [one for one in spoofed if one > counter and name == last]
                spoofed = set(sorted(above)[:1])
                life, floor = name, counter
                last = life
                taken.clear()
                changes += 1
            confirmation.prove(name, counter)
        elif what == "lapse":
            changes += 1
            if life:
                spoofed.add(max(taken, default=floor))
            life = b""
            confirmation.lapse()
        else:
            credit = confirmation.judge(name, counter)
            if name != life:
                assert credit is Credit.UNCONFIRMED
            elif counter <= floor:
                assert credit is Credit.EARLIER
            elif counter in taken or counter >= min(spoofed, default=counter + 1):
                assert credit is Credit.COPY
            else:
                assert credit is Credit.FRESH
                newest = max(taken, default=floor)
                confirmation.take(counter)
                assert confirmation.note_data([counter]) is (counter > newest)
                taken.add(counter)
        assert confirmation.changes == changes
        assert confirmation.life == (life or None)


def test_a_counter_that_the_host_had_not_reached_is_not_taken_again() -> None:
    confirmation = Confirmation()
    confirmation.prove(b"a", 10)
    confirmation.take(1_000_000)
    confirmation.lapse()
    confirmation.lapse()
    confirmation.prove(b"a", 20)
    assert confirmation.judge(b"a", 1_000_000) is Credit.COPY
    assert confirmation.judge(b"a", 2_000_000) is Credit.COPY
    assert not confirmation.are_fresh(b"a", [999_999, 1_000_000])
    # Another one below, and after that both.
    confirmation.take(500_000)
    confirmation.lapse()
    confirmation.prove(b"a", 30)
    assert confirmation.judge(b"a", 500_000) is Credit.COPY
    assert confirmation.judge(b"a", 499_999) is Credit.FRESH
    # The host itself has got that far.
    confirmation.lapse()
    confirmation.prove(b"a", 600_000)
    assert confirmation.judge(b"a", 600_001) is Credit.FRESH
    # Another life has counters of its own.
    confirmation.prove(b"b", 1)
    assert confirmation.judge(b"b", 1_000_000) is Credit.FRESH
