"""The last step of the way out: sending the datagrams of a batch over the links of a host."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.drops import count_lost, give_up_unreachable
from knet_trio._pipeline.sealing import Sealer
from knet_trio._pipeline.stage import Stage
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.link_sender import Refusal
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._state.send_lane import LaneItem, Sealed
from knet_trio.errors import DropCause, NoProgressError, SealError


class _Progress(enum.Enum):
    """How many of some datagrams were sent or given up."""

    ALL = enum.auto()
    SOME = enum.auto()
    NO_ROOM = enum.auto()


class TransportStage(Stage[int]):
    """Sends the messages in the lanes of hosts. The keys are the host ids.

    Args:
        handle: The handle.
        sealer: Makes datagrams of messages.
        progressed: Called with a host whose lane has room, or may have.
        blocked: Called with a host whose links have no room any more.
    """

    name: ClassVar[str] = "transport"

    def __init__(
        self,
        handle: HandleState,
        sealer: Sealer,
        progressed: Callable[[HostState], None],
        blocked: Callable[[HostState], None],
    ) -> None:
        super().__init__(handle.context.turns)
        self._handle = handle
        self._context = handle.context
        self._sealer = sealer
        self._progressed = progressed
        self._blocked = blocked

    def wake_all(self, host_ids: Sequence[int]) -> None:
        """Wake several lanes, the fullest first, so that none falls behind."""
        hosts = self._handle.hosts
        found = [hosts[host_id] for host_id in host_ids if host_id in hosts]
        found.sort(key=lambda host: host.lane.messages, reverse=True)
        for host in found:
            self.wake(host.host_id)

    async def work(self, key: int) -> bool:
        """Send the next batch to host ``key``."""
        host = self._handle.hosts.get(key)
        if host is None or not host.ranked:
            return False
        lane = host.lane
        was_blocked = lane.blocked
        more = self._advance(host)
        if lane.blocked and not was_blocked:
            self._blocked(host)
        self._progressed(host)
        return more

    def _advance(self, host: HostState) -> bool:
        lane = host.lane
        item = lane.take()
        if item is None:
            return False
        sent = item.sent
        try:
            done = self.send(host, item)
        except BaseException:
            # A bug, which ends the handle: the tasks that wait for this item are woken then.
            lane.put_back(item)
            raise
        if done or item.sent != sent:
            lane.moved_at = self._context.now()
        if done:
            item.end(item.error)
        else:
            self.put_back(host, item)
        return done

    def put_back(self, host: HostState, item: LaneItem) -> None:
        """Put ``item``, which was taken out of its lane, back at the head of the lane."""
        if host.ranked:
            host.lane.put_back(item)
        else:
            # An error about the item has taken the last link down.
            give_up_unreachable(self._context, host.host_id, [item])

    def send(self, host: HostState, item: LaneItem) -> bool:
        """Send the rest of ``item``, as far as there is room and time.

        Returns:
            True if nothing is left: everything was sent, or counted where the system or the cipher
            refused it. If False, the stage is woken when it can go on.
        """
        # An error about a message to another host may have taken this host's links down.
        while host.ranked:
            try:
                sealed = self._sealer.seal(host, item)
            except SealError as error:
                count_lost(self._context, error, item.left)
                item.error = error
                return True
            progress = self._send_part(host, item, sealed)
            if progress is _Progress.NO_ROOM:
                self._wait_for_room(host)
                return False
            if progress is _Progress.ALL:
                if sealed.is_last:
                    if host.lane.blocked:
                        host.lane.note_room(self._context.now())
                    return True
                item.first = sealed.end
                item.start = 0
                item.sealed = None
            if self._context.turns.is_over():
                self.wake(host.host_id)
                return False
        return False

    def _send_part(self, host: HostState, item: LaneItem, sealed: Sealed) -> _Progress:
        """Send the rest of ``sealed``, the current datagrams of ``item``, as far as possible."""
        lane = host.lane
        ranked = host.ranked
        if len(ranked) > 1 and host.policy is LinkPolicy.ROUND_ROBIN:
            left, errors = self._send_round_robin(host, item, sealed)
            if not left:
                return _Progress.ALL
        else:
            start = item.start
            datagrams = sealed.datagrams[start:] if start else sealed.datagrams
            links = ranked if len(ranked) == 1 else host.next_links
            if len(links) == 1:
                done, refusals = links[0].sender.send_data(datagrams)
            else:
                done, refusals = _send_to_each(links, datagrams)
            if done < len(datagrams) or refusals:
                done, refusals = self._divert(host, links, datagrams, done, refusals)
            if done == len(datagrams):
                lane.hand_on(sealed.last)
            elif done:
                lane.hand_on(sealed.number(sealed.newest(start, start + done)))
            item.sent += done - len(refusals) if refusals else done
            item.start += done
            if not refusals:
                if done == len(datagrams):
                    return _Progress.ALL
                if not item.start:
                    # This host has received nothing under this number yet.
                    item.sealed = None
                return _Progress.NO_ROOM
            errors = {start + place: error for place, error in refusals}
            left = [*errors, *range(item.start, len(sealed.datagrams))]
        if not self._give_up(host, item, sealed, left, errors):
            return _Progress.ALL
        # There may be room for the datagrams behind one that was too large.
        return _Progress.SOME if _too_large(errors.values()) else _Progress.NO_ROOM

    def _wait_for_room(self, host: HostState) -> None:
        if host.ranked:
            host.lane.note_no_room(self._context.now())
        else:
            # The host has been lost just now.
            host.lane.blocked = False
        for link in host.ranked:
            link.sender.wait_for_room()

    def _divert(
        self,
        host: HostState,
        asked: Sequence[NetworkLinkState],
        datagrams: Sequence[bytes],
        done: int,
        refusals: Sequence[Refusal],
    ) -> tuple[int, Sequence[Refusal]]:
        """Send datagrams that some links did not take over the others, best link first.

        With the active policy there are no others.

        Args:
            host: The host.
            asked: The links that were tried.
            datagrams: The datagrams.
            done: How many of the first datagrams these links sent or refused.
            refusals: The datagrams among them that were refused.

        Returns:
            ``done`` and ``refusals`` after the other links were tried.
        """
        for link in host.ranked:
            if link in asked:
                continue
            if refusals:
                again = [datagrams[index] for index, _ in refusals]
                tried, refused = link.sender.send_data(again)
                still = {index for index, _ in refused}
                refusals = [one for i, one in enumerate(refusals) if i >= tried or i in still]
            # Nothing overtakes a message that may be sent again in smaller fragments.
            if done < len(datagrams) and not _too_large(one.error for one in refusals):
                more, refused = link.sender.send_data(datagrams[done:])
                refusals = [*refusals, *(Refusal(done + i, error) for i, error in refused)]
                done += more
            if done == len(datagrams) and not refusals:
                break
        return done, refusals

    def _send_round_robin(
        self, host: HostState, item: LaneItem, sealed: Sealed
    ) -> tuple[list[int], dict[int, OSError]]:
        """Send each message over the next link in turn, or over others if it has no room.

        Returns:
            The datagrams that no link has taken, and the errors of those that were refused.
        """
        first = sealed.first_left(item.start)
        shares: dict[NetworkLinkState, list[int]] = {}
        for index in range(item.start, len(sealed.datagrams)):
            turn = host.turn + sealed.owner(index) - first
            for link in host.links_of_turn(turn):
                shares.setdefault(link, []).append(index)
        host.turn += sealed.end - first
        left = dict.fromkeys(range(item.start, len(sealed.datagrams)))
        errors: dict[int, OSError] = {}
        for link, indices in shares.items():
            self._send_some(link, sealed, indices, left, errors)
        for link in host.ranked:
            if not left:
                break
            self._send_some(link, sealed, list(left), left, errors)
        sent = len(sealed.datagrams) - item.start - len(left)
        if sent:
            item.sent += sent
            host.lane.hand_on(sealed.last)
        return list(left), {index: errors[index] for index in left if index in errors}

    @staticmethod
    def _send_some(
        link: NetworkLinkState,
        sealed: Sealed,
        indices: Sequence[int],
        left: dict[int, None],
        errors: dict[int, OSError],
    ) -> None:
        datagrams = [sealed.datagrams[index] for index in indices]
        done, refusals = link.sender.send_data(datagrams, in_order=False)
        refused = {indices[i]: error for i, error in refusals}
        for index in indices[:done]:
            if index not in refused:
                left.pop(index, None)
        errors.update(refused)

    def _give_up(
        self,
        host: HostState,
        item: LaneItem,
        sealed: Sealed,
        left: Sequence[int],
        errors: Mapping[int, OSError],
    ) -> list[int]:
        """Give up messages that no link takes, and reduce ``item`` to the others.

        A message that has become too large for its path is sent again in smaller fragments, under a
        new number: no host can complete the old one. Other refused messages are lost.

        Args:
            host: The host that the messages are for.
            item: The item that they are in.
            sealed: The datagrams of the item.
            left: The datagrams that were not sent.
            errors: The errors of those that were refused.

        Returns:
            The datagrams of the messages that are left.
        """
        again: set[int] = set()
        lost: dict[int, OSError] = {}
        # Unless fragments are smaller now, they would be refused again.
        narrower = self._handle.data_mtu < sealed.fragment_size
        for index, error in errors.items():
            if narrower and error.errno == errno.EMSGSIZE:
                again.add(sealed.owner(index))
            else:
                lost.setdefault(sealed.owner(index), error)
        for owner in again:
            lost.pop(owner, None)
        if lost:
            number = next(iter(lost.values())).errno or errno.EIO
            why = os.strerror(number)
            links = host.ranked or tuple(host.network_links.values())
            link = links[0] if links else None
            self._context.refuse(
                DropCause.SEND_FAILED,
                host.host_id,
                why,
                times=len(lost),
                link=link,
                key=host.host_id,
            )
            item.error = NoProgressError(
                f"no link to host {host.host_id} takes it: {why}", errno=number
            )
        left = [index for index in left if sealed.owner(index) not in lost]
        if again:
            messages = sorted(set(map(sealed.owner, left)))
            item.batch = item.batch.part([*messages, *range(sealed.end, len(item.batch.datas))])
            item.first = item.start = 0
            item.sealed = None
        elif left:
            _keep(item, sealed, left)
        return left


def _too_large(errors: Iterable[OSError]) -> bool:
    """Return whether one of ``errors`` says that a datagram was too large."""
    return any(error.errno == errno.EMSGSIZE for error in errors)


def _send_to_each(
    links: Sequence[NetworkLinkState], datagrams: Sequence[bytes]
) -> tuple[int, Sequence[Refusal]]:
    """Give datagrams to several links; it is enough if one link takes them."""
    results: list[tuple[NetworkLinkState, int, Sequence[Refusal]]] = []
    for link in links:
        done, refusals = link.sender.send_data(datagrams, in_order=False)
        results.append((link, done, refusals))
    return _together(results)


def _together(
    results: Sequence[tuple[NetworkLinkState, int, Sequence[Refusal]]],
) -> tuple[int, Sequence[Refusal]]:
    """Combine the results of giving datagrams to several links: one link is enough.

    A link that had no room for its copies counts them.
    """
    done = max(one for _, one, _ in results)
    refusals: Sequence[Refusal] = ()
    for link, one, refused in reversed(results):
        if one < done:
            link.copies_missed(done - one)
        else:
            refusals = refused
    for _, one, refused in results:
        if not refusals:
            break
        indices = {index for index, _ in refused}
        refusals = [again for again in refusals if again.place >= one or again.place in indices]
    return done, refusals


def _keep(item: LaneItem, sealed: Sealed, left: Sequence[int]) -> None:
    """Reduce ``item`` to the datagrams ``left`` and the messages after ``sealed``."""
    owners = [sealed.owner(index) for index in left]
    messages = sorted(set(owners))
    places = {owner: place for place, owner in enumerate(messages)}
    item.batch = item.batch.part([*messages, *range(sealed.end, len(item.batch.datas))])
    item.first = 0
    item.start = 0
    item.sealed = Sealed(
        [sealed.datagrams[index] for index in left],
        [places[owner] for owner in owners],
        sealed.number(messages[0]),
        sealed.number(messages[-1]),
        0,
        len(messages),
        sealed.is_last,
        sealed.cipher,
        sealed.fragment_size,
        sealed.life,
    )
