"""What control packets do, and the errors that the system and the network report."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial

from knet_trio._core.onwire import Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.network_link import UNREACHABLE_ERRNOS, NetworkLinkState
from knet_trio.abc import Endpoint, PathTrouble
from knet_trio.address import Address
from knet_trio.errors import DropCause

Control = Ping | Pong | PmtudProbe | PmtudReply

_KINDS = {Ping: Kind.PING, Pong: Kind.PONG, PmtudProbe: Kind.PMTU, PmtudReply: Kind.PMTU}


def receive_control(handle: HandleState, packet: Control, size: int, source: Address) -> None:
    """Act on one control packet, whose datagram had ``size`` bytes."""
    context = handle.context
    host = handle.hosts.get(packet.node)
    if host is None:
        context.refuse(DropCause.UNKNOWN_HOST, source, packet.node)
        return
    link = host.network_links.get(packet.link)
    if link is None:
        context.refuse(DropCause.UNKNOWN_LINK, source, packet.link, packet.node, key=packet.node)
        return
    # The packet says itself which link it is for, so the address must be one that may speak on
    # that link: else whoever reaches one link could act on another (CVE-2026-15812).
    if context.access_lists and not link.acl.accepts(source.host):
        context.refuse(DropCause.ACCESS_LIST, source, link=link)
        link.counters.note(
            f"packets for this link from {source}, which its access list does not accept",
            context.now(),
        )
        return
    if not link.enabled:
        # Silence, so that the other end takes its end down too and uses another link.
        context.refuse(DropCause.LINK_DISABLED, link=link)
        return
    # Ports are none of an access list's business, but a static link's host has just one.
    from_host = source == link.destination
    if not from_host:
        if isinstance(packet, Pong):
            moved = link.take_move(source, packet)
            if moved is not None:
                _count(link, packet, size)
                if not link.address.is_copy(moved):
                    _ping_received(host, link, moved)
                return
        if isinstance(packet, Pong | PmtudReply):
            context.refuse(
                DropCause.UNKNOWN_ADDRESS, "an answer", source, link.destination, link=link
            )
            return
    is_news = not from_host and link.address.dynamic and not link.connected.is_on
    if isinstance(packet, Ping) and (from_host or is_news) and link.address.is_copy(packet):
        context.refuse(DropCause.REPLAYED, source, link=link)
        return
    if is_news:
        link.learn(source)
        from_host = True
    _count(link, packet, size)
    if isinstance(packet, Ping):
        if from_host:
            _ping_received(host, link, packet)
        elif link.address.dynamic:
            link.ask_moved(source, packet)
        else:
            link.output.pong(packet)
    elif isinstance(packet, Pong):
        link.pong_received(packet, context.now())
    elif isinstance(packet, PmtudProbe):
        link.output.reply(packet.size)
    elif not link.path_mtu.reply_received(packet, context.now()):
        context.refuse(DropCause.UNEXPECTED_PMTUD_REPLY, link=link)


def _count(link: NetworkLinkState, packet: Control, size: int) -> None:
    link.counters.received(_KINDS[type(packet)], 1, size)


def _ping_received(host: HostState, link: NetworkLinkState, ping: Ping) -> None:
    host.inbound.ping_received(ping.seq, timed=ping.timed, link=link.link_id)
    link.output.pong(ping)


def receive_troubles(
    handle: HandleState, endpoint: Endpoint, troubles: Iterable[PathTrouble]
) -> None:
    """Act on the troubles of one endpoint: the first ones now, many in turns."""
    handle.context.chores.add(
        partial(receive_trouble, handle, endpoint, trouble) for trouble in troubles
    )


def receive_trouble(handle: HandleState, endpoint: Endpoint, trouble: PathTrouble) -> None:
    """Act on an error that the system or the network reports for packets that were sent."""
    now = handle.context.now()
    for link in handle.links_concerned(endpoint, trouble.destination):
        if trouble.errno == errno.EMSGSIZE:
            _too_big(link, trouble, now)
        elif trouble.errno in UNREACHABLE_ERRNOS:
            who = "this machine" if trouble.local else "the network"
            reason = f"{who} says of {trouble.destination}: {os.strerror(trouble.errno)}"
            link.counters.note(reason, now)
            if link.connected.is_on:
                link.take_down(now, reason)
            else:
                handle.context.log.info(
                    LogSubsystem.LINK, "%s: %s", link.title, reason, key=(trouble.errno, link.title)
                )


def _too_big(link: NetworkLinkState, trouble: PathTrouble, now: float) -> None:
    known = link.path_mtu.search.onwire
    if known is None or trouble.mtu is None or trouble.mtu >= known:
        return
    if trouble.local:
        link.path_mtu.narrowed(trouble.mtu, now)
    else:
        link.path_mtu.hinted(trouble.mtu, now)
