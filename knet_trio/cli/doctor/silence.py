"""Why a link gets no answer, where nothing that comes in says why."""

from __future__ import annotations

import errno
from typing import Final

from knet_trio import LinkTrouble
from knet_trio.cli.doctor.connection import explain_connection
from knet_trio.cli.doctor.evidence import LinkCase
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.units import format_latency

_FORBIDDEN: Final = (errno.EPERM, errno.EACCES)
# So much less than all pings are answered where only a few pongs are under way.
_MOST_LOST: Final = 0.2
# How many packets come for each ping sent, at least, if there are pongs among them.
_WITH_PONGS: Final = 1.5


def explain_silence(case: LinkCase) -> Finding:
    """Return why an enabled link is down, or gets no answers any more."""
    trouble = case.after.trouble
    recent = trouble if trouble is not None and case.is_recent(trouble.at) else None
    if case.is_recent(case.after.late_at) and case.after.late_pongs > case.before.late_pongs:
        return describe_late_pongs(case)
    if case.link.dst is None:
        return _explain_no_peer(case)
    if recent is not None and recent.local and recent.errno != errno.EMSGSIZE:
        return _explain_refused_here(case, recent)
    if case.pongs:
        return _explain_few_pongs(case)
    connection = explain_connection(case)
    if connection is not None:
        return connection
    if (
        recent is not None
        and not recent.local
        and recent.errno != errno.EMSGSIZE
        and _still_holds(case, recent)
    ):
        return _explain_refused_there(case, recent)
    if case.pinged_by_peer:
        return _one_way(
            case,
            f"pings of {case.peer} arrive, and of {case.pings_sent} pings sent to it meanwhile none"
            " was answered",
            f"look for a firewall that lets {case.protocol} through in one direction only, here for"
            f" what comes in or there for what comes from {case.link.src}; run knet-trio doctor"
            " there too: it says so if it refuses what comes from here",
        )
    if case.arrived:
        return _explain_dropped_here(case)
    if case.after.peer_connected:
        # There is one to the peer too, and the systems at both ends keep them.
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PEER_SILENT,
            where=case.where,
            text=f"there is a connection to {case.peer} and one from it, and neither a pong nor a"
            f" ping comes over them: {case.pings_sent} pings were sent meanwhile",
            remedy="see whether the program there is stopped, hangs, or has no processor time;"
            " knet-trio doctor there says so",
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.PORT_FILTERED,
        where=case.where,
        text=f"nothing comes from {case.peer}: {case.pings_sent} pings were sent meanwhile, and"
        " neither a pong came, nor a ping of it, nor an error",
        remedy="see whether that machine is up and the cables of this network are in; let"
        f" {case.protocol} from {case.link.src} to {case.peer}, and the other way round, through"
        " all firewalls between them",
    )


def _still_holds(case: LinkCase, trouble: LinkTrouble) -> bool:
    """Return whether nothing has come of the peer since the network said that it is not there.

    It may have started after that, and something else be wrong now.
    """
    after = case.after
    heard = max(after.pong_last or 0.0, after.ping_last or 0.0)
    return trouble.at > case.before.at or (trouble.at > heard and not case.arrived)


def describe_late_pongs(case: LinkCase) -> Finding:
    """Return the finding for pongs that come later than the pong timeout."""
    seconds = case.after.late_pong
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.LATENCY_TIMEOUT,
        where=case.where,
        text=f"pongs come, but after {format_latency(seconds)}, and the pong timeout is"
        f" {case.link.pong_timeout:g} s",
        remedy=f"set pong_timeout to at least {2 * (seconds or 0.0):.2g} s on both sides, or find"
        " out what makes the path so slow",
    )


def _one_way(case: LinkCase, text: str, remedy: str) -> Finding:
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.ONE_WAY,
        where=case.where,
        text=text,
        remedy=remedy,
    )


