"""The findings about the path and the timers of a link that gets answers."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from knet_trio.cli.doctor.evidence import LinkCase
from knet_trio.cli.doctor.silence import describe_late_pongs
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.units import format_latency

# The shares of lost pings that make a fault, and a warning.
_MUCH_LOSS: Final = 0.05
_SOME_LOSS: Final = 0.01
# Fewer lost pings may be chance.
_LEAST_LOST: Final = 2
# The shares of the pong timeout above which round trips are too long for a slow moment.
_NEAR_TIMEOUT: Final = 0.5
_AT_TIMEOUT: Final = 0.8


def find_timer_faults(case: LinkCase) -> Iterator[Finding]:
    """Yield the findings about the timers."""
    interval, timeout = case.link.ping_interval, case.link.pong_timeout
    timers = f"pong_timeout is {timeout:g} s and ping_interval {interval:g} s: "
    remedy = f"set pong_timeout to at least {2 * interval:g} s, or ping_interval to at most"
    remedy += f" {timeout / 2:g} s"
    if timeout < interval:
        yield Finding(
            severity=Severity.FAULT,
            code=FindingCode.TIMERS,
            where=case.where,
            text=f"{timers}the link goes down between two pings, or never comes up",
            remedy=remedy,
        )
    elif timeout < 2 * interval:
        yield Finding(
            severity=Severity.WARNING,
            code=FindingCode.TIMERS,
            where=case.where,
            text=f"{timers}a single lost ping takes the link down",
            remedy=remedy,
        )


def find_path_faults(case: LinkCase) -> Iterator[Finding]:
    """Yield the findings about a path that carries packets."""
    yield from _find_black_hole(case)
    yield from _find_loss(case)
    yield from _find_latency(case)
    yield from _find_errors(case)


def _find_black_hole(case: LinkCase) -> Iterator[Finding]:
    after, before = case.after, case.before
    lost, carried = after.lost_size, after.path_mtu
    if lost is None or carried is None or after.told_mtu is not None:
        return
    if _loss(case) >= _MUCH_LOSS and before.lost_size != lost:
        # If many packets are lost, a large one may be lost by chance.
        return
    data = "" if case.link.carries_data else ", which is too small for messages"
    exact = "" if lost - carried == 1 else f" (its MTU is between {carried} and {lost - 1})"
    yield Finding(
        severity=Severity.FAULT,
        code=FindingCode.MTU_BLACK_HOLE,
        where=case.where,
        text=f"the path carries packets of up to {carried} bytes{exact}{data}; larger ones are"
        " lost, though this machine sends them and no router reports that they are too large",
        remedy=f"set the MTU of the interface of {case.link.src} to {carried}, or raise that of the"
        " tunnel, switch or interface on the way that is smaller; let ICMP through firewalls",
    )


def _loss(case: LinkCase) -> float:
    ping = case.ping
    return 0.0 if ping is None or not ping.sent else 1 - ping.answered / ping.sent


def _find_loss(case: LinkCase) -> Iterator[Finding]:
    ping = case.ping
    if ping is None or not ping.connected:
        return
    # Late pongs have a finding of their own.
    late = case.after.late_pongs - case.before.late_pongs
    lost = ping.sent - ping.answered - max(late, 0)
    share = lost / max(ping.sent, 1)
    if lost < _LEAST_LOST or share < _SOME_LOSS:
        return
    yield Finding(
        severity=Severity.FAULT if share >= _MUCH_LOSS else Severity.WARNING,
        code=FindingCode.LOSS,
        where=case.where,
        text=f"{lost} of {ping.sent} pings were lost ({share:.0%})",
        remedy="find out where the path loses packets: interface counters (ip -s link), a full"
        " queue, a bad cable; the active policy over two links compensates for the loss",
    )


def _find_latency(case: LinkCase) -> Iterator[Finding]:
    if case.after.late_pongs > case.before.late_pongs:
        yield describe_late_pongs(case)
        return
    ping, timeout = case.ping, case.link.pong_timeout
    usual = case.link.latency_p50 if ping is None else ping.seconds
    slow = case.link.latency_p99 if ping is None else ping.slowest
    if slow is None or usual is None or slow < _NEAR_TIMEOUT * timeout:
        return
    yield Finding(
        severity=Severity.FAULT if usual >= _AT_TIMEOUT * timeout else Severity.WARNING,
        code=FindingCode.LATENCY_TIMEOUT,
        where=case.where,
        text=f"round trips take {format_latency(usual)}, at most {format_latency(slow)}, and the"
        f" pong timeout is {timeout:g} s: with slightly longer ones the link goes down",
        remedy=f"set pong_timeout to at least {4 * slow:.2g} s on both sides, or find out what"
        " makes the path so slow",
    )


def _find_errors(case: LinkCase) -> Iterator[Finding]:
    trouble = case.after.trouble
    if trouble is None or trouble.errno == errno.EMSGSIZE or trouble.at <= case.before.at:
        return
    yield Finding(
        severity=Severity.WARNING,
        code=FindingCode.PATH_ERRORS,
        where=case.where,
        text=f"{trouble.text}, though the peer answers",
        remedy="look for a firewall or router that rejects some packets, or a sender of forged"
        " errors",
    )
