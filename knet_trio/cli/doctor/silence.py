"""The findings about a link without answers, if no refused packet explains it."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from typing import Final

from knet_trio import LinkTrouble
from knet_trio.cli.doctor.connection import explain_connection
from knet_trio.cli.doctor.evidence import LinkCase, host_part
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.units import format_latency
from knet_trio.errors import count_of

_FORBIDDEN: Final = (errno.EPERM, errno.EACCES)
# The share of pings that may be unanswered because their pongs are still in flight.
_MOST_LOST: Final = 0.2
# The least number of packets received for each ping sent if pongs are among them.
_WITH_PONGS: Final = 1.5


def explain_silence(case: LinkCase) -> Finding:
    """Return the finding for an enabled link that is down, or no longer gets answers."""
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
            f"pings of {case.peer} arrive, but {_pings(case)} sent to it meanwhile got no answer",
            f"look for a firewall that lets {case.protocol} through in one direction only, here for"
            f" incoming packets or there for packets from {case.link.src}; run knet-trio doctor"
            " there too: it says whether the peer refuses packets from here",
        )
    if case.arrived:
        return _explain_dropped_here(case)
    if case.after.peer_connected:
        # Both connections exist, kept by the systems at both ends.
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PEER_SILENT,
            where=case.where,
            text=f"there is a connection to {case.peer} and one from it, but neither a pong nor a"
            f" ping arrives over them: this host sent {_pings(case)} meanwhile",
            remedy="check whether the program there is stopped, hangs, or has no processor time"
            " (knet-trio doctor there)",
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.PORT_FILTERED,
        where=case.where,
        text=f"nothing arrives from {case.peer}: this host sent {_pings(case)} meanwhile, and"
        " received neither a pong, nor a ping of the peer, nor an error",
        remedy="check whether that machine is up and the cables of this network are plugged in; let"
        f" {case.protocol} from {case.link.src} to {case.peer}, and the other way round, through"
        " all firewalls between them",
    )


def _still_holds(case: LinkCase, trouble: LinkTrouble) -> bool:
    """Return whether nothing has arrived from the peer since the network reported an error.

    Otherwise the peer may have started after the error, and the fault be another one now.
    """
    after = case.after
    heard = max(after.pong_last or 0.0, after.ping_last or 0.0)
    return trouble.at > case.before.at or (trouble.at > heard and not case.arrived)


def describe_late_pongs(case: LinkCase) -> Finding:
    """Return the finding for pongs that arrive later than the pong timeout."""
    seconds = case.after.late_pong
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.LATENCY_TIMEOUT,
        where=case.where,
        text=f"pongs arrive, but after {format_latency(seconds)}, and the pong timeout is"
        f" {case.link.pong_timeout:g} s",
        remedy=f"set pong_timeout to at least {2 * (seconds or 0.0):.2g} s on both sides, or find"
        " out what makes the path so slow",
    )


def _pings(case: LinkCase) -> str:
    """Return the number of pings that this host sent during the observation, with the noun."""
    return count_of(case.pings_sent, "ping")


def _one_way(case: LinkCase, text: str, remedy: str) -> Finding:
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.ONE_WAY,
        where=case.where,
        text=text,
        remedy=remedy,
    )


def _explain_dropped_here(case: LinkCase) -> Finding:
    """Return the finding if packets of the peer reach this machine, but not the program.

    A peer pings as often as this host, and answers the pings it receives. So if no more packets
    arrive than its own pings, it does not receive those of this host.
    """
    arrived = count_of(case.arrived, "packet")
    text = f"{arrived} of {case.peer} reached this machine, but not the program: a firewall of this"
    text += " machine drops them"
    remedy = f"let {case.protocol} from {case.peer} to {case.link.src} in"
    remedy += " (iptables -L INPUT, nft list ruleset)"
    if case.arrived > _WITH_PONGS * case.pings_sent:
        return _one_way(case, text, remedy)
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.PORT_FILTERED,
        where=case.where,
        text=f"{text}; so few arrive that the peer does not seem to get the {_pings(case)} sent"
        " meanwhile either",
        remedy=f"{remedy}, and the other way round through the firewalls on the way",
    )


def _explain_no_peer(case: LinkCase) -> Finding:
    challenged = case.after.challenged
    if challenged is not None:
        return _one_way(
            case,
            f"pings arrive from {challenged}, which has not answered the ping that was sent there",
            f"let {case.protocol} from {case.link.src} to {challenged} through the firewalls",
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.NO_PEER,
        where=case.where,
        text="the link is dynamic, and no ping of its peer has arrived",
        remedy="check that the peer runs, has the address of this host, has an address in the"
        f" access list, and that firewalls let it through to {case.link.src}",
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
    text, remedy = trouble.text, ""
    address = host_part(case.link.src).strip("[]").partition("%")[0]
    interfaces = case.evidence.interfaces
    interface = interfaces.get(address)
    if interface is not None and not interface.is_up:
        text += f"; {interface.name}, which has {address}, is down"
        remedy = f"bring it up: ip link set {interface.name} up"
    elif interface is None and interfaces and not ip_address(address).is_unspecified:
        text += f"; no interface of this machine has {address}"
        remedy = "give this machine that address, or correct the address of the link (ip address)"
    else:
        remedy = f"check whether {address} is an address of this machine, its interface is up, and"
        remedy += f" there is a route to {case.peer_host} (ip address, ip route get)"
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.NO_ROUTE,
        where=case.where,
        text=text,
        remedy=remedy,
    )


def _explain_few_pongs(case: LinkCase) -> Finding:
    """Return the finding if pings are answered, but the link is down."""
    lost = 1 - case.pongs / max(case.pings_sent, case.pongs)
    text = f"{case.pongs} of {_pings(case)} sent meanwhile got an answer"
    if lost > _MOST_LOST and case.pings_sent - case.pongs > 1:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.LOSS,
            where=case.where,
            text=f"{text}, too few for the link to come up",
            remedy="find out where the path loses packets: interface counters (ip -s link), a"
            " full queue, a bad cable",
        )
    needed = case.link.pong_count + 1
    return Finding(
        severity=Severity.WARNING,
        code=FindingCode.COMING_UP,
        where=case.where,
        text=f"{text}; {case.after.counted} of the {needed} pongs in a row arrived that take the"
        " link up",
        remedy="wait, and run the command again",
    )


def _explain_refused_there(case: LinkCase, trouble: LinkTrouble) -> Finding:
    if case.pinged_by_peer:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PORT_FILTERED,
            where=case.where,
            text=f"{trouble.text}, though its pings arrive: a firewall rejects packets to it",
            remedy=f"let {case.protocol} from {case.link.src} through to {case.peer}",
        )
    if trouble.errno == errno.ECONNREFUSED:
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.PORT_CLOSED,
            where=case.where,
            text=f"{trouble.text}: no program has that port open, or a firewall rejects packets",
            remedy=f"start the program there, with a link from {case.peer} to {case.link.src} that"
            f' has transport "{case.link.transport}" too, and compare the ports on both sides',
        )
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.HOST_UNREACHABLE,
        where=case.where,
        text=trouble.text,
        remedy="check whether that machine is up and has this address, whether the cables of this"
        " network are plugged in, here too, and whether a router or firewall on the way rejects"
        " packets",
    )
