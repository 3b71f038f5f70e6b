"""What must hold at the end of a run. Each check gives complaints, none if all is well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from knet_trio import DropCause
from tests.simulation.model import AT_THE_DOOR, FRAGMENTS, NOT_TAKEN
from tests.soak.driver import Outcome, Sample
from tests.soak.wires import HOSTS, Way, address

# Those that excuse a message that arrived whole and was not delivered.
EXCUSES: Final = {*NOT_TAKEN, DropCause.CHANNEL_FULL}
# What a handle keeps of messages that lack some fragments: so many from each of two hosts, and the
# bytes of the largest.
INCOMPLETE: Final = 2 * 32
FILLED: Final = INCOMPLETE * 65536
# How many standard deviations chance may be off.
SIGMAS: Final = 6.0
# By how much memory may grow from the second third of a run to the last, in bytes: messages of
# 64 KiB come and go, and the system gives and takes memory in larger pieces.
GROWTH: Final = {"traced": 1024 * 1024, "resident": 8 * 1024 * 1024}
# So many seconds it may take until all of these are there, and all of the last round trips.
FILLING: Final = 600.0


def judge(outcome: Outcome) -> list[str]:
    """All complaints."""
    return [
        *check_messages(outcome),
        *check_sockets(outcome),
        *check_fragments(outcome),
        *check_wires(outcome),
        *check_senders(outcome),
        *check_memory(outcome),
    ]


def check_messages(outcome: Outcome) -> Iterator[str]:
    """What arrived whole was delivered once, as it was sent, and nothing else was."""
    ledger = outcome.ledger
    for host in HOSTS:
        report = outcome.reports[host]
        if outcome.missed[host] or outcome.taps[host].unreadable:
            yield (
                f"of what arrived at host {host} {outcome.missed[host]} packets were not seen, and"
                f" {outcome.taps[host].unreadable} could not be read"
            )
        if not ledger.whole[host]:
            yield f"no message arrived at host {host}"
        if report["bad"] or ledger.doubled[host] or ledger.unseen[host]:
            yield (
                f"host {host} was given {report['bad']} messages that nobody sent so,"
                f" {ledger.doubled[host]} twice and {ledger.unseen[host]} that did not arrive whole"
            )
        excused = _excused(outcome, host)
        if ledger.missing[host] > excused:
            yield (
                f"{ledger.missing[host]} messages arrived whole at host {host} and were not"
                f" delivered, and drops excuse {excused}: {report['drops']}"
            )
    yield from ledger.examples if ledger.missing or ledger.doubled or ledger.unseen else ()


def check_sockets(outcome: Outcome) -> Iterator[str]:
    """Every datagram that arrived was counted as received, or under a cause."""
    for host in HOSTS:
        report = outcome.reports[host]
        arrived = outcome.taps[host].arrived.total()
        received = sum(link["rx_total_packets"] for link in report["links"].values())
        refused = _dropped(report, AT_THE_DOOR)
        if arrived != received + refused:
            yield (
                f"{arrived} datagrams arrived at host {host}, which counted {received} as received"
                f" and {refused} as refused: {report['drops']}"
            )


def check_fragments(outcome: Outcome) -> Iterator[str]:
    """Every fragment belongs to a whole message, is counted under a cause, or lacks others."""
    for host in HOSTS:
        report, tap = outcome.reports[host], outcome.taps[host]
        data = sum(link["rx_data_packets"] for link in report["links"].values())
        known = tap.fragments + _dropped(report, FRAGMENTS)
        unfinished = tap.unfinished()["fragments"]
        if not 0 <= data - known <= unfinished:
            yield (
                f"host {host} received {data} fragments; {known} are accounted for, and"
                f" {unfinished} are of unfinished messages: {report['drops']}"
            )


def check_wires(outcome: Outcome) -> Iterator[str]:
    """What left the hub arrived, and as much was lost as was to be."""
    entered = lost = 0
    for way, passed in outcome.passed.items():
        arrived = _arrived(outcome, way)
        if passed.left != arrived:
            yield f"{passed.left} packets left the hub on {way}, and {arrived} arrived"
        entered += passed.entered - passed.cut
        lost += passed.lost
    chance = outcome.plan.loss
    spread = math.sqrt(entered * chance * (1 - chance))
    if abs(lost - entered * chance) > SIGMAS * spread:
        yield f"of {entered} packets {lost} were lost, where {chance:.1%} should be"
    if outcome.cuts and not any(passed.cut for passed in outcome.passed.values()):
        yield f"{outcome.cuts} cuts lost no packet"


def check_senders(outcome: Outcome) -> Iterator[str]:
    """What a host counted as sent came into the hub."""
    for way, passed in outcome.passed.items():
        link = outcome.reports[way.source]["links"][f"{way.destination}.{way.network}"]
        # What the system refused is counted as sent too, and answers to probes are not.
        sent = link["tx_total_packets"] - link["tx_total_errors"] + link["answers"]
        if sent != passed.entered:
            yield (
                f"host {way.source} counted {sent} packets as sent on {way}, and {passed.entered}"
                " came out"
            )


def check_memory(outcome: Outcome) -> Iterator[str]:
    """The memory of no host grows, nor do its tasks become more."""
    for host, samples in outcome.samples.items():
        third = len(samples) // 3
        if not third:
            yield f"of the memory of host {host} there are {len(samples)} samples: too few"
            continue
        before, after = samples[third : 2 * third], samples[-third:]
        more = FILLED if outcome.plan.seconds < FILLING else 0
        for what, bound in GROWTH.items():
            was, now = _mean(before, what), _mean(after, what)
            if now - was > bound + more:
                yield f"the {what} memory of host {host} grew from {was:.0f} to {now:.0f} bytes"
    tasks = {report["tasks"] for report in outcome.reports.values()}
    if len(tasks) != 1:
        yield f"hosts that do the same have {sorted(tasks)} tasks"


def summarize(outcome: Outcome) -> str:
    """A run in numbers."""
    ledger, plan = outcome.ledger, outcome.plan
    lines = [
        f"{plan.seconds:.0f} s, seed {plan.seed}: {outcome.cuts} cuts, {outcome.rekeyed} new keys"
    ]
    for host in HOSTS:
        report = outcome.reports[host]
        samples = outcome.samples[host]
        memory = f"{samples[0].resident >> 10} to {samples[-1].resident >> 10}" if samples else "?"
        lines.append(
            f"host {host}: sent {report['sent']} messages, got {ledger.delivered[host]} of"
            f" {ledger.whole[host]} that arrived whole, in"
            f" {outcome.taps[host].arrived.total()} datagrams; memory {memory} KiB;"
            f" drops {report['drops']}"
        )
    entered = sum(passed.entered for passed in outcome.passed.values())
    lost = sum(passed.lost for passed in outcome.passed.values())
    cut = sum(passed.cut for passed in outcome.passed.values())
    lines.append(f"of {entered} packets {lost} were lost by chance and {cut} in cuts")
    return "\n".join(lines)


def _excused(outcome: Outcome, host: int) -> int:
    """How many messages may have arrived whole without being delivered."""
    report = outcome.reports[host]
    excused = _dropped(report, EXCUSES - {DropCause.REASSEMBLY_GIVEN_UP})
    # To give up a message that lacks some of its fragments is right, and has to be.
    lacking = outcome.taps[host].unfinished()["messages"] - INCOMPLETE
    given_up = _dropped(report, {DropCause.REASSEMBLY_GIVEN_UP})
    return excused + max(0, given_up - max(0, lacking))


def _arrived(outcome: Outcome, way: Way) -> int:
    return outcome.taps[way.destination].arrived[address(way.source, way.network)]


def _dropped(report: dict[str, Any], causes: Iterable[DropCause]) -> int:
    return sum(report["drops"].get(str(cause), 0) for cause in causes)


def _mean(samples: list[Sample], what: str) -> float:
    values: list[int] = [getattr(sample, what) for sample in samples]
    return sum(values) / len(values)
