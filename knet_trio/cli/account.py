"""The result of a demo, computed from its ledger, and the checks on it."""

from __future__ import annotations

from collections.abc import Sequence

from knet_trio import LinkPolicy
from knet_trio._core.percentile import percentile
from knet_trio.cli.ledger import Cut, Ledger
from knet_trio.cli.result import Check, CutResult, Result, Settings


def account(
    settings: Settings,
    ledger: Ledger,
    *,
    mtu: int,
    overhead: int,
    drops: dict[str, int],
    late: float,
    unreachable: Sequence[str],
) -> Result:
    """Return the result of a demo, with the checks on it.

    Args:
        settings: The settings of the demo.
        ledger: All messages and cuts of the demo.
        mtu: The smallest data MTU of the nodes, in bytes.
        overhead: The bytes that a packet has beside its payload, IP and UDP headers included.
        drops: The number of dropped packets, by cause.
        late: The longest delay of a task behind its schedule, in seconds.
        unreachable: A sentence for each time that a host became unreachable; none should.
    """
    # Zeroes if nothing has arrived.
    latencies = ledger.latencies() or [0.0]
    return Result(
        settings=settings,
        messages=ledger.messages,
        sent=ledger.sent,
        delivered=ledger.delivered,
        duplicates=ledger.duplicates,
        corrupted=ledger.corrupted,
        unexplained=ledger.unexplained(settings.policy),
        latency_median=percentile(latencies, 50),
        latency_p99=percentile(latencies, 99),
        latency_max=percentile(latencies, 100),
        mtu=mtu,
        overhead=overhead,
        cuts=tuple(_cut_result(ledger, cut) for cut in ledger.cuts),
        drops=drops,
        late=late,
        checks=(
            _losses(settings.policy, ledger),
            Check(
                "nothing arrives twice", not ledger.duplicates, f"{ledger.duplicates} duplicates"
            ),
            Check(
                "everything arrives as it was sent",
                not ledger.corrupted,
                f"{ledger.corrupted} messages changed",
            ),
            _everyone_heard(ledger),
            _cuts_noticed(ledger),
            _always_reachable(unreachable),
        ),
    )


def _cut_result(ledger: Ledger, cut: Cut) -> CutResult:
    ways = len(ledger.flows)
    dead, back = cut.dead_at, cut.back_at
    return CutResult(
        link=cut.link_id,
        seconds=cut.mended_at - cut.at,
        known_dead=max(dead.values()) - cut.at if len(dead) == ways else None,
        back=max(back.values()) - cut.mended_at if len(back) == ways else None,
        lost=ledger.lost_in(cut),
        failover=ledger.failover(cut),
    )


def _losses(policy: LinkPolicy, ledger: Ledger) -> Check:
    lost, unexplained = ledger.sent - ledger.delivered, ledger.unexplained(policy)
    if policy is LinkPolicy.ACTIVE:
        return Check("nothing is lost", not lost, f"{lost} of {ledger.sent} messages lost")
    return Check(
        "lost is only what went over a link not known to be dead yet",
        not unexplained,
        f"{lost - unexplained} such messages, {unexplained} others",
    )


def _everyone_heard(ledger: Ledger) -> Check:
    heard = sum(flow.delivered > 0 for flow in ledger.flows.values())
    ways = len(ledger.flows)
    return Check("every host hears every other", heard == ways, f"{heard} of {ways} ways")


def _cuts_noticed(ledger: Ledger) -> Check:
    ways = len(ledger.flows)
    failures = [
        f"link {cut.link_id} {what} at {len(ends)} of {ways} ends"
        for cut in ledger.cuts
        for what, ends in (("down", cut.dead_at), ("up again", cut.back_at))
        if len(ends) < ways
    ]
    return Check(
        "every host finds a cut link dead, and up once mended",
        not failures,
        "; ".join(failures) or f"{len(ledger.cuts)} cuts",
    )


def _always_reachable(unreachable: Sequence[str]) -> Check:
    name = "every host stays reachable all along"
    if not unreachable:
        return Check(name, True, "over the other link")
    return Check(name, False, f"{len(unreachable)} times not, first {unreachable[0]}")
