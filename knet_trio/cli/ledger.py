"""The times at which each message of the demo was sent and received, and the losses in cuts."""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import attrs

from knet_trio import LinkPolicy, Message

# Seconds: a message sent this shortly before a cut may still have been on its way.
UNDER_WAY: Final = 0.1
# Seconds after which a message that has not arrived is shown as lost.
OVERDUE: Final = 0.5

_HEAD = struct.Struct(">HQd")
_SMALLEST: Final = 64
_SIZES: Final = 900
# Bytes: more than fits in one packet, so the message is fragmented; one message in eight.
_LARGE: Final = 5000
_LARGE_EVERY: Final = 8
_MISSING: Final = math.nan


def compose(source: int, number: int, sent_at: float) -> bytes:
    """Return message ``number`` of ``source``. Its head determines the rest: any change shows."""
    head = _HEAD.pack(source, number, sent_at)
    large = number % _LARGE_EVERY == _LARGE_EVERY - 1
    size = _LARGE if large else _SMALLEST + number * 37 % _SIZES
    return head + hashlib.shake_256(head).digest(size - _HEAD.size)


@attrs.define
class Cut:
    """One cut of a link. Times are those of trio's clock.

    Attributes:
        link_id: The id of the link.
        at: When the link was cut.
        mended_at: When it was mended, infinite before.
        dead_at: When a node saw the link to another node go down, by pairs of host ids.
        back_at: When a node saw the link come up again, by the same pairs.
    """

    link_id: int
    at: float
    mended_at: float = math.inf
    dead_at: dict[tuple[int, int], float] = attrs.field(factory=dict[tuple[int, int], float])
    back_at: dict[tuple[int, int], float] = attrs.field(factory=dict[tuple[int, int], float])

    def covers(self, sent_at: float) -> bool:
        """Return whether the cut may have hit a message sent at this time."""
        return self.at - UNDER_WAY <= sent_at < self.mended_at


@attrs.define
class Flow:
    """The messages from one node to another.

    Attributes:
        source: The host id of the sender.
        receiver: The host id of the receiver.
        sent_at: When each message was sent, by its number, on trio's clock.
        arrived_at: When each message arrived, NaN for a missing one.
        delivered: The number of messages that arrived.
        duplicates: The number of repeated arrivals.
        overdue: The number of messages that should have arrived by now.
        last_latency: The latency of the last message that arrived, in seconds.
    """

    source: int
    receiver: int
    sent_at: array[float]
    arrived_at: array[float] = attrs.field(factory=lambda: array("d"))
    delivered: int = 0
    duplicates: int = 0
    overdue: int = 0
    last_latency: float = math.nan
    _looked_at: int = 0

    def arrive(self, number: int, now: float) -> None:
        """Record the arrival of message ``number``."""
        missing = number + 1 - len(self.arrived_at)
        if missing > 0:
            self.arrived_at.extend([_MISSING] * missing)
        if not math.isnan(self.arrived_at[number]):
            self.duplicates += 1
            return
        self.arrived_at[number] = now
        self.delivered += 1
        self.last_latency = now - self.sent_at[number]
        if number < self._looked_at:
            self.overdue -= 1

    def look(self, now: float) -> None:
        """Add the messages that should have arrived by ``now`` to ``overdue``."""
        while self._looked_at < len(self.sent_at) and self.sent_at[self._looked_at] < now - OVERDUE:
            self.overdue += not self.has(self._looked_at)
            self._looked_at += 1

    def has(self, number: int) -> bool:
        """Return whether message ``number`` has arrived."""
        return number < len(self.arrived_at) and not math.isnan(self.arrived_at[number])

    def lost(self) -> list[int]:
        """Return the numbers of the messages that have not arrived."""
        return [number for number in range(len(self.sent_at)) if not self.has(number)]

    def latencies(self) -> Iterator[float]:
        """Yield the seconds from sending to arrival, for each message that arrived."""
        for sent, arrived in zip(self.sent_at, self.arrived_at, strict=False):
            if not math.isnan(arrived):
                yield arrived - sent

    def failover(self, cut: Cut, interval: float) -> float:
        """Return the seconds that this flow took to get over ``cut``: see ``Ledger.failover``."""
        lost = [number for number in self.lost() if cut.covers(self.sent_at[number])]
        if lost:
            through = lost[-1] + 1
            ended = self.sent_at[through] if through < len(self.sent_at) else cut.mended_at
            return max(0.0, ended - cut.at)
        arrivals = sorted(at for at in self.arrived_at if not math.isnan(at))
        pauses = (
            later - earlier
            for earlier, later in pairwise(arrivals)
            if later >= cut.at and earlier <= cut.mended_at
        )
        return max(0.0, max(pauses, default=0.0) - interval)


