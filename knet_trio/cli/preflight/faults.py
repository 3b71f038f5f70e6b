"""Findings about a link between two hosts, from the reports of one or both."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.preflight.records import WayReport
from knet_trio.cli.units import format_latency

SLIGHT_LOSS: Final = 0.005
"""The share of lost pings from which loss is a finding; a single lost ping never is."""
HEAVY_LOSS: Final = 0.02
"""The share of lost pings from which loss is a fault."""
NEAR_TIMEOUT: Final = 0.5
"""The share of the pong timeout from which round trips are a finding."""

_LARGEST_PACKET: Final = 65535
_OWN_FIREWALL: Final = frozenset({errno.EPERM, errno.EACCES})
NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENODEV}
)
"""The errors for addresses that cannot be reached."""


@attrs.frozen
class End:
    """One of the two hosts of a link, with its report.

    Attributes:
        label: The host in findings, such as `host 2 (beta)`.
        name: The name of the host.
        way: Its report on the link to the other host, None if there is none.
        addresses: The ids of its links by their IP addresses, from the file.
    """

    label: str
    name: str
    way: WayReport | None
    addresses: Mapping[str, int]


@attrs.frozen
class Pair:
    """A link between two hosts.

    Attributes:
        link_id: The id of the link.
        a: The host with the lower id.
        b: The host with the higher id.
        interval: The seconds from one ping to the next, in the measurement.
        transport: The name of the transport.
    """

    link_id: int
    a: End
    b: End
    interval: float = 0.0
    transport: str = "udp"

    @property
    def where(self) -> str:
        """The place that findings on this link name."""
        return f"{self.a.label} and {self.b.label}, link {self.link_id}"

    @property
    def needs_connection(self) -> bool:
        """True if each end has to connect to the other end before it sends."""
        return self.transport == "sctp"

    @property
    def ends(self) -> tuple[tuple[End, End], tuple[End, End]]:
        """Each end, with the opposite end."""
        return (self.a, self.b), (self.b, self.a)

    @property
    def ways(self) -> list[WayReport]:
        """The reports on the link, of one or both hosts."""
        return [end.way for end in (self.a, self.b) if end.way is not None]

    @property
    def is_off(self) -> bool:
        """True if the file disables the link."""
        return any(not way.enabled for way in self.ways)

    @property
    def is_up(self) -> bool:
        """True if the link is up in all reports, and there is one."""
        return bool(self.ways) and all(way.connected for way in self.ways)


def judge_link(pair: Pair) -> Iterator[Finding]:
    """Yield the findings on a link between hosts that can open each other's packets."""
    if pair.is_off or not pair.ways:
        return
    if not pair.is_up:
        yield judge_down(pair)
        return
    yield from _judge_crossed(pair)
    yield from _judge_loss(pair)
    yield from _judge_latency(pair)
    yield from _judge_mtu(pair)


# Links that are down.


def judge_down(pair: Pair) -> Finding:
    """Return the finding that explains why a link does not come up."""
    return (
        _find_address_missing(pair)
        or find_mismatch(pair)
        or _find_wrong_ids(pair)
        or _find_silence(pair)
    )


def find_mismatch(pair: Pair) -> Finding | None:
    """Return the finding for a link that leads to a wrong address, None if there is no sign."""
    for here, there in pair.ends:
        way = here.way
        if way is None:
            continue
        other, seen = -1, ""
        if way.elsewhere:
            other = there.addresses.get(_ip(way.elsewhere), pair.link_id)
            seen = f"what {there.name} sends on link {pair.link_id} comes from {way.elsewhere}"
        if way.astray >= 0 and other in (-1, pair.link_id):
            other = way.astray
            seen = f"link {pair.link_id} of {there.name} is link {other} for {here.name}"
        if other not in (-1, pair.link_id):
            first, second = sorted((pair.link_id, other))
            return _fault(
                pair,
                FindingCode.LINK_ID_MISMATCH,
                f"link {pair.link_id} of one host leads to link {other} of the other one",
                f"compare the addresses of links {first} and {second} in the files of both"
                " hosts, the addresses of their network cards, and the cables",
            )
        if seen:
            return _fault(
                pair,
                FindingCode.ADDRESS_MISMATCH,
                f"{seen}, which is not its address in the file of {here.name}",
                "compare addresses and ports in the files of both hosts; a translator of addresses"
                " (NAT) on the way has to keep both",
            )
    return None


def _find_address_missing(pair: Pair) -> Finding | None:
    for here, _ in pair.ends:
        if here.way is not None and not here.way.has_address:
            return Finding(
                severity=Severity.FAULT,
                code=FindingCode.ADDRESS_MISSING,
                where=f"{here.label}, link {pair.link_id}",
                text=f"the file says {here.way.src}, and no network card of this host has that"
                " address",
                remedy="give it to the network card of this link, or correct the file",
            )
    return None


