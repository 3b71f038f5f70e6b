"""Lives and counters: no pair of them comes twice."""

from __future__ import annotations

import itertools
import os

import pytest

from knet_trio._crypto.life import LAST_COUNTER, LIFE_SIZE, Life


def numbered() -> Life:
    """Return a life whose names are numbers."""
    numbers = itertools.count()
    return Life(lambda size: next(numbers).to_bytes(size, "big"))


def test_counters_begin_at_one_and_go_on() -> None:
    life = Life()
    assert len(life.name) == LIFE_SIZE
    assert life.take(3) == range(1, 4)
    assert life.take(1) == range(4, 5)


def test_a_counter_at_its_end_begins_another_life() -> None:
    life = numbered()
    before = life.name
    life.counter = LAST_COUNTER - 2
    # Fewer than were asked for: they are all of one life.
    assert life.take(5) == range(LAST_COUNTER - 1, LAST_COUNTER + 1)
    assert life.name == before
    assert life.take(5) == range(1, 6)
    assert life.name != before


def test_renewed_it_is_another() -> None:
    life = numbered()
    life.take(7)
    before = life.name
    life.renew()
    assert life.name != before
    assert life.take(1) == range(1, 2)


def test_another_process_has_another_life() -> None:
    pid = 1
    numbers = itertools.count()
    life = Life(lambda size: next(numbers).to_bytes(size, "big"), lambda: pid)
    life.take(7)
    before = life.name
    pid = 2
    assert life.take(1) == range(1, 2)
    assert life.name != before


def test_after_a_fork_parent_and_child_seal_under_different_lives() -> None:
    life = Life()
    life.take(100)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        counters = life.take(1)
        os.write(theirs, life.name + counters[0].to_bytes(8, "big"))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        written = pipe.read()
    assert written[:LIFE_SIZE] != life.name
    assert life.take(1) == range(101, 102)


def test_without_random_bytes_nothing_is_taken() -> None:
    def fail(_: int) -> bytes:
        raise OSError("no random bytes")

    with pytest.raises(OSError, match="no random bytes"):
        Life(fail)