class Ledger:
    """All messages of a demo.

    Args:
        nodes: The host ids of the nodes.
        interval: The seconds between two messages of a node, each sent to all other nodes.
    """

    def __init__(self, nodes: Sequence[int], interval: float) -> None:
        self.interval = interval
        self.cuts: list[Cut] = []
        self.corrupted: int = 0
        self._sent: dict[int, array[float]] = {node: array("d") for node in nodes}
        self.flows: dict[tuple[int, int], Flow] = {
            (source, receiver): Flow(source, receiver, self._sent[source])
            for source in nodes
            for receiver in nodes
            if source != receiver
        }

    def send(self, source: int, now: float) -> bytes:
        """Return the next message of ``source``, and record it as sent to all other nodes."""
        sent = self._sent[source]
        sent.append(now)
        return compose(source, len(sent) - 1, now)

    def receive(self, receiver: int, message: Message, now: float) -> None:
        """Record a message that arrived at ``receiver``."""
        source: int
        number: int
        try:
            source, number, _ = _HEAD.unpack_from(message.data)
        except struct.error:
            self.corrupted += 1
            return
        flow = self.flows.get((source, receiver))
        if (
            flow is None
            or source != message.source
            or number >= len(flow.sent_at)
            or message.data != compose(source, number, flow.sent_at[number])
        ):
            self.corrupted += 1
            return
        flow.arrive(number, now)

    @property
    def messages(self) -> int:
        """The number of messages sent, each counted once."""
        return sum(map(len, self._sent.values()))

    @property
    def sent(self) -> int:
        """The number of messages sent, each counted once for every receiver."""
        return sum(len(flow.sent_at) for flow in self.flows.values())

    @property
    def delivered(self) -> int:
        """The number of messages that arrived, each counted once for every receiver."""
        return sum(flow.delivered for flow in self.flows.values())

    @property
    def duplicates(self) -> int:
        """The number of repeated arrivals."""
        return sum(flow.duplicates for flow in self.flows.values())

    def sent_by(self, node: int) -> int:
        """Return the number of messages that ``node`` has sent."""
        return len(self._sent[node])

    def lost_in(self, cut: Cut) -> int:
        """Return the number of lost messages that were sent during ``cut``."""
        return sum(
            cut.covers(flow.sent_at[number])
            for flow in self.flows.values()
            for number in flow.lost()
        )

    def unexplained(self, policy: LinkPolicy) -> int:
        """Return the number of lost messages that no cut excuses.

        With the active policy these are all lost messages; with the others those that were not
        sent between a cut and the moment their sender knew that the link was dead.
        """
        lost = 0
        for flow in self.flows.values():
            for number in flow.lost():
                sent_at = flow.sent_at[number]
                lost += policy is LinkPolicy.ACTIVE or not any(
                    cut.covers(sent_at)
                    and sent_at <= cut.dead_at.get((flow.source, flow.receiver), cut.mended_at)
                    for cut in self.cuts
                )
        return lost

    def failover(self, cut: Cut) -> float:
        """Return the seconds that the slowest flow took to get over ``cut``.

        Where messages of the flow were lost: from the cut to the first message after the last lost
        one. Else: the longest pause between two arrivals, less the normal interval.
        """
        return max((flow.failover(cut, self.interval) for flow in self.flows.values()), default=0.0)

    def latencies(self) -> list[float]:
        """Return the seconds from sending to arrival of all messages that arrived, ascending."""
        return sorted(latency for flow in self.flows.values() for latency in flow.latencies())
