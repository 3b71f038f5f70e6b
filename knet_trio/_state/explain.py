"""Why a link over the network is up or down, in words that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knet_trio._state.counters import Kind
from knet_trio.errors import DropCause

if TYPE_CHECKING:
    # A link explains itself with this.
    from knet_trio._state.network_link import NetworkLinkState

# What drops on a link mean to who runs the cluster, the most telling first.
_ADVICE = {
    DropCause.NOT_AUTHENTIC: "its packets do not open with any key set here: compare key, cipher"
    " and hash on both hosts",
    DropCause.CLEAR_TRAFFIC: "it sends clear packets, which are not allowed here: set crypto there,"
    " or allow_clear_traffic here",
    DropCause.MALFORMED: "packets from its address cannot be read: one side may use crypto that the"
    " other does not have",
    DropCause.WRONG_VERSION: "packets from its address are of another protocol version, or"
    " encrypted while there is no crypto here",
    DropCause.UNKNOWN_HOST: "packets from its address are of a host that the handle does not have:"
    " compare the host ids on both sides",
    DropCause.UNKNOWN_LINK: "packets from its address are for a link id that its host does not have"
    " here: a link has the same id on both sides",
    DropCause.ACCESS_LIST: "its packets come from an address that the link's access list rejects",
    DropCause.IMPOSSIBLE_SOURCE: "packets came from an address that no peer has: they are forged",
    DropCause.UNKNOWN_ADDRESS: "packets came from elsewhere than where it leads to: compare"
    " addresses and ports on both sides",
    DropCause.RATE_LIMITED: "more pings came from elsewhere than can be looked into: somebody"
    " floods it",
    DropCause.LINK_DISABLED: "the peer is trying to reach it",
    DropCause.SEND_FAILED: "data could not be sent over it",
    DropCause.SEND_QUEUE_FULL: "copies that other links took found no room on this one: it is"
    " slower than what is sent over it",
}


def explain(link: NetworkLinkState) -> str:
    """Return a line on the state of the link, then one for each thing that explains it."""
    now = link.context.now()
    liveness = link.heartbeat.liveness
    search, counters = link.path_mtu.search, link.counters
    name = link.title
    where = f"{link.config.src} -> {link.destination or 'a peer that has not spoken yet'}"
    lines: list[str] = []
    if link.usable:
        mtu = "searching for the path MTU" if search.onwire is None else "path MTU known"
        lines.append(
            f"{name} ({where}) is up: {link.reason}; round trip {liveness.latency * 1e3:.2f} ms,"
            f" {search.mtu} bytes a packet ({mtu})"
        )
    elif not link.enabled:
        lines.append(f"{name} ({where}) is down: {link.reason}{link.how_to_start}")
    elif liveness.connected:
        lines.append(
            f"{name} ({where}) is up but carries no data: the path does not even take packets of"
            f" the smallest MTU; look for a firewall or tunnel on the way"
        )
    else:
        lines.append(f"{name} ({where}) is down: {link.reason}")
        lines += _why_down(link, now)
    accusation = link.heartbeat.accusation
    if accusation is not None:
        lines.append(f"  doubted because {accusation}, a ping is out")
    for cause, advice in _ADVICE.items():
        if counters.drops[cause]:
            lines.append(f"  {cause.value} x {counters.drops[cause]}: {advice}")
    trouble = counters.trouble
    if trouble is not None and not link.usable and trouble.what != link.reason:
        lines.append(f"  {now - trouble.at:.1f} s ago: {trouble.what}")
    return "\n".join(lines)


def _why_nowhere(link: NetworkLinkState) -> str:
    challenged = link.address.challenged
    if challenged is None:
        return "  it is dynamic: it stays silent until the peer's first ping arrives"
    return (
        f"  pings come from {challenged.place}, which has not answered the ping sent there: does a"
        f" firewall drop what goes to it, or does somebody repeat old packets?"
    )


def _why_down(link: NetworkLinkState, now: float) -> list[str]:
    liveness = link.heartbeat.liveness
    tallies = link.counters.tallies
    pings, pongs = tallies[Kind.PING], tallies[Kind.PONG]
    if link.destination is None:
        return [_why_nowhere(link)]
    lines: list[str] = []
    if pings.tx_errors and not pings.tx_packets:
        lines.append("  no ping has left this machine: is the interface up, is there a route?")
    elif liveness.counted:
        needed = liveness.pong_count + 1
        lines.append(f"  {liveness.counted} of the {needed} pongs in a row that take it up came")
    elif not pongs.rx_packets:
        seconds = now - link.heartbeat.started_at
        lines.append(
            f"  {pings.tx_packets} pings sent in {seconds:.1f} s, not one answered:"
            " is the peer running, is its link the mirror of this one, does a firewall drop UDP?"
        )
    elif liveness.last_pong is not None:
        lines.append(f"  the last pong came {now - liveness.last_pong:.1f} s ago")
    if pings.rx_packets and not pongs.rx_packets:
        lines.append("  its pings do arrive here: our pings, or its pongs, are lost on the way")
    return lines
