"""Why a link over the network is up or down, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from knet_trio._state.counters import Kind
from knet_trio._state.explain_drops import explain_drops
from knet_trio._state.refusals import ADVICE
from knet_trio.errors import DropCause

if TYPE_CHECKING:
    # A link explains itself with this.
    from knet_trio._state.network_link import NetworkLinkState

# On a link, this counts something else than on the handle.
_ADVICE: Final = ADVICE | {
    DropCause.SEND_QUEUE_FULL: "copies that other links took found no room on this one: it is"
    " slower than what is sent over it",
}


def explain_link(link: NetworkLinkState) -> str:
    """Return a line on the state of the link, then one for each thing that explains it."""
    now = link.context.now()
    liveness = link.heartbeat.liveness
    search, counters = link.path_mtu.search, link.counters
    where = f"{link.config.src} -> {link.destination or 'a peer that has not spoken yet'}"
    name = f"{link.title} ({where})"
    lines: list[str] = []
    if link.usable:
        mtu = "searching for the path MTU" if search.onwire is None else "path MTU known"
        lines.append(
            f"{name} is up: {link.reason}; round trip {liveness.latency * 1e3:.2f} ms,"
            f" {search.mtu} bytes a packet ({mtu})"
        )
    elif not link.enabled:
        lines.append(f"{name} is down: {link.reason}{link.how_to_start}")
    elif liveness.connected:
        lines.append(
            f"{name} is up but carries no data: the path does not even take packets of the smallest"
            " MTU; look for a firewall or tunnel on the way"
        )
    else:
        lines.append(f"{name} is down: {link.reason}")
        lines += _why_down(link, now)
    if liveness.connected:
        lines += _what_troubles(link, now)
    lines += explain_drops(counters.drops, counters.last_drops, now, _ADVICE)
    trouble = counters.trouble
    if trouble is not None and not link.usable and trouble.what != link.reason:
        lines.append(f"  {now - trouble.at:.1f} s ago: {trouble.what}")
    return "\n".join(lines)


def _what_troubles(link: NetworkLinkState, now: float) -> list[str]:
    """Say what is not as it should be about a link that is up."""
    lines: list[str] = []
    accusation = link.heartbeat.accusation
    if accusation is not None:
        lines.append(f"  doubted because {accusation}, a ping is out")
    loss = link.heartbeat.last_pings().loss
    if loss:
        lines.append(f"  {loss:.0%} of the last pings were not answered: the path loses packets")
    downs = [transition for transition in link.history if not transition.connected]
    if downs:
        seconds = now - downs[0].at
        times = "once" if len(downs) == 1 else f"{len(downs)} times"
        lines.append(f"  it went down {times} in {seconds:.1f} s, last because: {downs[-1].reason}")
    return lines


def _why_nowhere(link: NetworkLinkState) -> Iterator[str]:
    challenged = link.address.challenged
    if challenged is not None:
        yield (
            f"  pings come from {challenged.place}, which has not answered the ping sent there:"
            " does a firewall drop what goes to it, or does somebody repeat old packets?"
        )
        return
    yield "  it is dynamic: it stays silent until the peer's first ping arrives"
    if link.context.access_lists and not len(link.acl):
        yield "  its access list is empty: link.acl.append(AclEntry.address(...)) lets a peer speak"


def _why_down(link: NetworkLinkState, now: float) -> list[str]:
    liveness = link.heartbeat.liveness
    tallies = link.counters.tallies
    pings, pongs = tallies[Kind.PING], tallies[Kind.PONG]
    if link.destination is None:
        return list(_why_nowhere(link))
    lines: list[str] = []
    left = pings.tx_packets - pings.tx_errors
    if pings.tx_errors and not left:
        lines.append("  no ping has left this machine: is the interface up, is there a route?")
    elif liveness.counted:
        needed = liveness.pong_count + 1
        lines.append(f"  {liveness.counted} of the {needed} pongs in a row that take it up came")
    elif not pongs.rx_packets:
        seconds = now - link.heartbeat.started_at
        lines.append(
            f"  {left} pings sent in {seconds:.1f} s, not one answered:"
            " is the peer running, is its link the mirror of this one, does a firewall drop UDP?"
        )
    elif liveness.last_pong is not None:
        lines.append(f"  the last pong came {now - liveness.last_pong:.1f} s ago")
    elsewhere = link.address.heard_from
    if elsewhere is not None:
        lines.append(
            f"  its pings come from {elsewhere}, and the link leads to {link.destination}: compare"
            " addresses and ports on both sides"
        )
    elif pings.rx_packets and not pongs.rx_packets:
        lines.append(
            "  its pings do arrive here: our pings, or its pongs, are lost on the way or refused at"
            " the other end, where explain() says why"
        )
    return lines
