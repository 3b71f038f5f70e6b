"""The state of a link over the network and its reasons, as text for administrators."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from knet_trio._state.counters import Kind
from knet_trio._state.explain_drops import explain_drops
from knet_trio._state.refusals import ADVICE
from knet_trio.errors import DropCause, count_of

if TYPE_CHECKING:
    # A link explains itself with this.
    from knet_trio._state.network_link import NetworkLinkState

# On a link, this cause has another meaning than on the handle.
_ADVICE: Final = ADVICE | {
    DropCause.SEND_QUEUE_FULL: "copies that other links sent found no room on this one: it is too"
    " slow for the data",
}

# The causes for which a link refuses whatever comes from the address of its peer.
_REFUSED: Final = (
    DropCause.NOT_AUTHENTIC,
    DropCause.CLEAR_TRAFFIC,
    DropCause.MALFORMED,
    DropCause.WRONG_VERSION,
    DropCause.UNKNOWN_TYPE,
    DropCause.UNKNOWN_HOST,
    DropCause.UNKNOWN_LINK,
    DropCause.ACCESS_LIST,
)


def explain_link(link: NetworkLinkState) -> str:
    """Return a line about the state of the link, then a line for each reason."""
    now = link.context.now()
    liveness = link.heartbeat.liveness
    search, counters = link.path_mtu.search, link.counters
    nobody = "no peer now" if link.address.proven else "no peer yet"
    where = f"{link.config.src} -> {link.destination or nobody}"
    if link.transport.has_connections:
        where += f" over {link.transport.name.upper()}"
    name = f"{link.title} ({where})"
    lines: list[str] = []
    if link.usable:
        mtu = "searching for the path MTU" if search.onwire is None else "path MTU known"
        fixed = link.context.fixed_mtu
        if fixed is not None:
            mtu = f"mtu = {fixed} is set, set None to search for the path MTU"
        elif link.transport.has_connections:
            mtu = f"{link.transport.name.upper()} fragments packets to fit the path"
        lines.append(
            f"{name} is up: {link.reason}; round trip {liveness.latency * 1e3:.2f} ms,"
            f" {search.mtu} bytes a packet ({mtu})"
        )
    elif not link.enabled:
        lines.append(f"{name} is down: {link.reason}{link.how_to_start}")
    elif liveness.connected:
        lines.append(
            f"{name} is up but carries no data: even packets of the smallest MTU do not pass; check"
            " firewalls and tunnels on the path"
        )
    else:
        lines.append(f"{name} is down: {link.reason}")
        lines += _why_down(link, now)
    if liveness.connected:
        lines += _what_troubles(link)
    fault = link.config.find_fault()
    if fault is not None:
        lines.append(f"  {fault}")
    overflows = sum(endpoint.overflows for endpoint in link.sender.endpoints)
    if overflows:
        lines.append(
            f"  the system has dropped {count_of(overflows, 'packet')} that came to its sockets:"
            " their buffers were full"
        )
    lines += explain_drops(counters.drops, counters.last_drops, now, _ADVICE)
    trouble = counters.trouble
    is_current = trouble is not None and (not link.usable or trouble.at > link.since)
    if trouble is not None and is_current and trouble.what != link.reason:
        lines.append(f"  {now - trouble.at:.1f} s ago: {trouble.what}")
    return "\n".join(lines)


def _what_troubles(link: NetworkLinkState) -> list[str]:
    """Return lines about the faults of a link that is up."""
    lines: list[str] = []
    doubt_reason = link.heartbeat.doubt_reason
    if doubt_reason is not None:
        lines.append(f"  in doubt: {doubt_reason}; pings are being sent to the peer")
    hole = link.path_mtu.search.hole
    if hole is not None and link.path_mtu.reported is None:
        size = link.path_mtu.search.sizes.sealed_length(hole)
        lines.append(
            f"  packets of {size} bytes on the wire and more are lost on the path without an error"
        )
    # Pings from before the link went up may have been sent before there was a peer.
    loss = link.heartbeat.last_pings(since=link.since).loss
    if loss:
        lines.append(f"  {loss:.0%} of the last pings were not answered: the path loses packets")
    downs = [transition for transition in link.history if not transition.connected]
    if downs:
        seconds = link.context.now() - downs[0].at
        times = "once" if len(downs) == 1 else f"{len(downs)} times"
        lines.append(f"  it went down {times} in {seconds:.1f} s, last because: {downs[-1].reason}")
    return lines


def _why_nowhere(link: NetworkLinkState) -> Iterator[str]:
    challenged = link.address.challenged
    if challenged is not None:
        yield (
            f"  pings come from {challenged.place}, which has not answered the ping sent there:"
            " does a firewall drop packets to it, or does somebody replay old packets?"
        )
        return
    last = link.address.proven
    was = "" if last is None else f" (it last answered from {last})"
    yield (
        f"  it is dynamic: it sends nothing until a ping of its peer arrives{was}; the peer's end"
        " must not be dynamic too"
    )
    if link.context.access_lists and not len(link.acl):
        yield (
            "  its access list is empty: accept the peer with"
            " link.acl.append(AclEntry.address(...))"
        )


def _why_not_connected(link: NetworkLinkState, fault: str, now: float) -> Iterator[str]:
    name, trouble = link.transport.name, link.counters.trouble
    if trouble is not None and trouble.what != fault:
        trouble = None
    number = 0 if trouble is None else trouble.errno
    cause = "" if link.reason == fault else f"there is no connection to the peer: {fault}; "
    yield f"  {cause}the connection is tried every {link.context.reconnect_interval:g} s"
    if number == errno.ECONNREFUSED:
        yield (
            f"  the peer's machine answers, but no program accepts {name.upper()} at that port: is"
            " the peer running, does its link have these addresses the other way round, and"
            f' transport="{name}" too?'
        )
    elif number == errno.ENOPROTOOPT:
        yield (
            f"  the peer's machine reports that it does not support {name.upper()}: load it there"
            f" (`modprobe {name}`), unless a firewall sent the report"
        )
    elif trouble is not None and trouble.local:
        yield (
            f"  is {link.config.src.host} one of this machine's addresses, is the interface up, is"
            f" there a route, does a firewall of this machine let {name.upper()} out?"
        )
    elif link.sender.peer_connected and _peer_pings(link, now):
        # A lost connection is about to be made again, and no attempt has failed yet.
        if trouble is None or number == errno.ETIMEDOUT:
            silence = now - link.address.heard_peer_at
            yield (
                f"  the peer has connected to {link.config.src}, and its pings arrive (last"
                f" {silence:.1f} s ago): packets the other way are dropped; allow {name.upper()} to"
                f" {link.destination} in firewalls"
            )
    else:
        if link.sender.peer_connected:
            yield (
                f"  the peer had connected to {link.config.src}, but no pings come over that"
                " connection any more"
            )
        yield (
            "  is that machine up, or does a firewall or address translation (NAT) on the path drop"
            f" {name.upper()}, which rules for UDP and TCP do not allow?"
        )


def _why_silent(link: NetworkLinkState, now: float) -> Iterator[str]:
    """Yield a line about a peer that has connections both ways and sends nothing."""
    if link.sender.peer_connected and not _peer_pings(link, now):
        yield (
            "  there are connections to the peer and from it, which its system keeps: does its"
            " program hang, is it stopped, or does it get no processor time?"
        )


def _why_no_answer(link: NetworkLinkState) -> Iterator[str]:
    """Yield a line about a peer that is connected to, but has no connection to answer over."""
    if link.sender.peer_connected is False:
        name = link.transport.name.upper()
        yield (
            f"  there is a connection to the peer, but none from it to {link.config.src}, over"
            f" which it answers unless its link is dynamic: does a firewall drop {name} to that"
            " address, does the peer's link lead to it?"
        )


def _peer_pings(link: NetworkLinkState, now: float) -> bool:
    """Return whether pings of the peer arrive from the destination."""
    return now - link.address.heard_peer_at < 1.5 * link.heartbeat.liveness.interval


def _count_refused(link: NetworkLinkState, now: float) -> int:
    """Return the number of packets from the peer's address that were refused lately."""
    counters = link.counters
    # The pings of a peer come about as often as those of this host.
    since = now - max(5 * link.heartbeat.liveness.interval, 1.0)
    return sum(
        counters.drops[cause]
        for cause in _REFUSED
        if cause in counters.last_drops and counters.last_drops[cause].at >= since
    )