def _find_wrong_ids(pair: Pair) -> Finding | None:
    for here, there in pair.ends:
        way = here.way
        if way is not None and way.other_id:
            return _fault(
                pair,
                FindingCode.HOST_ID_MISMATCH,
                f"packets come to {here.name} from the address of {there.name} with the id of"
                " another host",
                "give every host an id of its own, the same in the files of all hosts",
            )
        if way is not None and way.other_link:
            return _fault(
                pair,
                FindingCode.LINK_ID_MISMATCH,
                f"packets come to {here.name} from the address of {there.name} for a link that"
                " does not exist",
                "give the link the same number in the files of both hosts",
            )
    return None


def _find_silence(pair: Pair) -> Finding:
    """Return the finding for a link without packets in one or both directions."""
    hears = {here.name: bool(here.way.opened) for here, _ in pair.ends if here.way is not None}
    if all(hears.values()) and any(way.pongs_heard + way.late for way in pair.ways):
        return _judge_weak(pair)
    for here, there in pair.ends:
        if hears.get(here.name) and not hears.get(there.name):
            assert here.way is not None
            return _fault(
                pair,
                FindingCode.ONE_WAY,
                f"what {there.name} sends arrives at {here.name}, and what {here.name} sends does"
                f" not arrive at {there.name}{_last_error(here)}",
                _open_port(pair, here, there),
            )
    for here, there in pair.ends:
        way = here.way
        if way is None or not way.errno:
            continue
        if way.errno == errno.ENOPROTOOPT and pair.needs_connection:
            return _fault(
                pair,
                FindingCode.NO_CONNECTION,
                f"{way.dst} reports to {here.name} that {there.name} has no {_protocol(pair)}, or"
                " a firewall does",
                f"load it on {there.name}: modprobe {pair.transport}",
            )
        if way.errno == errno.ECONNREFUSED and pair.needs_connection:
            return _fault(
                pair,
                FindingCode.NO_CONNECTION,
                f"{here.name} is refused at {way.dst}: no program accepts {_protocol(pair)} at that"
                f" port of {there.name}",
                "compare transports and ports in the files of both hosts; on"
                f" {there.name} ss -l -n --{pair.transport} shows what listens",
            )
        if way.errno == errno.ECONNREFUSED:
            return _fault(
                pair,
                FindingCode.PORT_CLOSED,
                f"{way.dst} refuses what {here.name} sends: nothing has this port at {there.name},"
                " or a firewall refuses it",
                "compare the ports in the files of both hosts, and look at the firewall of"
                f" {there.name}",
            )
        if way.errno in NO_ROUTE:
            return _fault(
                pair,
                FindingCode.NO_ROUTE if way.local else FindingCode.HOST_UNREACHABLE,
                f"{here.name} cannot reach {way.dst}: {way.trouble}",
                "look at the network card, the cable and the routes of both hosts",
            )
    return _fault(
        pair,
        FindingCode.NO_CONNECTION if pair.needs_connection else FindingCode.PORT_FILTERED,
        f"nothing arrives in either direction{_last_error(pair.a, pair.b)}",
        _open_port(pair, pair.a, pair.b),
    )


def _judge_weak(pair: Pair) -> Finding:
    """Return the finding for a link that is down though packets come in both directions."""
    if sum(way.late for way in pair.ways) > sum(way.pongs_heard for way in pair.ways) / 2:
        return _fault(
            pair,
            FindingCode.LATENCY_TIMEOUT,
            f"answers to pings come later than after {_timeout(pair)}, the pong timeout of the"
            " file, or even after seconds",
            "raise the pong timeout (token or knet_ping_timeout in corosync.conf), or look for"
            " what delays packets",
        )
    sent = sum(way.pings_sent for way in pair.ways)
    answered = sum(way.pongs_heard for way in pair.ways)
    return _fault(
        pair,
        FindingCode.LOSS,
        f"{max(sent - answered, 0)} of {sent} pings were lost, so that the link does not come up",
        "look for a bad cable, a full queue or a duplex mismatch on the way",
    )


def _last_error(*ends: End) -> str:
    """Return the last error of one of these hosts, as the end of a sentence; empty for none."""
    for end in ends:
        if end.way is not None and end.way.errno:
            return f"; {end.name} gets the error: {end.way.trouble}"
    return ""


def _protocol(pair: Pair) -> str:
    """Return the protocol of the packets, as firewalls call it."""
    return "SCTP (IP protocol 132)" if pair.transport == "sctp" else pair.transport.upper()