def _explain_dropped_here(case: LinkCase) -> Finding:
    """Return what it means that packets of the peer come to this machine, and not to the program.

    A peer pings as often as this host, and answers what it gets. So if no more comes than its
    pings, it gets none of this host's.
    """
    text = f"{case.arrived} packets of {case.peer} came to this machine, and none to the program:"
    text += " a firewall of this machine drops them"
    remedy = f"let {case.protocol} from {case.peer} to {case.link.src} in"
    remedy += " (iptables -L INPUT, nft list ruleset)"
    if case.arrived > _WITH_PONGS * case.pings_sent:
        return _one_way(case, text, remedy)
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.PORT_FILTERED,
        where=case.where,
        text=f"{text}; there are so few that the {case.pings_sent} pings sent meanwhile do not seem"
        " to get there either",
        remedy=f"{remedy}, and the other way round through the firewalls on the way",
    )


def _explain_no_peer(case: LinkCase) -> Finding:
    challenged = case.after.challenged
    if challenged is not None:
        return _one_way(
            case,
            f"pings come from {challenged}, which has not answered the ping that was sent there",
            f"let {case.protocol} from {case.link.src} to {challenged} through the firewalls",
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.NO_PEER,
        where=case.where,
        text="it is dynamic, and no ping of its peer has come",
        remedy="see whether the peer runs and has the address of this host, has an address in the"
        f" access list, and is let through to {case.link.src}",
    )


def _explain_refused_here(case: LinkCase, trouble: LinkTrouble) -> Finding:
    if trouble.errno in _FORBIDDEN:
        text = f"{trouble.text}: a firewall of this machine forbids it"
        remedy = f"let {case.protocol} from {case.link.src} to {case.peer} out"
        remedy += " (iptables -L OUTPUT, nft list ruleset)"
        if case.pinged_by_peer:
            return _one_way(case, f"pings of {case.peer} arrive; {text}", remedy)
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PORT_FILTERED,
            where=case.where,
            text=text,
            remedy=remedy,
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.NO_ROUTE,
        where=case.where,
        text=trouble.text,
        remedy=f"see whether {case.link.src} is an address of this machine, its interface is up,"
        f" and there is a route to {case.peer} (ip address, ip route get)",
    )


def _explain_few_pongs(case: LinkCase) -> Finding:
    """Return what it means that pings are answered and the link is down."""
    lost = 1 - case.pongs / max(case.pings_sent, case.pongs)
    text = f"{case.pongs} of {case.pings_sent} pings were answered meanwhile"
    if lost > _MOST_LOST and case.pings_sent - case.pongs > 1:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.LOSS,
            where=case.where,
            text=f"{text}, which is too few for it to come up",
            remedy="find out where the path loses packets: interface counters (ip -s link), a"
            " full queue, a bad cable",
        )
    needed = case.link.pong_count + 1
    return Finding(
        severity=Severity.WARNING,
        code=FindingCode.COMING_UP,
        where=case.where,
        text=f"{text}; {case.after.counted} of the {needed} in a row have come that take it up",
        remedy="wait for it, and look again",
    )


def _explain_refused_there(case: LinkCase, trouble: LinkTrouble) -> Finding:
    if case.pinged_by_peer:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PORT_FILTERED,
            where=case.where,
            text=f"{trouble.text}, though pings of it arrive: a firewall rejects what goes there",
            remedy=f"let {case.protocol} from {case.link.src} through to {case.peer}",
        )
    if trouble.errno == errno.ECONNREFUSED:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PORT_CLOSED,
            where=case.where,
            text=f"{trouble.text}: nobody has that port open, or a firewall rejects it",
            remedy=f"start the program there, with a link from {case.peer} to {case.link.src} that"
            f' has transport "{case.link.transport}" too, and compare the ports on both sides',
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.HOST_UNREACHABLE,
        where=case.where,
        text=trouble.text,
        remedy="see whether that machine is up and has this address, whether the cables of this"
        " network are in, here too, and whether a router or a firewall on the way turns packets"
        " away",
    )