def _why_down(link: NetworkLinkState, now: float) -> list[str]:
    liveness = link.heartbeat.liveness
    tallies = link.counters.tallies
    pings, pongs = tallies[Kind.PING], tallies[Kind.PONG]
    if link.destination is None:
        return list(_why_nowhere(link))
    lines: list[str] = []
    left = pings.tx_packets - pings.tx_errors
    fault = link.sender.fault
    if fault is not None:
        lines += _why_not_connected(link, fault, now)
    elif pings.tx_errors and not left:
        lines.append(
            f"  no ping has left this machine: is {link.config.src.host} one of its addresses, is"
            " the interface up, is there a route?"
        )
    elif liveness.counted:
        needed = liveness.pong_count + 1
        lines.append(f"  {liveness.counted} of the {needed} pongs in a row that it needs arrived")
    elif not pongs.rx_packets:
        seconds = now - link.heartbeat.started_at
        lines += _why_no_answer(link)
        sent = f"  {count_of(left, 'ping')} sent in {seconds:.1f} s, none answered"
        refused = _count_refused(link, now)
        if refused:
            # The reasons are the last lines.
            was = "was" if refused == 1 else "were"
            came = f"{count_of(refused, 'packet')} of the peer arrived and {was} refused"
            lines.append(f"{sent}; {came}:")
        elif link.address.heard is None and _peer_pings(link, now):
            # The peer is running, and a line below says what else may be wrong.
            lines.append(f"{sent}: does a firewall drop {link.transport.name.upper()}?")
        else:
            lines.append(
                f"{sent}: is the peer running, does its link have these addresses the other way"
                f' round, and transport="{link.transport.name}" too, does a firewall drop'
                f" {link.transport.name.upper()}? If it refuses the pings, only it can say why: see"
                " explain() there too"
            )
    elif liveness.late_pong is not None and liveness.last_pong is None:
        lines.append(
            f"  pongs come later than pong_timeout, the last after {liveness.late_pong:.3f} s:"
            " raise it with set_ping_timers"
        )
    elif liveness.last_pong is not None:
        lines.append(f"  the last pong came {now - liveness.last_pong:.1f} s ago")
        lines += _why_silent(link, now)
    heard = link.address.heard
    if heard is not None:
        lines.append(
            f"  pings that name its peer as sender come from {heard.place}, but the link leads to"
            f" {link.destination}: compare addresses and ports on both sides"
            f" (last {now - heard.at:.1f} s ago)"
        )
    # Without a connection no pings were sent that could be lost.
    if fault is None and heard is None and not liveness.counted and _peer_pings(link, now):
        silence = now - link.address.heard_peer_at
        ours = (
            "ours do not leave this machine"
            if link.heartbeat.refused
            else "ours or its pongs are lost on the path, or refused at the other end: see"
            " explain() there"
        )
        lines.append(f"  pings of the peer arrive here (last {silence:.1f} s ago): {ours}")
    return lines