def _open_port(pair: Pair, here: End, there: End) -> str:
    ways = [end.way for end in (here, there) if end.way is not None]
    if any(way.errno in _OWN_FIREWALL for way in ways):
        return f"a firewall of the host that sends refuses it: let {_protocol(pair)} out"
    place = here.way.dst if here.way else there.way.src if there.way else "its address"
    return (
        f"let {_protocol(pair)} to {place} through the firewalls of both hosts and on the way"
        " between them"
    )


# Links that are up.


def _judge_crossed(pair: Pair) -> Iterator[Finding]:
    for here, there in pair.ends:
        if here.way is not None and here.way.arrived_on >= 0:
            yield _fault(
                pair,
                FindingCode.LINK_ID_MISMATCH,
                f"what {there.name} sends on link {pair.link_id} comes in on the network card of"
                f" link {here.way.arrived_on} at {here.name}: the links are crossed, and do not"
                " work without each other",
                "compare the addresses of the network cards, the cables and the VLANs of both",
            )
            return


def _judge_loss(pair: Pair) -> Iterator[Finding]:
    sent, lost = (sum(getattr(way, name) for way in pair.ways) for name in ("sent", "lost"))
    if lost < 2 or lost < SLIGHT_LOSS * sent:
        return
    each = ", ".join(
        f"{end.way.lost} of {end.way.sent} from {end.name}"
        for end in (pair.a, pair.b)
        if end.way is not None
    )
    yield _find(
        Severity.FAULT if lost >= HEAVY_LOSS * sent else Severity.WARNING,
        pair,
        FindingCode.LOSS,
        f"{lost} of {sent} pings were lost ({lost / sent:.1%}; {each}), one was sent every"
        f" {pair.interval * 1e3:g} ms each way",
        "look for a bad cable, a full queue or a duplex mismatch on the way",
    )


def _judge_latency(pair: Pair) -> Iterator[Finding]:
    slowest = max((way.latency_p99 or 0.0 for way in pair.ways), default=0.0)
    timeout = min(way.timeout for way in pair.ways)
    if slowest < NEAR_TIMEOUT * timeout:
        return
    yield _find(
        Severity.FAULT if slowest >= timeout else Severity.WARNING,
        pair,
        FindingCode.LATENCY_TIMEOUT,
        f"round trips take up to {format_latency(slowest)}, and the pong timeout of the file is"
        f" {_timeout(pair)}",
        "raise the pong timeout (token or knet_ping_timeout in corosync.conf), or look for what"
        " delays packets",
    )


def _judge_mtu(pair: Pair) -> Iterator[Finding]:
    holes: list[str] = []
    reduced: list[str] = []
    for here, there in pair.ends:
        way = here.way
        own = 0 if way is None else min(way.own_mtu, _LARGEST_PACKET)
        if way is None or not way.path_mtu or way.path_mtu + way.step > own:
            continue
        fails = way.path_mtu + way.step
        sizes = (
            f"from {here.name} to {there.name} packets of {way.path_mtu} bytes pass and of"
            f" {fails} do not; the network card takes {own}"
        )
        if way.told_mtu and way.path_mtu <= way.told_mtu < fails:
            reduced.append(sizes)
        else:
            holes.append(sizes)
    owns = {end.name: end.way.own_mtu for end in (pair.a, pair.b) if end.way is not None}
    differ = ""
    if len(set(owns.values())) > 1 and all(owns.values()):
        differ = "; the network cards have " + ", ".join(
            f"{mtu} ({name})" for name, mtu in owns.items()
        )
    if holes:
        yield _fault(
            pair,
            FindingCode.MTU_BLACK_HOLE,
            f"large packets vanish without an error: {'; '.join(holes)}{differ}",
            "give all network cards, switches and tunnels of this network the same MTU; knet finds"
            " the smaller size by itself and goes on with it, other programs may hang",
        )
    if reduced:
        yield _find(
            Severity.WARNING,
            pair,
            FindingCode.MTU_REDUCED,
            "the network reports a smaller MTU than the network card:"
            f" {'; '.join(reduced)}{differ}",
            "nothing has to be done; the same MTU everywhere avoids fragments",
        )


def _timeout(pair: Pair) -> str:
    return format_latency(min(way.timeout for way in pair.ways))


def _ip(place: str) -> str:
    """Return the IP address in an address with a port."""
    return place.rpartition(":")[0].strip("[]")


def _fault(pair: Pair, code: FindingCode, text: str, remedy: str) -> Finding:
    return _find(Severity.FAULT, pair, code, text, remedy)


def _find(severity: Severity, pair: Pair, code: FindingCode, text: str, remedy: str) -> Finding:
    return Finding(severity=severity, code=code, where=pair.where, text=text, remedy=remedy)
