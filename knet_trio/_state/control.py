"""The effects of control packets, and of errors that the system and the network report."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import partial

from knet_trio._core.admission import Action, PacketKind
from knet_trio._core.onwire import (
    PING_SIZE,
    TYPE_PING,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    read_scheduled_untrusted,
)
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.admit import admit, refuse_address, refuse_host, refuse_link
from knet_trio._state.counters import Kind
from knet_trio._state.handle import HandleState, TroubleKey
from knet_trio._state.host import HostState
from knet_trio._state.network_link import UNREACHABLE_ERRNOS, NetworkLinkState
from knet_trio._state.trust import Credentials
from knet_trio.abc import ConnectionChange, Endpoint, PathTrouble
from knet_trio.address import Address
from knet_trio.errors import DropCause
from knet_trio.status import LinkCause

Control = Ping | Pong | PmtudProbe | PmtudReply

_KINDS = {
    Ping: PacketKind.PING,
    Pong: PacketKind.PONG,
    PmtudProbe: PacketKind.PROBE,
    PmtudReply: PacketKind.REPLY,
}
_COUNTED = {
    PacketKind.PING: Kind.PING,
    PacketKind.PONG: Kind.PONG,
    PacketKind.PROBE: Kind.PMTU,
    PacketKind.REPLY: Kind.PMTU,
}


def receive_scheduled(
    handle: HandleState, packet: bytes, source: Address, credentials: Credentials | None = None
) -> bool:
    """Handle a scheduled ping, or the pong to the last one, of a reachable host.

    This is the short way for the most frequent control packets: those from the destination of a
    link, which the table of ``_core/admission.py`` accepts. The effect is the same as that of
    ``receive_control``.

    Args:
        handle: The handle.
        packet: The packet.
        source: The address that it came from.
        credentials: The proof of its sender; None if envelopes do not name it.

    Returns:
        True if it was such a packet; if not, nothing has changed.
    """
    fields = read_scheduled_untrusted(packet)
    if fields is None:
        return False
    _, kind, host_id, _, _, link_id, stamp, seq, _ = fields
    host = handle.hosts.get(host_id)
    if host is None:
        return False
    link = host.admitted.get(source)
    if link is None or link.link_id != link_id:
        return False
    if credentials is not None and not credentials.believed:
        return False
    context = handle.context
    address = link.address
    if context.access_lists and not address.acl.accepts(source.host):
        return False
    if kind == TYPE_PING:
        if credentials is None or credentials.trust is None:
            if not seq and address.is_seen(stamp):
                context.refuse(DropCause.REPLAYED, source, link=link)
                return True
            host.inbound.ping_received(seq, timed=True, link=link_id)
        else:
            credentials.take()
        link.counters.received(Kind.PING, 1, PING_SIZE)
        address.hear_peer(context.now())
        answer = context.crypto.sealer if credentials is None else credentials.answer
        link.output.answer(packet, answer)
        return True
    sent = link.output.find_last(stamp, source)
    if sent is None:
        return False
    now = context.now()
    if credentials is not None:
        credentials.take()
        host.trust.pong_received(now)
    link.counters.received(Kind.PONG, 1, PING_SIZE)
    link.pong_received(sent, now)
    return True


def receive_control(
    handle: HandleState,
    packet: Control,
    size: int,
    source: Address,
    credentials: Credentials | None = None,
) -> None:
    """Handle a control packet.

    Args:
        handle: The handle.
        packet: The packet.
        size: Its size without the envelope, in bytes.
        source: The address that it came from.
        credentials: The proof of its sender; None if envelopes do not name it.
    """
    context = handle.context
    if credentials is None:
        credentials = Credentials(context.crypto.sealer)
    host = handle.hosts.get(packet.node)
    if host is None:
        refuse_host(handle, packet.node, source)
        return
    link = host.network_links.get(packet.link)
    if link is None:
        refuse_link(handle, packet.node, packet.link, source)
        return
    kind = _KINDS[type(packet)]
    action = admit(host, link, kind, source, believed=credentials.believed)
    if action is None:
        return
    if isinstance(packet, Ping):
        _ping_received(host, link, packet, size, source, action, credentials)
    elif isinstance(packet, Pong):
        _pong_received(host, link, packet, size, source, action, credentials)
    else:
        if action is Action.ACT:
            credentials.take()
        _count(link, kind, size)
        if isinstance(packet, PmtudProbe):
            link.output.reply(packet.size, credentials.answer)
        elif not link.path_mtu.reply_received(packet, context.now()):
            context.refuse(DropCause.UNEXPECTED_PMTUD_REPLY, link=link)


def _ping_received(
    host: HostState,
    link: NetworkLinkState,
    ping: Ping,
    size: int,
    source: Address,
    action: Action,
    credentials: Credentials,
) -> None:
    """Handle a ping with the ``action`` that is allowed for its sender."""
    context, answer = link.context, credentials.answer
    if action is Action.ACT:
        if credentials.trust is None:
            if link.address.is_copy(ping):
                context.refuse(DropCause.REPLAYED, source, link=link)
                return
            _take_number(host, link, ping)
        else:
            credentials.take()
            if not ping.timed:
                _take_number(host, link, ping)
        _count(link, PacketKind.PING, size)
        link.address.hear_peer(context.now())
        link.output.pong(ping, answer)
    elif action is Action.ASK or action is Action.ANSWER:
        now = context.now()
        if action is Action.ASK and not credentials.may_answer(link.link_id, now):
            context.refuse(DropCause.REPLAYED, source, link=link)
            return
        _count(link, PacketKind.PING, size)
        if action is Action.ASK:
            # Before the pong, so that on a link that keeps order the peer proves itself to this
            # host before it knows that this host has proven itself.
            link.ask(now, answer)
        link.output.pong(ping, answer)
        if source != link.address.source:
            link.heard_elsewhere(source)
    else:
        now = context.now()
        fault = link.address.find_fault(
            source,
            ping,
            now,
            anywhere=credentials.trust is None,
            highest=credentials.note_elsewhere(link.link_id, now),
        )
        if fault is not None:
            context.refuse(fault, source, link=link)
            return
        _count(link, PacketKind.PING, size)
        greeted = action is Action.GREET
        asks_first = credentials.trust is not None
        if greeted and not asks_first:
            link.output.pong(ping, answer, source)
        link.challenge(source, ping, now, answer, greeted=greeted)
        if greeted and asks_first:
            link.output.pong(ping, answer, source)


def _pong_received(
    host: HostState,
    link: NetworkLinkState,
    pong: Pong,
    size: int,
    source: Address,
    action: Action,
    credentials: Credentials,
) -> None:
    """Handle a pong, if it answers a ping that was sent to its source."""
    context = link.context
    now = context.now()
    answered = link.output.find_sent(pong, source, credentials)
    if action is Action.FOLLOW and answered is None:
        refuse_address(link, PacketKind.PONG, source)
        return
    _count(link, PacketKind.PONG, size)
    if answered is None:
        context.refuse(DropCause.UNEXPECTED_PONG, link=link)
        return
    sent = answered.sent
    if action is Action.FOLLOW and not link.heartbeat.expects(sent, now):
        context.refuse(DropCause.UNEXPECTED_PONG, link=link)
        return
    if not credentials.believed:
        if now - sent > link.config.pong_timeout:
            context.refuse(DropCause.UNEXPECTED_PONG, link=link)
            return
        host.confirm(credentials)
    else:
        credentials.take()
    host.trust.pong_received(now)
    if action is Action.FOLLOW:
        challenged = link.follow(source)
        # The ping that was the reason to ask may be a copy of one from before the link moved.
        if challenged is not None and not link.address.is_copy(challenged.ping):
            if credentials.trust is None:
                _take_number(host, link, challenged.ping)
            if not challenged.greeted:
                link.output.pong(challenged.ping, credentials.answer)
    if answered.counted:
        link.pong_received(sent, now)


def _take_number(host: HostState, link: NetworkLinkState, ping: Ping) -> None:
    """Take over the message number in a ping of the peer."""
    host.inbound.ping_received(ping.seq, timed=ping.timed, link=link.link_id)


def _count(link: NetworkLinkState, kind: PacketKind, size: int) -> None:
    link.counters.received(_COUNTED[kind], 1, size)


def receive_connection(handle: HandleState, endpoint: Endpoint, change: ConnectionChange) -> None:
    """Handle that the connection of an endpoint was made or lost."""
    for link in handle.links_concerned(endpoint, change.destination):
        link.connection_changed(change)


def receive_troubles(
    handle: HandleState, endpoint: Endpoint, troubles: Iterable[PathTrouble]
) -> None:
    """Handle errors that the system or the network reports for sent packets.

    The first ones are handled now, many in turns. Equal errors are merged while they wait, and
    errors that concern no link are ignored: so their number is bounded by that of the links.
    """
    waiting = handle.troubles
    added: list[TroubleKey] = []
    for trouble in troubles:
        if not _may_concern(handle, endpoint, trouble):
            continue
        key = (endpoint, trouble.destination, trouble.errno, trouble.local)
        earlier = waiting.get(key)
        if earlier is None:
            waiting[key] = trouble
            added.append(key)
        elif trouble.errno == errno.EMSGSIZE:
            # They differ only in their MTUs: a packet that fits the smaller one fits the other.
            waiting[key] = min(earlier, trouble)
    if added:
        handle.context.chores.add(receive_troubles, added, partial(_act, handle))


def _may_concern(handle: HandleState, endpoint: Endpoint, trouble: PathTrouble) -> bool:
    """Return whether a trouble may concern a link."""
    link = handle.find_concerned(endpoint, trouble.destination)
    if link is None:
        return False
    if trouble.errno != errno.EMSGSIZE:
        return trouble.errno in UNREACHABLE_ERRNOS
    if trouble.mtu is None:
        return False
    # Reports can be forged: an impossible MTU must not replace a true one.
    sizes = link.path_mtu.search.sizes
    return trouble.local or sizes.payload(trouble.mtu) >= sizes.minimum_payload


def _act(handle: HandleState, key: TroubleKey) -> Iterator[None]:
    """Handle the trouble that waits under ``key``, one link for each item that is taken."""
    trouble = handle.troubles.pop(key)
    endpoint, destination = key[:2]
    for number, link in enumerate(handle.links_concerned(endpoint, destination)):
        if number:
            yield
        # The link may have been removed meanwhile, or have another destination.
        if handle.is_concerned(link, endpoint, destination):
            _act_on_link(handle, link, trouble)


def _act_on_link(handle: HandleState, link: NetworkLinkState, trouble: PathTrouble) -> None:
    now = handle.context.now()
    if trouble.errno == errno.EMSGSIZE:
        _too_big(link, trouble, now)
        return
    who = "this machine" if trouble.local else "the network"
    reason = f"{who} reports for {trouble.destination}: {os.strerror(trouble.errno)}"
    link.counters.note(reason, now, trouble.errno, local=trouble.local)
    if link.connected.is_on:
        if trouble.local:
            link.take_down(now, reason, LinkCause.REFUSED)
        else:
            link.question(now, reason)
    else:
        handle.context.log.info(
            LogSubsystem.LINK, "%s: %s", link.title, reason, key=(trouble.errno, link.title)
        )


def _too_big(link: NetworkLinkState, trouble: PathTrouble, now: float) -> None:
    if not trouble.local and trouble.mtu is not None:
        link.path_mtu.size_reported(trouble.mtu)
    known = link.path_mtu.search.onwire
    if known is None or trouble.mtu is None or trouble.mtu >= known:
        return
    if trouble.local:
        link.path_mtu.narrowed(trouble.mtu, now)
    else:
        link.path_mtu.hinted(trouble.mtu, now)
