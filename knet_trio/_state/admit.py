"""The verdict on packets by their link and source, after the table of ``_core/admission.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from knet_trio._core.admission import (
    VERDICTS,
    Action,
    LinkPhase,
    Origin,
    PacketKind,
    Situation,
    is_possible,
)
from knet_trio._core.onwire import is_likely_sealed_untrusted, read_link_untrusted
from knet_trio._state.context import Context
from knet_trio._state.counters import LARGEST_UNOPENED, Unopened
from knet_trio._state.destinations import list_hosts
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.errors import DropCause, PacketError

_NOT_YET: Final = "that life of the host has not answered a ping of this host yet"

_NOT_HERE: Final = "which the handle does not have"

_SEALED: Final = "most likely its sender encrypts packets, and this host has no key: set crypto"

_WHAT: Final = {
    PacketKind.DATA: "data",
    PacketKind.PING: "a ping",
    PacketKind.PONG: "a pong",
    PacketKind.PROBE: "a path MTU probe",
    PacketKind.REPLY: "a path MTU reply",
}


def admit(
    host: HostState,
    link: NetworkLinkState,
    kind: PacketKind,
    source: Address,
    packets: int = 1,
    *,
    believed: bool = True,
) -> Action | None:
    """Return the action for packets of ``host`` on ``link``; count them, return None to drop them.

    Args:
        host: The host that the packets name as their sender.
        link: The link that they are for.
        kind: The kind of the packets.
        source: The address that they came from.
        packets: The number of packets.
        believed: True if the life of the sender is confirmed, or if envelopes do not name it.
    """
    context = host.context
    reachable = bool(host.ranked)
    origin = _find_origin(host, link, kind, source)
    situation = Situation(kind, link.address.kind, link.phase, reachable, origin, believed)
    verdict = VERDICTS[situation]
    if isinstance(verdict, Action):
        return verdict
    if verdict is DropCause.UNKNOWN_ADDRESS:
        refuse_address(link, kind, source, packets)
    elif verdict is DropCause.UNCONFIRMED:
        refuse_unconfirmed(host, source, _NOT_YET, packets)
    elif verdict is DropCause.ACCESS_LIST:
        context.refuse(verdict, source, _Rejection(link, source), times=packets, link=link)
    elif verdict is DropCause.IMPOSSIBLE_SOURCE:
        context.refuse(verdict, source, times=packets, link=link)
    else:
        context.refuse(verdict, times=packets, link=link)
    return None


def refuse_unconfirmed(host: HostState, source: Address, why: str, packets: int = 1) -> None:
    """Count packets of ``host`` that may be recordings, with ``why`` in the log."""
    host.context.refuse(
        DropCause.UNCONFIRMED,
        source,
        host.host_id,
        why,
        times=packets,
        link=host.by_address.get(source),
        key=host.host_id,
    )


def refuse_address(
    link: NetworkLinkState, kind: PacketKind, source: Address, packets: int = 1
) -> None:
    """Count packets that did not come from the destination of ``link``."""
    where = link.destination or "where the peer has answered from"
    link.context.refuse(
        DropCause.UNKNOWN_ADDRESS, _WHAT[kind], source, where, times=packets, link=link
    )


def refuse_host(handle: HandleState, host_id: int, source: Address, packets: int = 1) -> None:
    """Count packets of a host that ``handle`` does not have."""
    # The host at the destination of a link may be another than the program expects.
    concerned = handle.by_address.get(source)
    expected: object
    if host_id == handle.context.host_id:
        expected = "which is the id of this host: two hosts have the same id, give each its own"
    elif concerned is not None:
        expected = f"{_NOT_HERE}: that should be host {concerned.host_id}"
    else:
        expected = _HostsThere(handle, host_id)
    handle.context.refuse(
        DropCause.UNKNOWN_HOST, source, host_id, expected, times=packets, link=concerned
    )


def refuse_link(handle: HandleState, host_id: int, link_id: int, source: Address) -> None:
    """Count a packet for a link that a host of ``handle`` does not have."""
    concerned = handle.by_address.get(source)
    host = handle.hosts.get(host_id)
    if concerned is None:
        links = ", ".join(map(str, host.links)) if host is not None else ""
        expected = f"the links to that host are {links}" if links else "that host has no links"
    elif concerned.host_id == host_id:
        expected = f"that should be link {concerned.link_id}"
    else:
        expected = f"that is the address of {concerned.title}"
    details = source, link_id, host_id, expected
    # The id of an unknown host can be any number, so it must not be a key.
    key = None if host is None else host_id
    handle.context.refuse(DropCause.UNKNOWN_LINK, *details, link=concerned, key=key)


def refuse_packet(handle: HandleState, error: PacketError, packet: bytes, source: Address) -> None:
    """Count a datagram that is not a valid packet, on its link if that is known."""
    link = handle.by_address.get(source)
    if error.cause is DropCause.UNKNOWN_LINK:
        refuse_link(handle, *read_link_untrusted(packet), source)
        return
    context, why, topic = handle.context, error.args[0], None
    if not context.crypto.is_set and is_likely_sealed_untrusted(packet):
        # Its bytes are noise, which fails in several ways.
        why = topic = _SEALED
    context.refuse(error.cause, source, why, link=link, topic=topic)
    if len(packet) <= LARGEST_UNOPENED:
        counters = context.counters if link is None else link.counters
        counters.unopened = Unopened(packet, source, context.now(), error.cause)


def admit_connection(context: Context, links: Iterable[NetworkLinkState], peer: Address) -> bool:
    """Return whether a peer may connect for one of ``links``; if not, count the connection.

    Args:
        context: The context of the handle.
        links: The links of the endpoint whose destination may be that peer.
        peer: The address of the peer.
    """
    rejected = None
    for link in links:
        if not context.access_lists or link.acl.accepts(peer.host):
            return True
        rejected = link
    if rejected is not None:
        context.refuse(DropCause.ACCESS_LIST, peer, _Rejection(rejected, peer), link=rejected)
    else:
        expected = "where a link leads to"
        context.refuse(DropCause.UNKNOWN_ADDRESS, "a connection", peer, expected, key=peer.host)
    return False


class _Rejection:
    """The reason why an access list rejects an address; the text is made when it is read."""

    __slots__ = ("_link", "_source")

    def __init__(self, link: NetworkLinkState, source: Address) -> None:
        self._link = link
        self._source = source

    def __str__(self) -> str:
        return self._link.acl.explain_refusal(self._source.host)


class _HostsThere:
    """A list of the hosts of a handle; the text is made when it is read."""

    __slots__ = ("_handle", "_host_id")

    def __init__(self, handle: HandleState, host_id: int) -> None:
        self._handle = handle
        self._host_id = host_id

    def __str__(self) -> str:
        if self._host_id in self._handle.hosts:
            return f"{_NOT_HERE}: it was added since"
        return f"{_NOT_HERE}: {list_hosts(self._handle)}; add_host({self._host_id}) adds it"


def _find_origin(
    host: HostState, link: NetworkLinkState, kind: PacketKind, source: Address
) -> Origin:
    judge, origin = link, Origin.PEER
    if source != link.address.source:
        sibling = _find_sibling(host, source) if kind is PacketKind.REPLY else None
        if sibling is not None:
            # The access list of its own link decides about the source.
            judge, origin = sibling, Origin.SIBLING
        elif is_possible(source) and not host.context.is_own(source):
            origin = Origin.ELSEWHERE
        else:
            return Origin.IMPOSSIBLE
    # The packet itself names its link, so the access list of that link must accept the source:
    # otherwise whoever reaches one link could act on another (CVE-2026-15812).
    if host.context.access_lists and not judge.acl.accepts(source.host):
        return Origin.REJECTED
    return origin


def _find_sibling(host: HostState, source: Address) -> NetworkLinkState | None:
    """Return the link of ``host`` that is up and leads to ``source``."""
    for link in host.network_links.values():
        if link.address.source == source and link.phase is LinkPhase.UP:
            return link
    return None
