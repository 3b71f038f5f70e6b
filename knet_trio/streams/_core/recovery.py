"""Which packets are lost, as RFC 9002 finds out.

A packet is lost when one that was sent later has been acknowledged, and that one was sent three
packets later, or 9/8 of a round trip have passed. What is lost is not sent again as it was: those
who have put something into it are told, and it goes into other packets, cut anew.

Where packets overtake each other (links of different latency, with the round-robin policy) some are
taken for lost that arrive later. They are remembered for a while. When one is acknowledged after
all, the thresholds grow so that it would not have been taken for lost, and the congestion window is
as large again as before.

If nothing is acknowledged for a probe timeout, two packets are sent whatever the window is: with
what is oldest, so that it need not be found lost first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from knet_trio.streams._core.congestion import CongestionControl
from knet_trio.streams._core.limits import (
    GRANULARITY,
    MAX_PACKET_THRESHOLD,
    MAX_PROBE_TIMEOUT,
    MAX_TIME_THRESHOLD,
    PACKET_THRESHOLD,
    PERSISTENT,
    TIME_THRESHOLD,
)
from knet_trio.streams._core.round_trip import RoundTripEstimate

if TYPE_CHECKING:
    from knet_trio.streams._core.control_frames import Control
    from knet_trio.streams._core.stream_state import StreamState

# Packets that were taken for lost and are remembered, at most.
_REMEMBERED: Final = 1024


class SentPacket:
    """A packet that has to be acknowledged.

    Attributes:
        number: Its number.
        sent: When it was sent, in seconds.
        size: Its bytes.
        place: Its place among the packets that have to be acknowledged.
        pieces: What is in it of streams: the stream, from where to where (see ``SendingHalf``).
        controls: The other frames that are to be sent again if it is lost.
        told: The highest number that it acknowledges, -1 for none.
    """

    __slots__ = ("controls", "number", "pieces", "place", "sent", "size", "told")

    def __init__(
        self,
        number: int,
        sent: float,
        size: int,
        pieces: Sequence[tuple[StreamState, int, int]],
        controls: Sequence[Control],
        told: int,
    ) -> None:
        self.number = number
        self.sent = sent
        self.size = size
        self.place = 0
        self.pieces = pieces
        self.controls = controls
        self.told = told


class Recovery:
    """The packets of a connection that are on their way.

    Attributes:
        round_trip: The round trip, as measured.
        congestion: How many bytes may be on their way.
        in_flight: How many bytes are on their way.
        loss_deadline: When packets are lost by time, in seconds; infinity if there is no such time.
        probe_deadline: When the probe timeout is over; infinity while nothing is on its way.
        arrived_packets: How many packets were acknowledged so far.
        lost_packets: How many packets were taken for lost so far.
        spurious: How many of those arrived after all.
    """

    def __init__(self, congestion: CongestionControl) -> None:
        self.round_trip = RoundTripEstimate()
        self.congestion = congestion
        self.in_flight = 0
        self.loss_deadline = math.inf
        self.probe_deadline = math.inf
        self.arrived_packets = 0
        self.lost_packets = 0
        self.spurious = 0
        self._sent: dict[int, SentPacket] = {}
        self._remembered: dict[int, SentPacket] = {}
        self._largest = -1
        self._places = 0
        self._probes_in_a_row = 0
        self._packet_threshold = PACKET_THRESHOLD
        self._time_threshold = TIME_THRESHOLD
        # Packets of the last reduction of the window that are still taken for lost.
        self._doubted = 0

    def __len__(self) -> int:
        """Return how many packets are on their way."""
        return len(self._sent)

    @property
    def room(self) -> int:
        """How many bytes more the congestion window lets out."""
        return self.congestion.window - self.in_flight

    def sent(self, packet: SentPacket) -> None:
        """Note that a packet was sent; ``arm`` has to be called after the last one."""
        packet.place = self._places
        self._places += 1
        self._sent[packet.number] = packet
        self.in_flight += packet.size

    def arm(self, now: float) -> None:
        """Set the probe timeout anew: packets were sent, or acknowledged."""
        if not self._sent:
            self.probe_deadline = math.inf
            return
        timeout = self.round_trip.probe_timeout() * 2**self._probes_in_a_row
        self.probe_deadline = now + min(timeout, MAX_PROBE_TIMEOUT)

    def acknowledged(
        self, ranges: Sequence[tuple[int, int]], delay: float, now: float
    ) -> tuple[list[SentPacket], list[SentPacket]]:
        """Take an acknowledgement into account.

        Args:
            ranges: Ranges ``[start, end)`` of packet numbers, the highest first.
            delay: For how long it was put off, in seconds.
            now: The time.

        Returns:
            Packets that have arrived, and packets that are lost.
        """
        was_full = self.in_flight * 2 >= self.congestion.window
        arrived = self._take(ranges)
        spurious = self._find_spurious(ranges) if self._remembered else []
        if not arrived:
            return spurious, []
        newest = arrived[0]
        size = 0
        for packet in arrived:
            size += packet.size
            if packet.number > newest.number:
                newest = packet
        self.in_flight -= size
        self.arrived_packets += len(arrived)
        if newest.number > self._largest:
            self._largest = newest.number
        if newest.number == ranges[0][1] - 1:
            self.round_trip.measure(now - newest.sent, delay)
        self._probes_in_a_row = 0
        lost = self.find_lost(now)
        self.congestion.acknowledged(size, newest.sent, now, self.round_trip.smooth, full=was_full)
        self.arm(now)
        return arrived + spurious, lost

    def find_lost(self, now: float) -> list[SentPacket]:
        """Return the packets that are lost by now."""
        self.loss_deadline = math.inf
        delay = max(
            self._time_threshold * max(self.round_trip.smooth, self.round_trip.latest), GRANULARITY
        )
        lost: list[SentPacket] = []
        by_number = self._largest - self._packet_threshold
        for packet in self._sent.values():
            number = packet.number
            if number > self._largest:
                break
            if number > by_number and packet.sent + delay > now:
                # Those after it were sent later.
                self.loss_deadline = packet.sent + delay
                break
            lost.append(packet)
        if lost:
            self._lose(lost, now)
        return lost

    def probe(self, now: float, count: int) -> list[SentPacket]:
        """Return the oldest packets, whose contents are to be sent again as probes."""
        self._probes_in_a_row += 1
        self.arm(now)
        return [packet for packet, _ in zip(self._sent.values(), range(count), strict=False)]

    def hint(self, now: float) -> None:
        """Probe soon: there is news of the links."""
        self._probes_in_a_row = 0
        if self._sent:
            self.probe_deadline = min(self.probe_deadline, now + GRANULARITY)

    def _take(self, ranges: Sequence[tuple[int, int]]) -> list[SentPacket]:
        """Remove and return the packets with numbers in ``ranges``."""
        sent = self._sent
        if not sent:
            return []
        oldest = next(iter(sent))
        arrived: list[SentPacket] = []
        for start, end in ranges:
            if end <= oldest:
                break
            start = max(start, oldest)
            if end - start > 2 * len(sent):
                numbers = [number for number in sent if start <= number < end]
                arrived += [sent.pop(number) for number in numbers]
                continue
            for number in range(start, end):
                packet = sent.pop(number, None)
                if packet is not None:
                    arrived.append(packet)
        return arrived

    def _lose(self, lost: list[SentPacket], now: float) -> None:
        remembered = self._remembered
        for packet in lost:
            del self._sent[packet.number]
            self.in_flight -= packet.size
            remembered[packet.number] = packet
        self.lost_packets += len(lost)
        while len(remembered) > _REMEMBERED:
            del remembered[next(iter(remembered))]
        if self.congestion.lost(lost[-1].sent, now):
            self._doubted = 0
        self._doubted += len(lost)
        if self._is_persistent(lost):
            self.congestion.collapse()

    def _is_persistent(self, lost: list[SentPacket]) -> bool:
        """Whether all packets of a long time are lost."""
        if not self.round_trip.is_measured:
            return False
        duration = PERSISTENT * self.round_trip.probe_timeout()
        first = lost[0]
        for before, packet in pairwise(lost):
            if packet.place != before.place + 1:
                first = packet
            elif packet.sent - first.sent > duration:
                return True
        return False

    def _find_spurious(self, ranges: Sequence[tuple[int, int]]) -> list[SentPacket]:
        """Return packets that were taken for lost and have arrived, and learn from them."""
        remembered = self._remembered
        oldest = next(iter(remembered))
        found: list[SentPacket] = []
        for start, end in ranges:
            if end <= oldest:
                break
            numbers = [number for number in remembered if start <= number < end]
            found += [remembered.pop(number) for number in numbers]
            if not remembered:
                break
        if found:
            self.spurious += len(found)
            behind = ranges[0][1] - min(packet.number for packet in found)
            behind = min(behind, MAX_PACKET_THRESHOLD)
            self._packet_threshold = max(self._packet_threshold, behind)
            self._time_threshold = min(self._time_threshold * TIME_THRESHOLD, MAX_TIME_THRESHOLD)
            self._doubted -= len(found)
            if self._doubted <= 0:
                self.congestion.were_not_lost()
        return found
