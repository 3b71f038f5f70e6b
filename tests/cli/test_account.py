"""The account of a demo: what is lost, late, double or changed, and what that means."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from knet_trio import LinkPolicy, Message
from knet_trio.cli import commands, demo_command
from knet_trio.cli.account import account
from knet_trio.cli.ledger import Cut, Ledger, compose
from knet_trio.cli.report import Report
from knet_trio.cli.result import Result, Settings

LATENCY = 0.001
INTERVAL = 0.1
HERE, THERE = (1, 2), (2, 1)


def stream(ledger: Ledger, lost: set[int], count: int = 100) -> None:
    """Node 1 sends a message every tenth of a second, the ``lost`` of which node 2 does not get."""
    for number in range(count):
        at = number * INTERVAL
        data = ledger.send(1, at)
        if number not in lost:
            ledger.receive(2, Message(data, 1, 0), at + LATENCY)
        back = ledger.send(2, at)
        ledger.receive(1, Message(back, 2, 0), at + LATENCY)


def cut_at(at: float, dead_at: float, mended_at: float) -> Cut:
    ends, back = dict.fromkeys((HERE, THERE), dead_at), dict.fromkeys((HERE, THERE), mended_at + 1)
    return Cut(0, at, mended_at=mended_at, dead_at=ends, back_at=back)


def result(
    ledger: Ledger,
    policy: LinkPolicy,
    *,
    late: float = 0.0,
    drops: dict[str, int] | None = None,
    unreachable: tuple[str, ...] = (),
) -> Result:
    return account(
        Settings(2, policy, 10, 1 / INTERVAL),
        ledger,
        mtu=1,
        overhead=1,
        drops=drops or {},
        late=late,
        unreachable=unreachable,
    )


def failed(outcome: Result) -> list[str]:
    return [check.name for check in outcome.checks if not check.ok]


@pytest.mark.parametrize("policy", LinkPolicy)
def test_a_loss_outside_of_a_cut_is_never_right(policy: LinkPolicy) -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, {50})
    ledger.cuts.append(cut_at(2.05, 3.05, 4.05))
    outcome = result(ledger, policy)
    assert (outcome.sent, outcome.delivered, outcome.lost) == (200, 199, 1)
    assert outcome.unexplained == 1
    assert len(failed(outcome)) == 1
    assert not outcome.ok


def test_a_loss_before_the_cut_is_known_is_right_unless_the_policy_is_active() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, set(range(21, 31)))
    ledger.cuts.append(cut_at(2.05, 3.05, 4.05))
    assert result(ledger, LinkPolicy.PASSIVE).ok
    assert result(ledger, LinkPolicy.ROUND_ROBIN).ok
    active = result(ledger, LinkPolicy.ACTIVE)
    assert failed(active) == ["nothing is lost"]
    assert active.unexplained == 10
    # From the cut to message 31, the first to come through again.
    assert active.failover == pytest.approx(3.1 - 2.05)
    assert active.cuts[0].lost == 10


def test_a_loss_after_the_cut_is_known_is_not_right() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, set(range(21, 33)))
    ledger.cuts.append(cut_at(2.05, 3.05, 4.05))
    outcome = result(ledger, LinkPolicy.PASSIVE)
    assert outcome.lost == 12
    assert outcome.unexplained == 2
    assert not outcome.ok


def test_without_a_loss_the_longest_pause_beyond_the_usual_counts() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, set(range(21, 26)))
    # They come in the end, all at once.
    for number in range(21, 26):
        sent_at = number * INTERVAL
        ledger.receive(2, Message(compose(1, number, sent_at), 1, 0), 2.55)
    ledger.cuts.append(cut_at(2.05, 3.05, 4.05))
    outcome = result(ledger, LinkPolicy.ACTIVE)
    assert outcome.ok
    assert outcome.lost == 0
    # Between message 20 and all of those; before the cut and after it nothing is looked at.
    assert outcome.failover == pytest.approx(2.55 - (2.0 + LATENCY) - INTERVAL)
    assert outcome.latency_median == pytest.approx(LATENCY)
    assert outcome.latency_max == pytest.approx(0.45)


def test_duplicates_and_changes_are_found() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, {99})
    again = compose(1, 5, 5 * INTERVAL)
    ledger.receive(2, Message(again, 1, 0), 10.0)
    assert ledger.duplicates == 1
    last = compose(1, 99, 99 * INTERVAL)
    changed = bytearray(last)
    changed[-1] ^= 1
    wrong = [
        bytes(changed),
        last[:-1],
        last[:4],
        # Of a time, number or node that never was.
        compose(1, 99, 0.0),
        compose(1, 100, 10.0),
        compose(3, 99, 99 * INTERVAL),
    ]
    for data in wrong:
        ledger.receive(2, Message(data, 1, 0), 10.0)
    # Node 1's words, said to be of node 2.
    ledger.receive(2, Message(last, 2, 0), 10.0)
    assert ledger.corrupted == len(wrong) + 1
    outcome = result(ledger, LinkPolicy.ACTIVE)
    assert failed(outcome) == [
        "nothing is lost",
        "nothing arrives twice",
        "everything arrives as it was sent",
    ]


def test_messages_shown_as_lost_are_those_overdue() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    flow = ledger.flows[HERE]
    stream(ledger, {10, 98})
    flow.look(10.0)
    assert flow.overdue == 1
    ledger.receive(2, Message(compose(1, 10, 10 * INTERVAL), 1, 0), 10.0)
    assert flow.overdue == 0
    flow.look(20.0)
    assert flow.overdue == 1
    assert flow.lost() == [98]


def test_a_cut_that_goes_unnoticed_and_a_host_out_of_reach_are_not_right() -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, set())
    cut = cut_at(2.05, 3.05, 4.05)
    del cut.dead_at[HERE]
    ledger.cuts.append(cut)
    gone = ("host 1: host 2 is unreachable", "host 2: host 1 is unreachable")
    outcome = result(ledger, LinkPolicy.ACTIVE, unreachable=gone)
    assert outcome.checks[-1].detail == f"2 times not, first {gone[0]}"
    assert outcome.cuts[0].known_dead is None
    assert failed(outcome) == [
        "every host finds a cut link dead, and up once mended",
        "every host stays reachable all along",
    ]


def test_silence_is_not_right() -> None:
    outcome = result(Ledger([1, 2], INTERVAL), LinkPolicy.ACTIVE)
    assert failed(outcome) == ["every host hears every other"]
    assert outcome.latency_max == 0


def test_what_does_not_hold_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger([1, 2], INTERVAL)
    stream(ledger, {50})

    async def run_demo(settings: Settings, report: Report) -> Result:
        return result(ledger, settings.policy, late=1.5, drops={"duplicate": 7})

    monkeypatch.setattr(demo_command, "run_demo", run_demo)
    done = CliRunner().invoke(commands.knet_trio, ["demo"])
    assert done.exit_code == 1
    assert "FAILED  nothing is lost (1 of 200 messages lost)" in done.output
    assert "up to 1.50 s late" in done.output
    assert "duplicate: 7" in done.output
    assert "1 of 6 expectations did not hold." in done.output


def test_messages_differ_in_size_and_some_need_several_packets() -> None:
    sizes = {len(compose(1, number, 0.0)) for number in range(16)}
    assert min(sizes) < 100
    assert max(sizes) > 3 * 1500
