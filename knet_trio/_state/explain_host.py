"""The reachability of a host and its reasons, as text for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knet_trio._core.policy import LinkPolicy
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_lane import NOTICED
from knet_trio.errors import count_of

if TYPE_CHECKING:
    from knet_trio._state.host import HostState


def explain_host(host: HostState) -> str:
    """Return a line about the host, then lines about its links."""
    lines = [f"{describe_host(host)} is {_describe_state(host)}"]
    lane = host.lane
    waited = host.context.now() - lane.blocked_at
    # Messages that only wait for the next turn are no trouble.
    if lane.blocked and lane.messages and waited >= NOTICED:
        lines.append(
            f"  {count_of(lane.messages, 'message')} waiting: for {waited:.1f} s its links have had"
            " more to send than they can"
        )
    lines += (f"  {line}" for line in _explain_trust(host))
    for link in host.links.values():
        lines += (f"  {line}" for line in link.explain().splitlines())
    return "\n".join(lines)


def _explain_trust(host: HostState) -> list[str]:
    """Return lines about the confirmed life of the host in each slot of model ``aead``."""
    context = host.context
    lines: list[str] = []
    if not host.network_links:
        return lines
    for sealer in context.crypto.aead:
        trust = host.trust.of(sealer)
        slot = f"crypto slot {context.crypto.number(sealer)}"
        at = trust.confirmed_at
        ago = "" if at is None else f"{context.now() - at:.1f} s ago"
        if trust.confirmation.life is not None:
            lines.append(f"in {slot} it answered {ago}: packets sealed since then are accepted")
        elif at is not None:
            lines.append(
                f"in {slot} its packets are refused since contact was lost; it answered {ago}"
            )
        else:
            lines.append(
                f"in {slot} it has not answered yet, so its packets are refused: check that it has"
                " the same key and cipher there; packets that arrive though it never answers are"
                " replayed: somebody has recorded them"
            )
    return lines


def describe_host(host: HostState) -> str:
    """Return the id of the host, and its name if that differs from the id."""
    named = "" if host.name == str(host.host_id) else f" ({host.name})"
    return f"host {host.host_id}{named}"


def _describe_state(host: HostState) -> str:
    if host.gone is not None:
        return f"unreachable: {host.gone}"
    if host.reachable.is_on:
        return f"reachable: {_describe_use(host)}"
    if not host.links:
        return "unreachable: it has no links; add one with add_link"
    if not any(link.enabled for link in host.links.values()):
        return "unreachable: its links are disabled"
    if len(host.links) == 1:
        return "unreachable: its link carries no data"
    return f"unreachable: none of its {len(host.links)} links carries data"


def _describe_use(host: HostState) -> str:
    if host.loopback is not None:
        return "messages to this host itself stay within it"
    ranked = host.ranked
    if len(ranked) == 1 and len(host.links) == 1:
        return f"messages go over link {ranked[0].link_id}"
    if host.policy is LinkPolicy.PASSIVE:
        use = f"messages go over link {ranked[0].link_id}"
        if ranked[1:]:
            use = f"{use}, {_list(ranked[1:])} in reserve"
    elif host.policy is LinkPolicy.ACTIVE:
        use = f"each message goes over {_list(ranked)}"
    else:
        use = f"messages take turns over {_list(ranked)}"
    idle = len(host.links) - len(ranked)
    carry = "carries" if idle == 1 else "carry"
    return f"{use}; {idle} of its {len(host.links)} links {carry} no data" if idle else use


def _list(links: tuple[NetworkLinkState, ...]) -> str:
    several = "links" if len(links) > 1 else "link"
    return f"{several} {', '.join(str(link.link_id) for link in links)}"
