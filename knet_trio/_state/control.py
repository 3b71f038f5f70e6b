"""What control packets do, and the errors that the system and the network report."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import partial

from knet_trio._core.onwire import Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState, TroubleKey
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
    """Act on errors that the system or the network reports for packets that were sent.

    The first ones are acted on now, many in turns. Those that say the same are one while they
    wait, and what concerns no link never waits: so there are only as many as the links allow.
    """
    waiting = handle.troubles
    news: list[TroubleKey] = []
    for trouble in troubles:
        if not _tells_something(handle, endpoint, trouble):
            continue
        key = (endpoint, trouble.destination, trouble.errno, trouble.local)
        earlier = waiting.get(key)
        if earlier is None:
            waiting[key] = trouble
            news.append(key)
        elif trouble.errno == errno.EMSGSIZE:
            # They differ in their MTUs alone, and what fits the smaller one fits the other.
            waiting[key] = min(earlier, trouble)
    if news:
        handle.context.chores.add(receive_troubles, news, partial(_act, handle))


def _tells_something(handle: HandleState, endpoint: Endpoint, trouble: PathTrouble) -> bool:
    """Whether some link may have to do something about it."""
    link = handle.find_concerned(endpoint, trouble.destination)
    if link is None:
        return False
    if trouble.errno != errno.EMSGSIZE:
        return trouble.errno in UNREACHABLE_ERRNOS
    if trouble.mtu is None:
        return False
    # Anybody can make the network say nonsense, which must not take the place of what is true.
    sizes = link.path_mtu.search.sizes
    return trouble.local or sizes.payload(trouble.mtu) >= sizes.minimum_payload


def _act(handle: HandleState, key: TroubleKey) -> Iterator[None]:
    """Act on the trouble that waits under ``key``, one link for each item."""
    trouble = handle.troubles.pop(key)
    endpoint, destination = key[:2]
    for number, link in enumerate(handle.links_concerned(endpoint, destination)):
        if number:
            yield
        # It may have been removed meanwhile, or lead elsewhere.
        if handle.is_concerned(link, endpoint, destination):
            _act_on_link(handle, link, trouble)


def _act_on_link(handle: HandleState, link: NetworkLinkState, trouble: PathTrouble) -> None:
    now = handle.context.now()
    if trouble.errno == errno.EMSGSIZE:
        _too_big(link, trouble, now)
        return
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
