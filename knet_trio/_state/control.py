"""What control packets, and the network's complaints, do."""

from __future__ import annotations

import errno
import os

from knet_trio._core.onwire import Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.link import UNREACHABLE_ERRNOS, LinkState
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
        context.counters.drop(DropCause.UNKNOWN_HOST)
        context.log.info(
            LogSubsystem.RX,
            "a packet from %s is of host %d, which the handle does not have",
            source,
            packet.node,
            key=DropCause.UNKNOWN_HOST,
        )
        return
    link = host.network_links.get(packet.link)
    if link is None:
        context.counters.drop(DropCause.UNKNOWN_LINK)
        context.log.info(
            LogSubsystem.RX,
            "a packet from %s is for link %d to host %d, which the handle does not have",
            source,
            packet.link,
            packet.node,
            key=(DropCause.UNKNOWN_LINK, packet.node),
        )
        return
    # The packet says itself which link it is for, so the address must be one that may speak on
    # that link: else whoever reaches one link could act on another (CVE-2026-15812).
    if context.access_lists and not link.acl.accepts(source.host):
        link.drop(DropCause.ACCESS_LIST)
        link.note(f"packets for this link from {source}, which its access list does not accept")
        context.log.warning(
            LogSubsystem.RX,
            "%s: a packet from %s is refused by the access list",
            link.title,
            source,
            key=(DropCause.ACCESS_LIST, link.title),
        )
        return
    if not link.enabled:
        # Silence, so that the peer takes its end down too and uses another link.
        link.drop(DropCause.LINK_DISABLED)
        context.log.debug(
            LogSubsystem.RX,
            "%s: the peer is trying to reach it, but it is disabled",
            link.title,
            key=(DropCause.LINK_DISABLED, link.title),
        )
        return
    # Ports are none of an access list's business, but a static link's peer has just one.
    from_host = source == link.destination
    if not from_host:
        if isinstance(packet, Pong):
            moved = link.take_move(source, packet)
            if moved is not None:
                _count(link, packet, size)
                if not _is_copy(link, moved):
                    _ping_received(host, link, moved)
                return
        if isinstance(packet, Pong | PmtudReply):
            link.drop(DropCause.UNKNOWN_ADDRESS)
            context.log.info(
                LogSubsystem.RX,
                "%s: an answer from %s is refused, the peer is at %s",
                link.title,
                source,
                link.destination,
                key=(DropCause.UNKNOWN_ADDRESS, link.title),
            )
            return
    is_news = not from_host and link.dynamic and not link.connected.is_on
    if isinstance(packet, Ping) and (from_host or is_news) and _is_copy(link, packet):
        link.drop(DropCause.REPLAYED)
        context.log.info(
            LogSubsystem.RX,
            "%s: a copy of an earlier ping from %s is refused",
            link.title,
            source,
            key=(DropCause.REPLAYED, link.title),
        )
        return
    if is_news:
        link.learn(source)
        from_host = True
    if isinstance(packet, Ping):
        _count(link, packet, size)
        if from_host:
            _ping_received(host, link, packet)
        elif link.dynamic:
            link.ask_moved(source, packet)
        else:
            link.ping_received(packet)
        return
    _count(link, packet, size)
    if isinstance(packet, Pong):
        link.pong_received(packet, context.now())
    elif isinstance(packet, PmtudProbe):
        link.probe_received(packet)
    else:
        link.reply_received(packet, context.now())


def _count(link: LinkState, packet: Control, size: int) -> None:
    tally = link.counters.tallies[_KINDS[type(packet)]]
    tally.rx_packets += 1
    tally.rx_bytes += size


def _is_copy(link: LinkState, ping: Ping) -> bool:
    """Whether it came before, if it is of the kind that has an effect worth having twice."""
    may_start_afresh = not ping.timed or ping.seq == 0
    return may_start_afresh and link.seen_pings.is_copy(ping.time)


def _ping_received(host: HostState, link: LinkState, ping: Ping) -> None:
    host.inbound.ping_received(ping.seq, timed=ping.timed, link=link.link_id)
    link.ping_received(ping)


def receive_trouble(handle: HandleState, endpoint: Endpoint, trouble: PathTrouble) -> None:
    """Act on what the system or the network says of packets that were sent."""
    now = handle.context.now()
    for link in list(handle.network_links()):
        if endpoint not in (
            link.sender.outlet.endpoint,
            link.sender.shared.endpoint,
        ) or not trouble.concerns(link.destination):
            continue
        if trouble.errno == errno.EMSGSIZE:
            _too_big(link, trouble, now)
        elif trouble.errno in UNREACHABLE_ERRNOS:
            who = "this machine" if trouble.local else "the network"
            reason = f"{who} says of {trouble.destination}: {os.strerror(trouble.errno)}"
            link.note(reason)
            if link.connected.is_on:
                link.take_down(now, reason)
            else:
                handle.context.log.info(
                    LogSubsystem.LINK, "%s: %s", link.title, reason, key=(trouble.errno, link.title)
                )


def _too_big(link: LinkState, trouble: PathTrouble, now: float) -> None:
    known = link.pmtud.onwire
    if known is None or trouble.mtu is None or trouble.mtu >= known:
        return
    if trouble.local:
        link.narrowed(trouble.mtu, now)
    else:
        link.hinted(trouble.mtu, now)
