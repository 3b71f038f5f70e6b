"""Twenty seconds of what `nox -s soak` does for hours, and checks that see what is wrong."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable

import attrs
import pytest
import trio

from tests.interop.conftest import need
from tests.interop.namespaces import namespaces_missing
from tests.soak.driver import Outcome, Plan, Sample, soak
from tests.soak.judge import judge, summarize
from tests.soak.ledger import KEEP, Ledger
from tests.soak.messages import MAX_SIZE, MIN_SIZE, Name, check_message, choose_size, make_message
from tests.soak.wires import HOSTS, WAYS

# More happens in a second than in a run of hours, so that all of it happens.
PLAN = Plan(seconds=18, seed=1, rekey=4, cut=2, mend=0.8, sample=1)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """What a short run has shown."""
    need(namespaces_missing())
    return trio.run(soak, PLAN, print)


def test_a_short_run_is_fine(outcome: Outcome) -> None:
    print(summarize(outcome))
    assert judge(outcome) == []
    assert outcome.cuts > 3
    assert outcome.rekeyed > 1
    assert outcome.ledger.delivered.total() > 100
    assert sum(passed.lost for passed in outcome.passed.values()) > 0


# The checks see what is wrong with a run that was fine.


def a_message_is_lost(outcome: Outcome) -> None:
    for number in range(200):
        outcome.ledger.note_whole(2, Name(1, 10**6 + number), 0.0)


def a_message_comes_twice(outcome: Outcome) -> None:
    outcome.ledger.note_delivered(2, Name(1, 10**6), 0.0)
    outcome.ledger.note_delivered(2, Name(1, 10**6), 0.0)


def a_message_is_damaged(outcome: Outcome) -> None:
    outcome.reports[3]["bad"] = 1


def nothing_arrives(outcome: Outcome) -> None:
    outcome.ledger.whole[3] = 0


def the_tap_is_blind(outcome: Outcome) -> None:
    outcome.missed[1] = 1


def a_datagram_is_not_counted(outcome: Outcome) -> None:
    outcome.reports[1]["links"]["2.0"]["rx_total_packets"] -= 1


def fragments_vanish(outcome: Outcome) -> None:
    outcome.reports[1]["links"]["2.0"]["rx_data_packets"] += 10**6


def a_packet_comes_from_nowhere(outcome: Outcome) -> None:
    way = WAYS[0]
    outcome.passed[way] = outcome.passed[way]._replace(left=outcome.passed[way].left - 1)


def nothing_is_lost_on_the_way(outcome: Outcome) -> None:
    for way, passed in outcome.passed.items():
        outcome.passed[way] = passed._replace(lost=0)


def cuts_do_nothing(outcome: Outcome) -> None:
    for way, passed in outcome.passed.items():
        outcome.passed[way] = passed._replace(entered=passed.lost + passed.left)


def a_sent_packet_is_not_counted(outcome: Outcome) -> None:
    outcome.reports[3]["links"]["1.1"]["tx_total_packets"] -= 1


def memory_grows(outcome: Outcome) -> None:
    outcome.samples[2] = [Sample(10**8, 10**6 * number) for number in range(60)]


def all_of_the_process_grows(outcome: Outcome) -> None:
    outcome.samples[2] = [Sample(10**6 * number, 10**6) for number in range(60)]


def nobody_looked_at_the_memory(outcome: Outcome) -> None:
    outcome.samples[2] = []


def tasks_are_left(outcome: Outcome) -> None:
    outcome.reports[2]["tasks"] += 1


WRONG: dict[Callable[[Outcome], None], str] = {
    a_message_is_lost: "were not delivered",
    a_message_comes_twice: "1 twice",
    a_message_is_damaged: "given 1 messages that nobody sent so",
    nothing_arrives: "no message arrived",
    the_tap_is_blind: "were not seen",
    a_datagram_is_not_counted: "as received",
    fragments_vanish: "are accounted for",
    a_packet_comes_from_nowhere: "left the hub",
    nothing_is_lost_on_the_way: "should be",
    cuts_do_nothing: "lost no packet",
    a_sent_packet_is_not_counted: "counted",
    memory_grows: "the traced memory",
    all_of_the_process_grows: "the resident memory",
    nobody_looked_at_the_memory: "too few",
    tasks_are_left: "tasks",
}


@pytest.mark.parametrize("spoil", WRONG, ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_is_seen(outcome: Outcome, spoil: Callable[[Outcome], None]) -> None:
    spoilt = attrs.evolve(
        outcome,
        ledger=copied(outcome.ledger),
        samples=dict(outcome.samples),
        missed=dict(outcome.missed),
        reports={host: copied_report(outcome, host) for host in HOSTS},
        passed=dict(outcome.passed),
    )
    spoil(spoilt)
    spoilt.ledger.settle(math.inf)
    assert any(WRONG[spoil] in complaint for complaint in judge(spoilt))
    assert judge(outcome) == []


def copied(ledger: Ledger) -> Ledger:
    copy = Ledger()
    for name in ("whole", "delivered", "missing", "unseen", "doubled"):
        setattr(copy, name, Counter(getattr(ledger, name)))
    return copy


def copied_report(outcome: Outcome, host: int) -> dict[str, object]:
    report = outcome.reports[host]
    return {**report, "links": {name: dict(link) for name, link in report["links"].items()}}


# What the run stands on.


def test_a_message_says_what_it_is_and_whether_it_is_whole() -> None:
    name = Name(3, 70_000)
    data = make_message(name, 1000)
    assert len(data) == 1000
    assert check_message(data) == name
    for place in (0, 5, 9, 13, 17, 18, 500, 999):
        damaged = bytearray(data)
        damaged[place] ^= 1
        assert check_message(bytes(damaged)) is None
    for wrong in (data[:-1], data + b"x", data[:10], b""):
        assert check_message(wrong) is None


def test_messages_are_of_all_sizes() -> None:
    rng = random.Random(1)
    sizes = [choose_size(rng) for _ in range(10_000)]
    assert MIN_SIZE <= min(sizes) < 70
    assert 60_000 < max(sizes) <= MAX_SIZE
    assert 1500 < sorted(sizes)[5000] < 2700


def test_a_ledger_forgets_what_is_past_and_counts_what_was_wrong_with_it() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.note_whole(1, Name(2, number), 0.0)
        ledger.note_whole(1, Name(2, number), 0.1)
        if number:
            ledger.note_delivered(1, Name(2, number), 0.2)
    ledger.note_delivered(3, Name(2, 77), 0.3)
    ledger.note_whole(1, Name(2, 10), KEEP)
    ledger.settle(KEEP - 1)
    assert len(ledger) == 12
    assert not ledger.missing
    ledger.settle(KEEP + 1)
    assert len(ledger) == 1
    assert (ledger.whole, ledger.delivered) == ({1: 11}, {1: 9, 3: 1})
    assert (ledger.missing, ledger.unseen, ledger.doubled) == ({1: 1}, {3: 1}, {})
    assert len(ledger.examples) == 2
