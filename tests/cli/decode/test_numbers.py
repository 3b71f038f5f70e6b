"""What numbers say: loss, duplicates, order, a host that begins anew."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from knet_trio.cli.decode.numbers import MessageNumbers


def seen(*numbers: int, record: MessageNumbers | None = None) -> MessageNumbers:
    record = record or MessageNumbers()
    for number in numbers:
        record.see(number, 1, 0)
    return record


def odd(record: MessageNumbers) -> tuple[int, int, int, int, int]:
    record.finish()
    return (
        record.missing,
        record.duplicates,
        record.late,
        record.restarts,
        record.missing_fragments,
    )


def test_nothing_is_odd() -> None:
    assert odd(MessageNumbers()) == (0, 0, 0, 0, 0)
    record = seen(*range(100, 200))
    assert (record.messages, record.whole, record.newest) == (100, 100, 199)
    assert odd(record) == (0, 0, 0, 0, 0)


def test_going_round() -> None:
    # 0 is left out.
    record = seen(*range(65000, 65536), *range(1, 500))
    assert record.messages == 536 + 499
    assert odd(record) == (0, 0, 0, 0, 0)
    assert odd(seen(65534, 65535, 2, 3)) == (1, 0, 0, 0, 0)


def test_loss_duplicates_and_order() -> None:
    assert odd(seen(1, 2, 5, 6)) == (2, 0, 0, 0, 0)
    assert odd(seen(1, 2, 4, 3, 5)) == (0, 0, 1, 0, 0)
    assert odd(seen(1, 2, 2, 3, 1)) == (0, 2, 0, 0, 0)
    # Late, and from before the first one.
    assert odd(seen(3, 1, 4)) == (1, 0, 1, 0, 0)


def test_fragments() -> None:
    record = seen(1)
    for fragment in (1, 2, 4, 3, 3):
        record.see(2, 4, fragment)
    for fragment in (1, 4):
        record.see(3, 4, fragment)
    seen(4, record=record)
    # Late, and the third fragment is still missing.
    record.see(3, 4, 2)
    assert (record.messages, record.whole) == (4, 3)
    assert odd(record) == (0, 1, 2, 0, 1)


def test_messages_at_the_edges_of_a_capture_may_be_whole() -> None:
    record = MessageNumbers()
    record.see(1, 3, 3)
    record.see(2, 3, 1)
    record.see(2, 3, 2)
    assert odd(record) == (0, 0, 0, 0, 0)


def test_a_host_that_begins_anew() -> None:
    record = seen(*range(20000, 20010), 20012)
    seen(1, 2, 4, record=record)
    assert record.messages == 14
    assert odd(record) == (3, 0, 0, 1, 0)
    # Near numbers tell nothing, so it has to be said.
    record = seen(1, 2, 3)
    record.restart()
    record.restart()
    seen(1, 2, 3, record=record)
    assert odd(record) == (0, 0, 0, 1, 0)


@given(st.integers(0, 2**32), st.integers(0, 65535), st.sampled_from([1, 5]))
def test_a_wire_that_loses_repeats_and_delays(seed: int, start: int, fragments: int) -> None:
    """What is counted is what was done to the packets, to the last one."""
    chance = random.Random(seed)
    numbers = [n % 65536 for n in range(start, start + 500) if n % 65536]
    # The first and the last message arrive whole and in time, so that the edges are known.
    sent = [(i, part) for i in range(len(numbers)) for part in range(1, fragments + 1)]
    passed: list[tuple[float, int, int]] = []
    repeated = 0
    for place, (i, part) in enumerate(sent):
        inside = 0 < i < len(numbers) - 1
        if inside and chance.random() < 0.1:
            continue
        when = place + (chance.choice((0.0, 0.0, 50.5)) if inside else 0.0)
        passed.append((min(when, len(sent) - fragments - 0.5) if inside else when, i, part))
        if inside and chance.random() < 0.1:
            repeated += 1
            passed.append((passed[-1][0] + 0.1, i, part))
    passed.sort()
    record = MessageNumbers()
    for _, i, part in passed:
        record.see(numbers[i], fragments, part)
    record.finish()
    arrived = Counter(i for i, _ in {(i, part) for _, i, part in passed})
    assert record.messages == len(arrived)
    assert record.missing == len(numbers) - len(arrived)
    assert record.missing_fragments == sum(fragments - count for count in arrived.values())
    assert record.duplicates == repeated
    newest, late, known = (-1, 0), 0, set[tuple[int, int]]()
    for _, i, part in passed:
        if (i, part) in known:
            continue
        known.add((i, part))
        late += (i, part) < newest
        newest = max(newest, (i, part))
    assert record.late == late


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255))))
def test_any_numbers_are_taken(packets: list[tuple[int, int, int]]) -> None:
    record = MessageNumbers()
    for packet in packets:
        record.see(*packet)
    record.finish()
    assert record.missing >= 0
    assert record.missing_fragments >= 0
    assert record.messages + record.duplicates <= len(packets) + record.missing_fragments
