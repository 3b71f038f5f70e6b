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


def receive_control(node: HandleState, packet: Control, size: int, source: Address) -> None:
    """Act on one control packet, whose datagram had ``size`` bytes."""
    context = node.context
    peer = node.peers.get(packet.node)
    if peer is None:
        context.counters.drop(DropCause.UNKNOWN_HOST)
        context.log.info(
            LogSubsystem.RX,
            "a packet from %s is of host %d, which the handle does not have",
            source,
            packet.node,
            key=DropCause.UNKNOWN_HOST,
        )
        return
    path = peer.paths.get(packet.link)
    if path is None:
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
    if context.access_lists and not path.acl.accepts(source.host):
        path.drop(DropCause.ACCESS_LIST)
        path.note(f"packets for this link from {source}, which its access list does not accept")
        context.log.warning(
            LogSubsystem.RX,
            "%s: a packet from %s is refused by the access list",
            path.title,
            source,
            key=(DropCause.ACCESS_LIST, path.title),
        )
        return
    if not path.enabled:
        # Silence, so that the peer takes its end down too and uses another link.
        path.drop(DropCause.LINK_DISABLED)
        context.log.debug(
            LogSubsystem.RX,
            "%s: the peer is trying to reach it, but it is disabled",
            path.title,
            key=(DropCause.LINK_DISABLED, path.title),
        )
        return
    # Ports are none of an access list's business, but a static link's peer has just one.
    from_peer = source == path.destination
    if not from_peer:
        if isinstance(packet, Pong):
            moved = path.take_move(source, packet)
            if moved is not None:
                _count(path, packet, size)
                if not _is_copy(path, moved):
                    _ping_received(peer, path, moved)
                return
        if isinstance(packet, Pong | PmtudReply):
            path.drop(DropCause.UNKNOWN_ADDRESS)
            context.log.info(
                LogSubsystem.RX,
                "%s: an answer from %s is refused, the peer is at %s",
                path.title,
                source,
                path.destination,
                key=(DropCause.UNKNOWN_ADDRESS, path.title),
            )
            return
    is_news = not from_peer and path.dynamic and not path.connected.is_on
    if isinstance(packet, Ping) and (from_peer or is_news) and _is_copy(path, packet):
        path.drop(DropCause.REPLAYED)
        context.log.info(
            LogSubsystem.RX,
            "%s: a copy of an earlier ping from %s is refused",
            path.title,
            source,
            key=(DropCause.REPLAYED, path.title),
        )
        return
    if is_news:
        path.learn(source)
        from_peer = True
    if isinstance(packet, Ping):
        _count(path, packet, size)
        if from_peer:
            _ping_received(peer, path, packet)
        elif path.dynamic:
            path.ask_moved(source, packet)
        else:
            path.ping_received(packet)
        return
    _count(path, packet, size)
    if isinstance(packet, Pong):
        path.pong_received(packet, context.now())
    elif isinstance(packet, PmtudProbe):
        path.probe_received(packet)
    else:
        path.reply_received(packet, context.now())


def _count(path: LinkState, packet: Control, size: int) -> None:
    tally = path.counters.tallies[_KINDS[type(packet)]]
    tally.rx_packets += 1
    tally.rx_bytes += size


def _is_copy(path: LinkState, ping: Ping) -> bool:
    """Whether it came before, if it is of the kind that has an effect worth having twice."""
    may_start_afresh = not ping.timed or ping.seq == 0
    return may_start_afresh and path.seen_pings.is_copy(ping.time)


def _ping_received(peer: HostState, path: LinkState, ping: Ping) -> None:
    peer.source.ping_received(ping.seq, timed=ping.timed, link=path.link_id)
    path.ping_received(ping)


def receive_trouble(node: HandleState, endpoint: Endpoint, trouble: PathTrouble) -> None:
    """Act on what the system or the network says of packets that were sent."""
    now = node.context.now()
    for path in list(node.paths()):
        if endpoint not in (
            path.sender.outlet.endpoint,
            path.sender.shared.endpoint,
        ) or not trouble.concerns(path.destination):
            continue
        if trouble.errno == errno.EMSGSIZE:
            _too_big(path, trouble, now)
        elif trouble.errno in UNREACHABLE_ERRNOS:
            who = "this machine" if trouble.local else "the network"
            reason = f"{who} says of {trouble.destination}: {os.strerror(trouble.errno)}"
            path.note(reason)
            if path.connected.is_on:
                path.take_down(now, reason)
            else:
                node.context.log.info(
                    LogSubsystem.LINK, "%s: %s", path.title, reason, key=(trouble.errno, path.title)
                )


def _too_big(path: LinkState, trouble: PathTrouble, now: float) -> None:
    known = path.pmtud.onwire
    if known is None or trouble.mtu is None or trouble.mtu >= known:
        return
    if trouble.local:
        path.narrowed(trouble.mtu, now)
    else:
        path.hinted(trouble.mtu, now)
