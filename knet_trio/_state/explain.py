"""Why a link is as it is, in words a person can act on."""

from __future__ import annotations

from knet_trio._state.counters import Kind
from knet_trio._state.link import LinkState
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio.errors import DropCause

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
    DropCause.ACCESS_LIST: "its packets come from an address that the link's access list rejects",
    DropCause.LINK_DISABLED: "the peer is trying to reach it",
    DropCause.SEND_FAILED: "data could not be sent over it",
    DropCause.SEND_QUEUE_FULL: "it is slower than what is sent over it",
}


def explain(path: LinkState | LoopbackLinkState) -> str:
    """One line on the state, then one for each thing that has a part in it."""
    if isinstance(path, LoopbackLinkState):
        return _explain_loopback(path)
    now = path.context.now()
    liveness = path.liveness
    name = f"link {path.link_id} to host {path.host_id}"
    where = f"{path.config.src} -> {path.destination or 'a peer that has not spoken yet'}"
    lines: list[str] = []
    if path.usable:
        mtu = "searching for the path MTU" if path.pmtud.onwire is None else "path MTU known"
        lines.append(
            f"{name} ({where}) is up: {path.reason}; round trip {liveness.latency * 1e3:.2f} ms,"
            f" {path.pmtud.mtu} bytes a packet ({mtu})"
        )
    elif not path.enabled:
        lines.append(f"{name} ({where}) is down: {path.reason}; set enabled = True to start it")
    elif liveness.connected:
        lines.append(
            f"{name} ({where}) is up but carries no data: the path does not even take packets of"
            f" the smallest MTU; look for a firewall or tunnel on the way"
        )
    else:
        lines.append(f"{name} ({where}) is down: {path.reason}")
        lines += _why_down(path, now)
    for cause, advice in _ADVICE.items():
        if path.drops[cause]:
            lines.append(f"  {cause.value} x {path.drops[cause]}: {advice}")
    if path.trouble is not None and not path.usable and path.trouble.what != path.reason:
        lines.append(f"  {now - path.trouble.at:.1f} s ago: {path.trouble.what}")
    return "\n".join(lines)


def _explain_loopback(path: LoopbackLinkState) -> str:
    if path.enabled:
        return f"{path} is up: {path.reason}"
    return f"{path} is down: {path.reason}; set enabled = True to start it"


def _why_down(path: LinkState, now: float) -> list[str]:
    liveness = path.liveness
    tallies = path.counters.tallies
    pings, pongs = tallies[Kind.PING], tallies[Kind.PONG]
    if path.destination is None:
        return ["  it is dynamic: it stays silent until the peer's first packet arrives"]
    lines: list[str] = []
    if pings.tx_errors and not pings.tx_packets:
        lines.append("  no ping has left this machine: is the interface up, is there a route?")
    elif liveness.counted:
        lines.append(
            f"  {liveness.counted} pongs have come; it comes up with the one after"
            f" {liveness.pong_count} in a row"
        )
    elif not pongs.rx_packets:
        lines.append(
            f"  {pings.tx_packets} pings sent in {now - path.enabled_at:.1f} s, not one answered:"
            " is the peer running, is its link the mirror of this one, does a firewall drop UDP?"
        )
    elif liveness.last_pong is not None:
        lines.append(f"  the last pong came {now - liveness.last_pong:.1f} s ago")
    if pings.rx_packets and not pongs.rx_packets:
        lines.append("  its pings do arrive here: our pings, or its pongs, are lost on the way")
    return lines
