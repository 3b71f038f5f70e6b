"""The findings about a link."""

from __future__ import annotations

from collections.abc import Iterator

from knet_trio.cli.doctor.evidence import LinkCase
from knet_trio.cli.doctor.mismatches import find_mismatches
from knet_trio.cli.doctor.path import find_path_faults, find_timer_faults
from knet_trio.cli.doctor.silence import explain_silence
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.units import format_age, format_latency
from knet_trio.errors import count_of


def find_link_faults(case: LinkCase) -> list[Finding]:
    """Return the findings about a link, at least one that says that it is well."""
    link = case.link
    if not link.enabled:
        text = f"it is disabled: {link.reason}"
        remedy = f"knet-trio top, then e, enables it (link {link.link_id})"
        return [_ok(case, FindingCode.LINK_DISABLED, text, remedy)]
    if link.transport == "loopback":
        return [_ok(case, FindingCode.LINK_UP, link.reason)]
    found = [*find_timer_faults(case), *find_mismatches(case), *_find_buffer_faults(case)]
    if case.is_answered:
        found += find_path_faults(case)
        return found or [_ok(case, FindingCode.LINK_UP, _describe_up(case))]
    # A known fault already explains the silence.
    causes = [one for one in found if one.code is not FindingCode.BUFFERS_SMALL]
    if not any(one.severity is Severity.FAULT for one in causes):
        found.append(explain_silence(case))
    return found


def _ok(case: LinkCase, code: FindingCode, text: str, remedy: str = "") -> Finding:
    return Finding(severity=Severity.OK, code=code, where=case.where, text=text, remedy=remedy)


def _describe_up(case: LinkCase) -> str:
    link, ping = case.link, case.ping
    text = f"up for {format_age(link.at - link.since)}"
    if ping is not None and ping.answered:
        trip = format_latency(ping.seconds)
        text += f"; {ping.answered} of {count_of(ping.sent, 'ping')} answered, in {trip} on average"
    return f"{text}; {link.mtu} bytes of a message fit in one packet"


def _find_buffer_faults(case: LinkCase) -> Iterator[Finding]:
    after, before = case.after, case.before
    dropped = after.overflows - before.overflows
    remedy = "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608, or give the program"
    remedy += " CAP_NET_ADMIN, and restart it"
    if dropped > 0 or after.overflows > 0:
        meanwhile = f", {dropped} of them meanwhile" if dropped > 0 else ""
        small = f"; {after.small_buffers}" if after.small_buffers else ""
        yield Finding(
            severity=Severity.FAULT if dropped > 0 else Severity.WARNING,
            code=FindingCode.BUFFERS_SMALL,
            where=case.where,
            text=f"the system has dropped {count_of(after.overflows, 'packet')} since the buffer of"
            f" the socket of {case.link.src} was full{meanwhile}{small}",
            remedy=remedy
            if after.small_buffers
            else "find out what keeps the program from reading in time, or have its peers send"
            " less",
        )
    elif after.small_buffers is not None:
        # Over a connection the peer sends no more than fits into the buffer.
        outcome = "may lose packets" if after.peer_connected is None else "holds up its peers"
        yield Finding(
            severity=Severity.WARNING,
            code=FindingCode.BUFFERS_SMALL,
            where=case.where,
            text=f"the socket of {case.link.src} {outcome}: {after.small_buffers}",
            remedy=remedy,
        )
