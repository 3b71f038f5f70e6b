"""Faults of the connections of a link over SCTP: each end connects to the other."""

from __future__ import annotations

import errno

from knet_trio.cli.doctor.evidence import LinkCase, host_part
from knet_trio.cli.findings import Finding, FindingCode, Severity


def explain_connection(case: LinkCase) -> Finding | None:
    """Return the fault of the connections between both ends of a link, None if there is none."""
    fault, peer_connected = case.after.connection_fault, case.after.peer_connected
    src, peer, name = case.link.src, case.peer, case.link.transport
    if fault is None:
        if peer_connected is not False or case.pongs:
            return None
        return _find(
            case,
            f"there is a connection to {peer}, but none from it to {src}, which its answers need",
            f"{_open_way(case, peer, src)}; check that the link of the peer leads to {src}"
            " (knet-trio doctor there says why it does not connect)",
        )
    number = _find_errno(case, fault)
    if number == errno.ENOPROTOOPT:
        return _find(
            case,
            f"{fault}: that machine has no {case.protocol}, or a firewall answers so",
            f"load it there (modprobe {name}; its name in /etc/modules-load.d/{name}.conf does that"
            " at every start), and in a container on its host",
        )
    if number == errno.ECONNREFUSED:
        return _find(
            case,
            f"{fault}: that machine is up, but no program accepts {case.protocol} at that port",
            f'start the program there, with a link from {peer} to {src} that has transport "{name}"'
            f" too, and compare the ports on both sides; {_show(case, '-l')} there shows what"
            " listens",
        )
    if peer_connected and case.pinged_by_peer:
        return _find(
            case,
            f"{peer} has connected to this host, and its pings arrive; this host cannot connect to"
            f" it: {fault}",
            f"{_open_way(case, src, peer)}, and the answers back, which come from that port",
        )
    silent = f", and no ping arrives over the one that {peer} made" if peer_connected else ""
    return _find(
        case,
        f"there is no connection to {peer}{silent or ', nor from it'}: {fault}",
        f"check whether that machine is up and runs the program; {_open_way(case, src, peer)}, and"
        " the other way round; a translator of addresses (NAT) on the way usually drops it;"
        f" {_show(case)} shows the connections of a machine",
    )


def _find_errno(case: LinkCase, fault: str) -> int:
    """Return the errno of a fault, 0 for none."""
    trouble = case.after.trouble
    return 0 if trouble is None or trouble.text != fault else trouble.errno


def _open_way(case: LinkCase, source: str, target: str) -> str:
    """Return the firewall rule that is needed; connections come from any port."""
    number = " (IP protocol 132, which rules for UDP and TCP do not let through)"
    return (
        f"let {case.protocol}{number if case.link.transport == 'sctp' else ''} from"
        f" {host_part(source).strip('[]')} to {target} through all firewalls"
    )


def _show(case: LinkCase, option: str = "") -> str:
    return " ".join(filter(None, ("ss", option, "-n", f"--{case.link.transport}")))


def _find(case: LinkCase, text: str, remedy: str) -> Finding:
    return Finding(
        severity=Severity.FAULT,
        code=FindingCode.NO_CONNECTION,
        where=case.where,
        text=text,
        remedy=remedy,
    )
