"""The runtime of a handle: its tasks, its sockets, and who owns them.

::

    Runtime                              in the nursery of the handle
      |- end                             raises the bug of a call, wakes those who wait outside
      |- heartbeat                       sends pings when due, notices silence
      |- pmtud                           searches path MTUs
      |- chores                          work on many links at once
      |- tx: compressor, transport       messages that had to wait on their way out
      |    '- slow (two)                 waits for a thread that compresses
      |- rx: lanes                       messages that had to wait on their way in
      |    '- slow                       waits for the thread that decompresses
      |- watch                           waits for all quiet sockets together
      |- endpoint (for each socket; with SCTP for each association)
      |    |- receive
      |    '- room                       waits for room when the send buffer is full
      '- datafd (for each data fd)
           |- read                       reads messages from it and sends them
           '- write                      writes arriving messages to it

Links with the same local address share a socket, which is closed with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.receiver import Receiver
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.admit import admit_connection
from knet_trio._state.context import Context
from knet_trio._state.control import receive_troubles
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.link import LinkState
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_socket import Connections, SendSocket
from knet_trio._transport import LOOPBACK, find_transport
from knet_trio._transport.interfaces import is_local
from knet_trio._transport.watch import EpollWatch
from knet_trio._waiting import check_in_trio, outside_error
from knet_trio.abc import Endpoint, PeerEndpoint, Transport
from knet_trio.address import ANY_PORT, Address
from knet_trio.config import LinkConfig
from knet_trio.datafd import Datafds
from knet_trio.errors import BusyError, InvalidArgumentError


@attrs.define(eq=False)
class _Bound:
    """A socket in use.

    Attributes:
        endpoint: The socket.
        send_socket: The sending side of the socket, which counts the links that use it.
        transport: The transport of the socket.
        dynamic: True if its links have no ``dst``.
        high_priority: True if its packets are marked for the network.
        shared: For the socket of one link or of one peer, the shared socket at the same address.
        links: The links that share it, by the IP address they lead to; "" without ``dst``.
        accepted: The connections that peers have made to it, by the IP address of the peer.
        scope: The cancel scope of its tasks.
        closed: Set when the socket is closed.
    """

    endpoint: Endpoint
    send_socket: SendSocket
    transport: Transport
    dynamic: bool
    high_priority: bool
    shared: _Bound | None = None
    links: dict[str, dict[NetworkLinkState, None]] = attrs.field(
        factory=dict[str, dict[NetworkLinkState, None]]
    )
    accepted: dict[str, dict[PeerEndpoint, SendSocket]] = attrs.field(
        factory=dict[str, dict[PeerEndpoint, SendSocket]]
    )
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    closed: trio.Event = attrs.field(factory=trio.Event)


_CLOSED_AT_ONCE: Final = 8
"""The sockets whose tasks end in one round of the loop when the handle ends."""

_FREED_ONCE: Final = 1024 * 1024
"""The size in bytes of the block that is freed to set the limits of the allocator."""


class Runtime(Connections):
    """The parts of one handle, and the tasks that run them.

    Args:
        context: The context that the parts share.
        nursery: The nursery of the tasks.
        privileged: True if socket buffers smaller than wanted are an error.
        dscp: The DSCP of high-priority links; 0 for the low-delay type of service.

    Attributes:
        context: The context that the parts share.
        handle: The state of the handle.
        transmitter: The way of messages out.
        receiver: The way of messages in.
        datafds: The data fds.
        ended: True once the handle begins to end.
    """

    def __init__(
        self, context: Context, nursery: trio.Nursery, *, privileged: bool, dscp: int
    ) -> None:
        self.context = context
        context.connections = self
        context.is_own = self._is_own
        self.handle: HandleState = HandleState(context)
        self.transmitter: Transmitter = Transmitter(self.handle)
        self.receiver: Receiver = Receiver(self.handle)
        self.datafds: Datafds = Datafds(context, self.transmitter, self.receiver.channels, nursery)
        self.ended: bool = False
        self._token = trio.lowlevel.current_trio_token()
        self._nursery = nursery
        self._privileged = privileged
        self._dscp = dscp
        self._watch = EpollWatch()
        self._bound: dict[Endpoint, _Bound] = {}
        # The same sockets, by the address that they are bound to.
        self._bound_to: dict[tuple[Transport, Address], _Bound] = {}
        self._transports: set[Transport] = set()
        # The sockets of single links and of single peers.
        self._connected: dict[Endpoint, _Bound] = {}

    def start(self) -> None:
        """Start the tasks of every handle."""
        _keep_freed_memory()
        start = self._nursery.start_soon
        start(self._await_end, name="end")
        start(self.context.heartbeats.run, name="heartbeat")
        start(self.context.discoveries.run, name="pmtud")
        start(self.context.chores.run, name="chores")
        start(self.transmitter.run, name="tx")
        start(self.receiver.run, name="rx")
        start(self._watch.run, self.context.turns, name="watch")

    @trio.lowlevel.enable_ki_protection
    async def end(self) -> None:
        """End the handle: wake all waiting calls, and stop all tasks.

        With many hosts and sockets this takes several turns. After a KeyboardInterrupt the
        remaining work is done at once.
        """
        self.ended = True
        turns = self.context.turns
        pieces = self._pieces_of_the_end()
        try:
            with trio.CancelScope(shield=True):
                await self.transmitter.end()
                for piece in pieces:
                    piece()
                    if turns.is_over():
                        await turns.give_up()
                bound = (*self._connected.values(), *self._bound.values())
                for number, one in enumerate(bound, start=1):
                    one.scope.cancel()
                    if not number % _CLOSED_AT_ONCE:
                        # The tasks of these sockets end now.
                        await turns.give_up()
        finally:
            try:
                for piece in pieces:
                    piece()
            finally:
                self._nursery.cancel_scope.cancel()

    def _pieces_of_the_end(self) -> Iterator[Callable[[], object]]:
        """Yield the calls, small pieces of work, that end all waiting."""
        for link in tuple(self.handle.links()):
            yield link.end
        for host in tuple(self.handle.hosts.values()):
            yield host.end
        yield self.datafds.close
        for queue in tuple(self.receiver.channels.values()):
            yield queue.end
        for receiver in tuple(self.context.event_receivers):
            yield receiver.end

    async def _await_end(self) -> None:
        """Wait for the end of the handle, and wake the calls that wait for room.

        This may be long before ``end`` is called, if the ``async with`` block shields its work.
        """
        try:
            await self.context.bug_found.wait()
        finally:
            await self.transmitter.end()
            # Also if the call with the bug has ended the block before this task noticed.
            self.context.raise_bug()

    def check_running(self) -> None:
        """Check that the handle can take a call.

        Raises:
            trio.ClosedResourceError: The handle has ended.
            OutsideTrioError: The call does not come from the Trio program of the handle.
        """
        if self.ended:
            raise self.context.ended_error()
        self.check_here()

    def check_here(self) -> None:
        """Check that the call comes from the Trio program of the handle.

        Raises:
            OutsideTrioError: The call comes from another thread, another event loop, or none.
        """
        if check_in_trio() is not self._token:
            raise outside_error()

    # Links and their sockets.

    def add_link(self, host: HostState, config: LinkConfig) -> LinkState:
        """Add a link, which is not enabled yet. After an error nothing has changed.

        Args:
            host: The host that the link leads to.
            config: The settings of the link.

        Returns:
            The link.

        Raises:
            BusyError: The host has a link with this id.
            InvalidArgumentError: The link does not go together with the host or with other links.
            TransportError: The system refuses the socket.
            trio.ClosedResourceError: The handle has ended.
            OutsideTrioError: The call does not come from the Trio program of the handle.
        """
        self.check_running()
        if config.link_id in host.links:
            raise BusyError(f"host {host.host_id} has a link {config.link_id}; remove it first")
        if host.loopback is not None:
            raise InvalidArgumentError(
                f"host {host.host_id} has a loopback link, which has to be its only link: remove"
                f" link {host.loopback.link_id} first"
            )
        if config.transport.lower() == LOOPBACK:
            return self._add_loopback(host, config)
        transport = find_transport(config.transport)
        bound = self._bind(config, transport)
        bound.send_socket.users += 1
        config = attrs.evolve(config, src=bound.endpoint.local)
        link = NetworkLinkState(
            self.context,
            host.host_id,
            config,
            transport,
            bound.send_socket,
            host.lane,
            host.trust,
            host.refresh,
            partial(receive_troubles, self.handle),
        )
        link.acl.guard(self.check_here)
        host.add(link)
        bound.links.setdefault(_goal(link), {})[link] = None
        link.sender.connect()
        return link

    def _add_loopback(self, host: HostState, config: LinkConfig) -> LoopbackLinkState:
        me = self.context.host_id
        if host.host_id != me:
            raise InvalidArgumentError(
                f"a loopback link leads to this host: add host {me}, and add the link to that host"
            )
        if host.network_links:
            raise InvalidArgumentError(
                f"a loopback link has to be the only link of host {me}: remove its other links"
                " first"
            )
        link = LoopbackLinkState(self.context, config, self.receiver.deliver, host.refresh)
        link.acl.guard(self.check_here)
        host.add_loopback(link)
        return link

    async def remove_links(self, host: HostState, links: Iterable[LinkState]) -> None:
        """Take links down, remove them, and close the sockets that no link uses any more.

        The links are removed even if the call is cancelled.
        """
        closed: list[trio.Event] = []
        useless: list[SendSocket] = []
        for link in links:
            link.close()
            host.remove(link)
            if link.endpoint is None:
                continue
            bound = self._bound[link.endpoint]
            bound.send_socket.users -= 1
            if isinstance(link, NetworkLinkState):
                useless += self._leave(bound, link)
            if not bound.send_socket.users:
                del self._bound[bound.endpoint]
                del self._bound_to[bound.transport, bound.endpoint.local]
                bound.scope.cancel()
                closed.append(bound.closed)
        # The tasks of the sockets end in a few turns; then the addresses are free.
        turns = self.context.turns
        with trio.CancelScope(shield=True):
            for send_socket in useless:
                self.disconnect(send_socket)
                if turns.is_over():
                    await turns.give_up()
            for event in closed:
                await event.wait()
        await trio.lowlevel.checkpoint()

    def _leave(self, bound: _Bound, link: NetworkLinkState) -> list[SendSocket]:
        """Note that a link no longer uses a socket; return the connections that no link is for."""
        goal = _goal(link)
        del bound.links[goal][link]
        if bound.links[goal]:
            return []
        del bound.links[goal]
        hosts = tuple(bound.accepted) if bound.dynamic else (goal,)
        return [one for host in hosts for one in bound.accepted.get(host, {}).values()]

    @property
    def dscp(self) -> int:
        """The DSCP of high-priority links; 0 for the low-delay type of service."""
        return self._dscp

    def set_dscp(self, dscp: int) -> None:
        """Set the DSCP of high-priority links, also of open sockets."""
        self._dscp = dscp
        self.context.chores.add(self.set_dscp, [*self._bound, *self._connected], self._set_dscp_of)

    def _set_dscp_of(self, endpoint: Endpoint) -> None:
        bound = self._bound.get(endpoint) or self._connected.get(endpoint)
        # The socket may have been closed meanwhile.
        if bound is not None and (bound.shared or bound).high_priority:
            endpoint.set_dscp(self._dscp)

    def set_reconnect_interval(self, interval: float) -> None:
        """Set how often a connection is retried, in seconds."""
        self.context.reconnect_interval = interval
        sockets = (*self._bound.values(), *self._connected.values())
        self.context.chores.add(
            self.set_reconnect_interval,
            [bound.endpoint for bound in sockets if bound.transport.has_connections],
            lambda endpoint: endpoint.set_reconnect_interval(interval),
        )

    def _is_own(self, address: Address) -> bool:
        """Return whether ``address`` is that of a socket of this handle, by wildcard too."""
        anywhere = Address("::" if address.is_ipv6 else "0.0.0.0", address.port)
        for transport in self._transports:
            if (transport, address) in self._bound_to:
                return True
            if (transport, anywhere) in self._bound_to and is_local(address.host):
                return True
        return False

    async def flush(self) -> None:
        """Wait until the sockets have taken all messages that were handed over before the call."""
        await self.transmitter.flush()

    def _bind(self, config: LinkConfig, transport: Transport) -> _Bound:
        dynamic = config.dst is None
        bound = self._bound_to.get((transport, config.src))
        if bound is not None:
            if bound.dynamic != dynamic:
                raise InvalidArgumentError(
                    f"{config.src} cannot have links with dst and links without: give this one"
                    " a local address or port of its own"
                )
            if config.high_priority and not bound.high_priority:
                bound.endpoint.set_dscp(self._dscp)
                bound.high_priority = True
                beside = [one.endpoint for one in self._connected.values() if one.shared is bound]
                self.context.chores.add(self.set_dscp, beside, self._set_dscp_of)
            return bound
        endpoint = transport.open_endpoint(
            config.src,
            privileged=self._privileged,
            high_priority=config.high_priority,
            dscp=self._dscp,
        )
        send_socket = SendSocket(endpoint, self._have_room)
        bound = _Bound(endpoint, send_socket, transport, dynamic, config.high_priority)
        self._bound[endpoint] = self._bound_to[transport, endpoint.local] = bound
        self._transports.add(transport)
        self.context.log.debug(
            LogSubsystem.TRANSPORT, "%s socket %s is open", transport.name, endpoint.local
        )
        if endpoint.small_buffers is not None:
            # The same warning for all sockets: it is logged once.
            self.context.log.warning(
                LogSubsystem.TRANSPORT,
                "%s socket %s may lose packets: %s",
                transport.name,
                endpoint.local,
                endpoint.small_buffers,
                key="small buffers",
            )
        endpoint.use_watch(self._watch, self.receiver.receive_alone)
        if transport.has_connections:
            endpoint.use_connections(
                partial(self._accept, bound),
                self.context.reconnect_interval,
                connects=not dynamic,
            )
        self._nursery.start_soon(self._serve, bound, name=f"endpoint {endpoint.local}")
        return bound

    def _accept(self, shared: _Bound, endpoint: PeerEndpoint) -> None:
        """Serve a connection that a peer has made, or close it if no link is for that peer."""
        peer = endpoint.peer
        log = self.context.log
        links = shared.links.get("" if shared.dynamic else peer.host, {})
        if self.ended or not admit_connection(self.context, links, peer):
            endpoint.reset("no link leads to its peer")
            endpoint.close()
            return
        if not shared.dynamic:
            # Peers connect from any port, so their links know them by the IP address alone.
            endpoint.source = peer._replace(port=ANY_PORT)
        log.debug(LogSubsystem.TRANSPORT, "%s has connected to %s", peer, endpoint.local)
        bound = self._add_connected(endpoint, shared)
        shared.accepted.setdefault(peer.host, {})[endpoint] = bound.send_socket
        name = f"endpoint of {peer}"
        self._nursery.start_soon(self._serve_peer, endpoint, bound, shared, name=name)

    async def _serve_peer(self, endpoint: PeerEndpoint, bound: _Bound, shared: _Bound) -> None:
        """Serve a connection that a peer has made, until it ends."""
        try:
            await self._serve(bound)
        finally:
            siblings = shared.accepted[endpoint.peer.host]
            del siblings[endpoint]
            if not siblings:
                del shared.accepted[endpoint.peer.host]
            self._connected.pop(endpoint, None)

    def _have_room(self, host_ids: Sequence[int]) -> None:
        self.context.on_room(host_ids)

    def connect(self, send_socket: SendSocket, destination: Address) -> SendSocket | None:
        """Open a socket for one link, at the address of the socket that it shares.

        Args:
            send_socket: The shared socket.
            destination: The address of the peer.

        Returns:
            The new socket; None if the transport has none to give.
        """
        shared = self._bound[send_socket.endpoint]
        endpoint = shared.endpoint.connect(destination)
        if endpoint is None:
            return None
        # A connection that a peer has made is served already.
        bound = self._connected.get(endpoint)
        if bound is None:
            bound = self._add_connected(endpoint, shared)
            self._nursery.start_soon(self._serve, bound, name=f"endpoint {endpoint.local} alone")
        return bound.send_socket

    def _add_connected(self, endpoint: Endpoint, shared: _Bound) -> _Bound:
        """Register a socket for one peer, beside the one that links share."""
        own = SendSocket(endpoint, self._have_room)
        bound = _Bound(
            endpoint, own, shared.transport, shared.dynamic, shared.high_priority, shared
        )
        self._connected[endpoint] = bound
        endpoint.use_watch(self._watch, self.receiver.receive_alone)
        return bound

    def disconnect(self, send_socket: SendSocket) -> None:
        """Close the socket of one link."""
        # A connection that a peer has made may have ended meanwhile, or be closed already.
        bound = self._connected.pop(send_socket.endpoint, None)
        if bound is not None:
            bound.scope.cancel()
        send_socket.endpoint.close()

    def is_connected_from(self, send_socket: SendSocket, host: str) -> bool:
        """Return whether a peer at the IP address ``host`` has made a connection to the socket."""
        bound = self._bound.get(send_socket.endpoint)
        return bound is not None and host in bound.accepted

    async def _receive(self, bound: _Bound, nursery: trio.Nursery) -> None:
        """Receive from a socket, and end its tasks when its connection has ended."""
        await self.receiver.receive_from(bound.endpoint)
        nursery.cancel_scope.cancel()

    async def _serve(self, bound: _Bound) -> None:
        try:
            with bound.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, bound, nursery, name="receive")
                    nursery.start_soon(bound.send_socket.run, name="room")
        finally:
            bound.endpoint.close()
            bound.closed.set()
            self.context.log.debug(
                LogSubsystem.TRANSPORT,
                "%s socket %s is closed",
                bound.transport.name,
                bound.endpoint.local,
            )


def _goal(link: NetworkLinkState) -> str:
    """Return the IP address that a link leads to; "" if it is learned from the peer."""
    return link.config.dst.host if link.config.dst is not None else ""


def _keep_freed_memory() -> None:
    """Make the C library's allocator keep the memory of a few large messages for the next ones.

    glibc returns free memory to the system as soon as 128 KiB of it are contiguous, and gets it
    back one page fault after the other: for messages of 65000 bytes this took up to half of the
    time. The limits of glibc follow the largest block that was freed (``M_MMAP_THRESHOLD`` in
    mallopt(3)), so one such block is freed. If the heap has that much room already, or the limits
    were set by hand, nothing changes.
    """
    bytes(_FREED_ONCE)
