"""The findings about the program, this machine, and packets from addresses without a link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from knet_trio import CryptoFault, DropCause, DropDetail, HandleDiagnosis
from knet_trio.cli.doctor.evidence import Evidence, LinkCase
from knet_trio.cli.doctor.mismatches import (
    CRYPTO_CAUSES,
    concerns,
    date,
    describe_crypto_fault,
    describe_refusal,
)
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.key_change import describe_key_change
from knet_trio.cli.link_table import NO_KEY, is_open_to_anybody
from knet_trio.errors import count_of

# The shares of the time that an event loop may be late before a warning, and before a fault.
_LATE: Final = 0.1
_VERY_LATE: Final = 0.3
# The share of the time above which a thread counts as busy.
_MOSTLY: Final = 0.5
# The share of the processor time that the host of a virtual machine may take unmentioned.
_SOME_STEAL: Final = 0.05
# A single delay that is normal on any machine, in seconds.
_LONG: Final = 0.1
# Refusals count from this many seconds before the first snapshot on.
_MEMORY: Final = 5.0
# Seconds for which a step of the clock is reported.
_CLOCK_MEMORY: Final = 600.0

_FIND_SENDER: Final = "find out who sends this, and block other senders with a firewall"

_FOREIGN: Final = (DropCause.IMPOSSIBLE_SOURCE, DropCause.RATE_LIMITED, DropCause.REPLAYED)

# The finding if the count of a cause has grown during the observation.
_GROWING: Final = {
    DropCause.CHANNEL_FULL: (
        FindingCode.QUEUE_FULL,
        "the queue of a channel was full: its reader is too slow",
        "read with receive_many, or give open_channel a larger receive_buffer",
    ),
    DropCause.RECEIVE_QUEUE_FULL: (
        FindingCode.QUEUE_FULL,
        "they arrived faster than they could be processed",
        "use a faster compression there, or send less",
    ),
    DropCause.SEND_QUEUE_FULL: (
        FindingCode.QUEUE_FULL,
        "more was sent than a host or a link can take",
        "send less, or use a faster link",
    ),
    DropCause.UNKNOWN_COMPRESSION: (
        FindingCode.COMPRESSION_MISMATCH,
        "their compression is not installed here",
        "install it here (pip install 'knet-trio[compress]'), or use another compression there",
    ),
    DropCause.BAD_COMPRESSION: (
        FindingCode.COMPRESSION_MISMATCH,
        "they cannot be decompressed",
        "compare the compression libraries of both hosts; the log says more",
    ),
    DropCause.COMPRESSION_REFUSED: (
        FindingCode.COMPRESSION_MISMATCH,
        "accept_compression does not have their compression",
        "add it to accept_compression here, or use another compression there",
    ),
}


def find_program_faults(evidence: Evidence, cases: Sequence[LinkCase]) -> list[Finding]:
    """Return the findings that are not about a link, at least one that says that all is well."""
    found = [
        *_find_strangers(evidence, cases),
        *_find_closed_channels(evidence, cases),
        *_find_lost_messages(evidence),
        *_find_starvation(evidence, cases),
        *_find_clock_faults(evidence),
    ]
    if not evidence.after.handle.forwarding:
        found.append(
            Finding(
                severity=Severity.WARNING,
                code=FindingCode.FORWARDING_OFF,
                where="",
                text="messages are neither sent nor received: forwarding is off",
                remedy="await handle.set_forwarding(True) in the program lets them pass",
            )
        )
    found += _find_unfinished_rekey(evidence)
    if is_open_to_anybody(evidence.after.report):
        found.append(
            Finding(
                severity=Severity.WARNING,
                code=FindingCode.NOT_ENCRYPTED,
                where="",
                text=NO_KEY,
                remedy="make a key (knet-trio keygen), copy it to all hosts, and name it in the"
                " cluster file (key_file), or give it to the program",
            )
        )
    if found:
        return found
    loop = evidence.loop
    looks = count_of(loop.looks, "wake-up")
    text = f"its event loop was {loop.longest * 1e3:.0f} ms late at most, in {looks}"
    return [Finding(severity=Severity.OK, code=FindingCode.PROGRAM_OK, where="", text=text)]


def _find_unfinished_rekey(evidence: Evidence) -> Iterator[Finding]:
    """Yield a finding if one change of the key was in progress during the whole observation."""
    before, after = evidence.before.report.key_change, evidence.after.report.key_change
    words = describe_key_change(evidence.after.report)
    if before is None or after is None or before.change_id != after.change_id or words is None:
        return
    yield Finding(
        severity=Severity.WARNING,
        code=FindingCode.REKEY_UNFINISHED,
        where="",
        text=words,
        remedy="knet-trio rekey --status names the hosts that are not done, and changes nothing;"
        " knet-trio rekey continues the change",
    )


def _since(evidence: Evidence, at: float | None) -> bool:
    """Return whether ``at`` is within the observation, or shortly before."""
    return at is not None and evidence.after.handle.at - at <= 2 * evidence.seconds + _MEMORY


def _age(evidence: Evidence, cases: Sequence[LinkCase], at: float | None) -> float | None:
    """Return how long ago such packets last came, in seconds; None if they still come."""
    interval = max((case.link.ping_interval for case in cases if case.link.enabled), default=1.0)
    if at is None or evidence.is_present(at, interval):
        return None
    return evidence.after.handle.at - at


def _find_strangers(evidence: Evidence, cases: Sequence[LinkCase]) -> Iterator[Finding]:
    """Yield the findings about packets from addresses without a link, if no link explains them."""
    handle = evidence.after.handle
    fault = handle.crypto_fault
    if (
        fault is not None
        and _since(evidence, fault.at)
        and not any(concerns(case, fault.source) for case in cases)
    ):
        yield date(_describe_noise(fault), _age(evidence, cases, fault.at))
    for cause, refusal in handle.drops.items():
        if not _since(evidence, refusal.at) or any(
            concerns(case, refusal.source) for case in cases
        ):
            continue
        finding = describe_refusal(cause, refusal, "") or _describe_stranger(cause, refusal, handle)
        if finding is not None:
            yield date(finding, _age(evidence, cases, refusal.at))


def _describe_noise(fault: CryptoFault) -> Finding:
    """Return the finding for packets that cannot be opened and that no link expects."""
    finding = describe_crypto_fault(fault, "", Severity.WARNING)
    if fault.differs not in ("key", "sealed"):
        # The sender has the key, so it is a host of the cluster.
        return finding
    return Finding(
        severity=Severity.WARNING,
        code=FindingCode.FOREIGN_PACKETS,
        where="",
        text=f"{finding.text}; no link leads there",
        remedy=_FIND_SENDER,
    )


def _describe_stranger(
    cause: DropCause, refusal: DropDetail, handle: HandleDiagnosis
) -> Finding | None:
    if cause is DropCause.UNKNOWN_ADDRESS:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.ADDRESS_MISMATCH,
            where="",
            text=f"{refusal.text} ({count_of(refusal.count, 'such packet')})",
            remedy="add a link to that address, or have the host send from where a link leads",
        )
    noise = cause in CRYPTO_CAUSES and handle.crypto_fault is None
    if cause in _FOREIGN or noise:
        return Finding(
            severity=Severity.WARNING,
            code=FindingCode.FOREIGN_PACKETS,
            where="",
            text=f"{refusal.text} ({count_of(refusal.count, 'such packet')})",
            remedy=_FIND_SENDER,
        )
    return None


def _find_closed_channels(evidence: Evidence, cases: Sequence[LinkCase]) -> Iterator[Finding]:
    earlier = {one.channel: one.messages for one in evidence.before.handle.closed_channels}
    for closed in evidence.after.handle.closed_channels:
        grown = closed.messages - earlier.get(closed.channel, 0)
        if not grown and not _since(evidence, closed.at):
            continue
        finding = Finding(
            severity=Severity.FAULT,
            code=FindingCode.CHANNEL_CLOSED,
            where=f"channel {closed.channel}",
            text=f"host {closed.host_id} sends on it, but it is not open here:"
            f" {count_of(closed.messages, 'message')} lost",
            remedy=f"open channel {closed.channel} on this host before others send on it, in a"
            " cluster file with [[channels]]",
        )
        yield date(finding, None if grown else _age(evidence, cases, closed.at))


def _find_lost_messages(evidence: Evidence) -> Iterator[Finding]:
    before, after = evidence.before.report.drops, evidence.after.report.drops
    for cause, (code, why, remedy) in _GROWING.items():
        grown = after.get(cause.value, 0) - before.get(cause.value, 0)
        if grown > 0:
            yield Finding(
                severity=Severity.FAULT,
                code=code,
                where="",
                text=f"{count_of(grown, 'message')} dropped meanwhile ({cause.value}): {why}",
                remedy=remedy,
            )


def _find_starvation(evidence: Evidence, cases: Sequence[LinkCase]) -> Iterator[Finding]:
    loop, before, after = evidence.loop, evidence.before.handle, evidence.after.handle
    least = min((case.link.pong_timeout for case in cases if case.link.enabled), default=2.0)
    share = loop.late / loop.seconds
    longest = max(loop.longest, _grown_longest(evidence))
    used, awaited = _cpu_shares(evidence)
    if share < _LATE and longest < max(least / 2, _LONG):
        return
    bad = share >= _VERY_LATE or longest >= max(least, 2 * _LONG)
    lateness = f"the event loop was late {share:.0%} of the time, {longest:.2f} s at once at most"
    if used + awaited < _MOSTLY:
        why = "its thread neither ran nor waited for a processor: a call blocked it, the process"
        why += " was stopped, or this virtual machine was paused"
        remedy = "find the call in the program that blocks, and move it to a thread"
        remedy += " (trio.to_thread.run_sync)"
        if evidence.is_service:
            remedy = "see whether this virtual machine is paused at times (by snapshots, a move to"
            remedy += " another host, or a host that is too busy), or the process is stopped or"
            remedy += " waits for a disk (state T or D in ps)"
    elif awaited > used:
        why = f"its thread waited for a processor {awaited:.0%} of the time"
        remedy = "give this machine or container more processor time (look at its cgroup's cpu.max,"
        remedy += " nice, and what else runs here), or raise pong_timeout"
    else:
        why = f"its thread used a processor {used:.0%} of the time"
        remedy = "add checkpoints to the program (await trio.lowlevel.checkpoint()), or move long"
        remedy += " work to a thread (trio.to_thread.run_sync)"
        if evidence.is_service:
            remedy = "this machine has too little processor for so many messages and links: give it"
            remedy += " a faster one, send less, or raise ping_interval and pong_timeout"
    if evidence.stolen >= _SOME_STEAL:
        why += f"; the host of this virtual machine took {evidence.stolen:.0%} of its time (steal)"
        remedy = f"give this virtual machine more processor time (st in top); {remedy}"
    if after.stalls > before.stalls:
        times = count_of(after.stalls - before.stalls, "time")
        lateness += f", and its heartbeat was over 0.05 s late {times}"
    yield Finding(
        severity=Severity.FAULT if bad else Severity.WARNING,
        code=FindingCode.CPU_STARVED,
        where="",
        text=f"{lateness}; {why}",
        remedy=remedy,
    )


def _grown_longest(evidence: Evidence) -> float:
    before, after = evidence.before.handle, evidence.after.handle
    return after.longest_stall if after.longest_stall > before.longest_stall else 0.0


def _cpu_shares(evidence: Evidence) -> tuple[float, float]:
    """Return the shares of the time in which the thread had a processor, and waited for one."""
    before, after = evidence.before.handle, evidence.after.handle
    seconds = after.at - before.at
    if (
        after.cpu_used is None
        or before.cpu_used is None
        or after.cpu_awaited is None
        or before.cpu_awaited is None
        or seconds <= 0
    ):
        return 0.0, 0.0
    used, awaited = after.cpu_used - before.cpu_used, after.cpu_awaited - before.cpu_awaited
    return used / seconds, awaited / seconds


def _find_clock_faults(evidence: Evidence) -> Iterator[Finding]:
    handle, error = evidence.after.handle, evidence.after.clock_error
    remedy = (
        "let one service set the clock, slowly (chrony, systemd-timesyncd): links do not use the"
    )
    remedy += " time of day, but logs and certificates do"
    at = handle.clock_step_at
    if at is not None and handle.at - at <= _CLOCK_MEMORY:
        times = "once" if handle.clock_steps == 1 else f"{handle.clock_steps} times"
        yield Finding(
            severity=Severity.WARNING,
            code=FindingCode.CLOCK,
            where="",
            text=f"the time of day was set {times} since the handle was opened, the last time"
            f" {handle.at - at:.0f} s ago by {handle.clock_step:+.2f} s (or this machine slept)",
            remedy=remedy,
        )
    elif error:
        yield Finding(
            severity=Severity.WARNING,
            code=FindingCode.CLOCK,
            where="",
            text=f"the program's time of day differs by {error:+.2f} s from that of this machine",
            remedy=remedy,
        )
