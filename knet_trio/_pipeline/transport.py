"""The last step of the way out: the links that carry a message, and what becomes of refusals."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Never

import trio

from knet_trio._core.policy import LinkPolicy
from knet_trio._logs.names import LogSubsystem
from knet_trio._pipeline.batches import Sealed, join
from knet_trio._pipeline.sealing import Sealer, unseal
from knet_trio._pipeline.stage import Stage
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.link import LinkState
from knet_trio._state.outbox import Late, Outbox, Refusal
from knet_trio.errors import DropCause, HostDownError, NoProgressError


class TransportStage(Stage[Sealed, Never]):
    """4. The links that the policies of its hosts choose, one batch a link."""

    name: ClassVar[str] = "transport"

    def __init__(self, node: HandleState, sealer: Sealer) -> None:
        super().__init__()
        self._node = node
        self._sealer = sealer
        self._drop = node.context.counters.drop
        self._log = node.context.log

    def join(self, last: Sealed, item: Sealed) -> Sealed | None:
        """Whole messages for the same hosts go together."""
        if last.fragments or item.fragments or last.hosts != item.hosts:
            return None
        if (last.packets is None) != (item.packets is None):
            return None
        datagrams = join(last.datagrams, item.datagrams)
        if datagrams is None:
            return None
        packets = None
        if last.packets is not None and item.packets is not None:
            packets = [*last.packets, *item.packets]
        return last._replace(datagrams=datagrams, packets=packets)

    def ready(self, item: Sealed) -> bool:
        """Waiting for room is backpressure, as long as it holds up nobody else.

        So only if there is no link at all that could take something now.
        """
        peers = self._node.peers
        found = peers.values() if item.hosts is None else map(peers.get, item.hosts)
        for peer in found:
            if peer is not None and any(path.outbox.full for path in peer.ranked):
                break
        else:
            return True
        return not _all_full(self._outboxes(item.hosts))

    async def process(self, item: Sealed) -> Sequence[Never]:
        """Send each message once there is room."""
        outboxes = self._outboxes(item.hosts)
        if _all_full(outboxes):
            await _wait_any_room(outboxes)
        return self.step(item)

    def step(self, item: Sealed) -> Sequence[Never]:
        """Send each message; nothing is left for a next stage."""
        for peer in self._peers(item):
            self._send_to(peer, item)
        return ()

    def send_one(self, message: Sealed) -> None:
        """Send one message to its one host, or raise SendError."""
        for peer in self._peers(message):
            lost = self._send_to(peer, message)
            if lost:
                number = lost[0].error.errno or errno.EAGAIN
                raise NoProgressError(
                    f"no link to host {peer.host_id} takes it: {os.strerror(number)}",
                    errno=number,
                )
            return
        raise HostDownError("the destination is not reachable")

    def _send_to(self, peer: HostState, message: Sealed) -> list[Refusal]:
        """Send to one host; what is lost of it."""
        batch = peer.share(message.datagrams, fragments=message.fragments)
        # Where links carry the same, one that refuses late cannot know what the others did.
        alone = sum(map(len, batch.values())) == len(message.datagrams)
        refused = {
            path: _try(
                path, datagrams, partial(self._refused_late, peer, message, path) if alone else None
            )
            for path, datagrams in batch.items()
        }
        if not any(refused.values()):
            return []
        lost: list[Refusal] = []
        for copies in _copies(batch):
            refusals = _refused_by_all([refused[path] for path in copies])
            lost += self._recover(peer, message, copies, refusals)
        return lost

    def _refused_late(
        self, peer: HostState, message: Sealed, path: LinkState, refusals: Sequence[Refusal]
    ) -> None:
        self._recover(peer, message, [path], refusals)

    def _recover(
        self,
        peer: HostState,
        message: Sealed,
        copies: Sequence[LinkState],
        refusals: Sequence[Refusal],
    ) -> Sequence[Refusal]:
        """Send in another way what each of the links ``copies`` has refused; what is lost.

        Another link takes it as it is; with the active policy all have been asked. What has become
        too large for its path goes once more in smaller fragments.
        """
        if refusals and peer.policy is not LinkPolicy.ACTIVE:
            refusals = self._divert(peer, message, copies, refusals)
        if not refusals:
            return ()
        too_large = [one.datagram for one in refusals if one.error.errno == errno.EMSGSIZE]
        if too_large and peer.ranked:
            messages, largest = unseal(message, too_large)
            # Else it would be refused again.
            if self._node.data_mtu < largest:
                again = [sealed for one in messages for sealed in self._sealer.seal_all(one)]
                # It has another number now: nobody has all of the fragments with the old one.
                lost = [one for sealed in again for one in self._send_to(peer, sealed)]
                if message.fragments:
                    return lost
                refusals = [one for one in refusals if one.error.errno != errno.EMSGSIZE]
                if refusals:
                    copies[0].data_lost(refusals)
                return [*lost, *refusals]
        copies[0].data_lost(refusals)
        return refusals

    @staticmethod
    def _divert(
        peer: HostState, message: Sealed, refusing: Sequence[LinkState], refusals: Sequence[Refusal]
    ) -> Sequence[Refusal]:
        """Send over the other links, best first, until all is taken; what is not.

        Of a message in fragments all go, since the receiver drops what it has already.
        """
        for path in peer.ranked:
            if path in refusing:
                continue
            datagrams = [one.datagram for one in refusals]
            refused = _try(path, message.datagrams if message.fragments else datagrams)
            refusals = _refused_by_all([refusals, refused])
            if not refusals:
                break
        return refusals

    def _outboxes(self, hosts: tuple[int, ...] | None) -> set[Outbox]:
        """What the next message to ``hosts`` would go through."""
        peers = self._node.peers
        found = peers.values() if hosts is None else (peers.get(host) for host in hosts)
        return {path.outbox for peer in found if peer is not None for path in peer.next_paths}

    def _peers(self, message: Sealed) -> Iterator[HostState]:
        """The hosts the message can be sent to now; the others are counted."""
        lost = message.messages
        if message.hosts is None:
            reached = False
            for peer in self._node.peers.values():
                if peer.ranked:
                    reached = True
                    yield peer
            if not reached:
                self._drop(DropCause.HOST_DOWN, lost)
                self._log.info(
                    LogSubsystem.TX,
                    "a message to every host is lost, none is reachable",
                    key=DropCause.HOST_DOWN,
                )
            return
        for host_id in message.hosts:
            found = self._node.peers.get(host_id)
            if found is None:
                self._drop(DropCause.UNKNOWN_DESTINATION, lost)
                self._log.warning(
                    LogSubsystem.TX,
                    "a message to host %d is lost, the handle has no such host",
                    host_id,
                    key=(DropCause.UNKNOWN_DESTINATION, host_id),
                )
            elif not found.ranked:
                self._drop(DropCause.HOST_DOWN, lost)
                self._log.info(
                    LogSubsystem.TX,
                    "a message to host %d is lost, it is unreachable",
                    host_id,
                    key=(DropCause.HOST_DOWN, host_id),
                )
            else:
                yield found


def _try(path: LinkState, datagrams: Sequence[bytes], late: Late | None = None) -> list[Refusal]:
    """Send over that link; what it refuses."""
    if path.outbox.full:
        path.data_delayed(len(datagrams))
        full = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return [Refusal(datagram, full) for datagram in datagrams]
    return path.outbox.send(path, datagrams, late)


def _copies(batch: Mapping[LinkState, Sequence[bytes]]) -> list[list[LinkState]]:
    """The links of ``batch``, those together that are given the same."""
    groups: list[list[LinkState]] = []
    for path, datagrams in batch.items():
        for group in groups:
            if batch[group[0]] == datagrams:
                group.append(path)
                break
        else:
            groups.append([path])
    return groups


def _refused_by_all(refusals: Sequence[Sequence[Refusal]]) -> Sequence[Refusal]:
    """What nobody took, of the same datagrams offered to several links."""
    first, *others = refusals
    for other in others:
        refused = {id(one.datagram) for one in other}
        first = [one for one in first if id(one.datagram) in refused]
    return first


def _all_full(outboxes: Collection[Outbox]) -> bool:
    return bool(outboxes) and all(outbox.full for outbox in outboxes)


async def _wait_any_room(outboxes: Iterable[Outbox]) -> None:
    """Return once one of ``outboxes`` is not full."""
    async with trio.open_nursery() as nursery:

        async def wait(outbox: Outbox) -> None:
            await outbox.wait_room()
            nursery.cancel_scope.cancel()

        for outbox in outboxes:
            nursery.start_soon(wait, outbox)
