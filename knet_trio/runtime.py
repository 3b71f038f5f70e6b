"""What runs a handle: its tasks, its sockets, and who owns them.

::

    Runtime.run                          the nursery of the handle
      |- heartbeat                       pings when due, notices silence
      |- pmtud                           path MTU searches
      |- tx: filter, compressor, cipher, transport       the pipelines, a task for each stage
      |- rx: cipher, defrag, decompressor, delivery
      '- endpoint (for each socket)
           |- receive
           '- outbox                     sends on what the socket had no room for

Sockets are shared by the links with the same local address, and closed with the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import attrs
import trio

from knet_trio.abc import Endpoint, Transport
from knet_trio.config import LinkConfig
from knet_trio.errors import BusyError, InvalidArgumentError
from knet_trio.node.context import Context
from knet_trio.node.control import receive_trouble
from knet_trio.node.node import Node
from knet_trio.node.outbox import Outbox
from knet_trio.node.path import Path
from knet_trio.node.peer import Peer
from knet_trio.pipeline.rx import Receiver
from knet_trio.pipeline.tx import Transmitter
from knet_trio.transport import find_transport


@attrs.define(eq=False)
class _Bound:
    """A socket in use, by how many links, and the scope of its tasks."""

    endpoint: Endpoint
    outbox: Outbox
    transport: Transport
    dynamic: bool
    users: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    closed: trio.Event = attrs.field(factory=trio.Event)


class Runtime:
    """The parts of one handle and the tasks that run them, in ``nursery``."""

    def __init__(
        self, context: Context, nursery: trio.Nursery, *, privileged: bool, dscp: int
    ) -> None:
        self.context = context
        self.node = Node(context)
        self.transmitter = Transmitter(self.node)
        self.receiver = Receiver(self.node)
        self.ended = False
        self._nursery = nursery
        self._privileged = privileged
        self._dscp = dscp
        self._bound: dict[Endpoint, _Bound] = {}

    def start(self) -> None:
        """Start the tasks that every handle has."""
        start = self._nursery.start_soon
        start(self.context.heartbeats.run, name="heartbeat")
        start(self.context.discoveries.run, name="pmtud")
        start(self.transmitter.run, name="tx")
        start(self.receiver.run, name="rx")

    def end(self) -> None:
        """Nothing more will happen: wake whoever waits, and stop all tasks."""
        self.ended = True
        for path in self.node.paths():
            path.connected.close()
        for peer in self.node.peers.values():
            peer.close()
        for mailbox in self.receiver.mailboxes.values():
            mailbox.end()
        for receiver in self.context.event_receivers:
            receiver.end()
        self._nursery.cancel_scope.cancel()

    def check_running(self) -> None:
        """Raise ``trio.ClosedResourceError`` once the handle has ended."""
        if self.ended:
            raise trio.ClosedResourceError("the handle has ended")

    # Links and their sockets.

    def add_path(self, peer: Peer, config: LinkConfig) -> Path:
        """Set up a link, not enabled yet. On an error nothing has changed."""
        self.check_running()
        if config.link_id in peer.paths:
            raise BusyError(f"host {peer.host_id} has a link {config.link_id}; remove it first")
        transport = find_transport(config.transport)
        bound = self._bind(config, transport)
        bound.users += 1
        config = attrs.evolve(config, src=bound.endpoint.local)
        path = Path(self.context, peer.host_id, config, transport, bound.outbox, peer.refresh)
        peer.add(path)
        return path

    async def remove_paths(self, peer: Peer, paths: Iterable[Path]) -> None:
        """Take links down and away, and close the sockets that nobody uses any more.

        All is done before the first checkpoint but the waiting for the sockets.
        """
        closed: list[trio.Event] = []
        for path in paths:
            path.close()
            peer.remove(path)
            bound = self._bound[path.outbox.endpoint]
            bound.users -= 1
            if not bound.users:
                del self._bound[bound.endpoint]
                bound.scope.cancel()
                closed.append(bound.closed)
        await trio.lowlevel.checkpoint()
        for event in closed:
            await event.wait()

    async def flush(self) -> None:
        """Wait until the sockets have taken all messages handed over before."""
        await self.transmitter.flush()
        for bound in list(self._bound.values()):
            await bound.outbox.wait_empty()

    def _bind(self, config: LinkConfig, transport: Transport) -> _Bound:
        dynamic = config.dst is None
        for bound in self._bound.values():
            if bound.endpoint.local == config.src and bound.transport is transport:
                if bound.dynamic != dynamic:
                    raise InvalidArgumentError(
                        f"{config.src} has links with dst or without, not both: give this one"
                        " a local address or port of its own"
                    )
                return bound
        endpoint = transport.open_endpoint(
            config.src,
            privileged=self._privileged,
            high_priority=config.high_priority,
            dscp=self._dscp,
        )
        outbox = Outbox(endpoint, partial(receive_trouble, self.node, endpoint))
        bound = _Bound(endpoint, outbox, transport, dynamic)
        self._bound[endpoint] = bound
        self._nursery.start_soon(self._serve, bound, name=f"endpoint {endpoint.local}")
        return bound

    async def _serve(self, bound: _Bound) -> None:
        try:
            with bound.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.receiver.receive_from, bound.endpoint, name="receive")
                    nursery.start_soon(bound.outbox.run, name="outbox")
        finally:
            bound.endpoint.close()
            bound.closed.set()
