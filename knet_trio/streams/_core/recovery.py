"""Loss detection and the probe timeout, by RFC 9002.

A packet is lost when a later one has been acknowledged that was sent at least three packets later,
or when 9/8 of a round trip have passed. A lost packet is not repeated as it was: its contents go
into new packets and may be cut differently.

Where packets overtake each other (links of different latency, with the round-robin policy), some
packets are declared lost and arrive later. Lost packets are remembered for a while. If one is
acknowledged after all, the thresholds grow so that it would not have been declared lost, and the
congestion window returns to its size before.

If nothing is acknowledged for a probe timeout, two packets are sent whatever the window is. They
carry the contents of the oldest packets, which need not be detected as lost first.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice, pairwise
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
from knet_trio.streams._core.range_set import RangeSet
from knet_trio.streams._core.round_trip import RoundTripEstimate

if TYPE_CHECKING:
    from knet_trio.streams._core.control_frames import Control
    from knet_trio.streams._core.stream_state import StreamState

# The largest number of lost packets that are remembered.
_REMEMBERED: Final = 1024
# The probe timeout has reached its maximum after this many doublings.
_MOST_DOUBLINGS: Final = 10
# After this many probe timeouts in a row, the oldest packets count as lost when they are probed:
# otherwise two more packets would be kept each second while nothing is acknowledged.
_KEPT_PROBES: Final = 10


class SentRun:
    """Consecutive packets that were sent together and are alike; mostly just one.

    Attributes:
        number: The number of the first packet.
        count: The number of packets. If more than one, they carry equal parts of one piece and
            nothing else.
        sent: When they were sent [seconds].
        size: The size of each packet [bytes].
        place: The position of the first among all ack-eliciting packets.
        pieces: The pieces of streams in them: stream, first and end place (see ``SendingHalf``).
        controls: The control frames in them, which are sent again if lost.
        largest_acked: The highest packet number that they acknowledge; -1 for none.
    """

    __slots__ = ("controls", "count", "largest_acked", "number", "pieces", "place", "sent", "size")

    def __init__(
        self,
        number: int,
        count: int,
        sent: float,
        size: int,
        pieces: Sequence[tuple[StreamState, int, int]],
        controls: Sequence[Control] = (),
        largest_acked: int = -1,
    ) -> None:
        self.number: int = number
        self.count: int = count
        self.sent: float = sent
        self.size: int = size
        self.place: int = 0
        self.pieces: Sequence[tuple[StreamState, int, int]] = pieces
        self.controls: Sequence[Control] = controls
        self.largest_acked: int = largest_acked

    def part(self, start: int, stop: int) -> SentRun:
        """Return the part of the run with the numbers ``[start, stop)``."""
        if start <= self.number and stop >= self.number + self.count:
            return self
        ((stream, first, end),) = self.pieces
        share = (end - first) // self.count
        before = start - self.number
        first += before * share
        piece = stream, first, first + (stop - start) * share
        part = SentRun(start, stop - start, self.sent, self.size, (piece,))
        part.place = self.place + before
        return part


class Recovery:
    """The packets of a connection that are in flight, and the detection of losses.

    Attributes:
        round_trip: The round-trip estimate.
        congestion: The congestion control.
        in_flight: Bytes in flight.
        loss_deadline: When packets count as lost by time [seconds]; infinity if none do.
        probe_deadline: When the probe timeout expires [seconds]; infinity with nothing in flight.
        waiting_since: When a new packet was acknowledged last, or when the first packet in flight
            was sent [seconds].
        arrived_packets: Packets acknowledged so far.
        lost_packets: Packets declared lost so far.
        spurious: Packets declared lost that arrived after all.
    """

    def __init__(self, congestion: CongestionControl) -> None:
        self.round_trip: RoundTripEstimate = RoundTripEstimate()
        self.congestion = congestion
        self.in_flight: int = 0
        self.loss_deadline: float = math.inf
        self.probe_deadline: float = math.inf
        self.waiting_since: float = -math.inf
        self.arrived_packets: int = 0
        self.lost_packets: int = 0
        self.spurious: int = 0
        self._sent: dict[int, SentRun] = {}
        self._remembered: dict[int, SentRun] = {}
        self._largest = -1
        # The highest number that was sent plus one.
        self._sent_to = 0
        self._places = 0
        self._probes_in_a_row = 0
        self._packet_threshold = PACKET_THRESHOLD
        self._time_threshold = TIME_THRESHOLD
        # Packets of the last window reduction that still count as lost.
        self._doubted = 0

    def __len__(self) -> int:
        """Return the number of runs in flight."""
        return len(self._sent)

    @property
    def room(self) -> int:
        """The bytes that the congestion window still allows."""
        return self.congestion.window - self.in_flight

    @property
    def newest(self) -> SentRun | None:
        """The run in flight that was sent last; None if there is none."""
        return next(reversed(self._sent.values()), None)

    def sent(self, run: SentRun) -> None:
        """Note that packets were sent; call ``arm`` after the last ones."""
        if not self._sent and not self._probes_in_a_row:
            self.waiting_since = run.sent
        run.place = self._places
        self._places += run.count
        self._sent[run.number] = run
        self._sent_to = run.number + run.count
        self.in_flight += run.size * run.count

    def arm(self, now: float) -> None:
        """Restart the probe timeout, after packets were sent or acknowledged."""
        if not self._sent:
            self.probe_deadline = math.inf
            return
        timeout = self.round_trip.probe_timeout
        if self._probes_in_a_row:
            timeout *= 2 ** min(self._probes_in_a_row, _MOST_DOUBLINGS)
        self.probe_deadline = now + (timeout if timeout < MAX_PROBE_TIMEOUT else MAX_PROBE_TIMEOUT)

    def acknowledged(
        self, ranges: Sequence[tuple[int, int]], delay: float, now: float
    ) -> tuple[list[SentRun], list[SentRun]]:
        """Process an acknowledgement.

        Args:
            ranges: Ranges ``[start, end)`` of packet numbers, the highest first.
            delay: The delay of the acknowledgement [seconds].
            now: The time.

        Returns:
            The packets newly acknowledged, and the packets declared lost.
        """
        was_full = self.in_flight * 2 >= self.congestion.window
        sent = self._sent
        if len(sent) == 1 and ranges[0][1] == self._sent_to:
            # The usual case of a single request: everything in flight is acknowledged.
            ((number, only),) = sent.items()
            if ranges[0][0] <= number and not self._remembered:
                sent.clear()
                self._all_arrived(only, delay, now, full=was_full)
                return [only], []
        arrived = self._take(ranges)
        spurious = self._find_spurious(ranges) if self._remembered else []
        if arrived or spurious:
            self.waiting_since = now
        if not arrived:
            return spurious, []
        # The runs are in ascending order.
        newest = arrived[-1]
        largest = newest.number + newest.count - 1
        size = sum([run.size * run.count for run in arrived])
        self.in_flight -= size
        self.arrived_packets += sum([run.count for run in arrived])
        if largest > self._largest:
            self._largest = largest
        if largest == ranges[0][1] - 1:
            self.round_trip.measure(now - newest.sent, delay)
        self._probes_in_a_row = 0
        self.loss_deadline = math.inf
        lost = self.find_lost(now) if self._sent else []
        self.congestion.acknowledged(size, newest.sent, now, self.round_trip.smooth, full=was_full)
        self.arm(now)
        return arrived + spurious, lost

    def _all_arrived(self, run: SentRun, delay: float, now: float, *, full: bool) -> None:
        """Note that ``run`` was acknowledged and nothing else is in flight."""
        size = run.size * run.count
        self.in_flight -= size
        self.arrived_packets += run.count
        self._largest = run.number + run.count - 1
        self.round_trip.measure(now - run.sent, delay)
        self._probes_in_a_row = 0
        self.loss_deadline = self.probe_deadline = math.inf
        self.congestion.acknowledged(size, run.sent, now, self.round_trip.smooth, full=full)

    def find_lost(self, now: float) -> list[SentRun]:
        """Declare packets lost that meet a threshold by now, and return them."""
        self.loss_deadline = math.inf
        delay = max(
            self._time_threshold * max(self.round_trip.smooth, self.round_trip.latest), GRANULARITY
        )
        lost: list[SentRun] = []
        by_number = self._largest - self._packet_threshold + 1
        for run in self._sent.values():
            number, stop = run.number, run.number + run.count
            if number > self._largest:
                break
            by_time = run.sent + delay <= now
            lost_before = self._largest + 1 if by_time else by_number
            if number < lost_before:
                lost.append(run.part(number, min(stop, lost_before)))
            if not by_time and max(number, lost_before) < min(stop, self._largest + 1):
                # The runs after it were sent later.
                self.loss_deadline = run.sent + delay
                break
        if lost:
            self._lose(lost, now)
        return lost

    def probe(self, now: float, count: int) -> list[SentRun]:
        """Return the oldest packets, whose contents are to be sent again as probes.

        They stay in flight, unless ``_KEPT_PROBES`` probe timeouts in a row have expired before.
        """
        self._probes_in_a_row += 1
        self.arm(now)
        oldest: list[SentRun] = []
        for run in self._sent.values():
            oldest.append(run.part(run.number, run.number + min(count, run.count)))
            count -= run.count
            if count <= 0:
                break
        if oldest and self._probes_in_a_row > _KEPT_PROBES:
            self._lose(oldest, now)
        return oldest

    def wait_again(self, since: float) -> None:
        """Treat packets in flight as sent at ``since`` at the earliest."""
        self.waiting_since = max(self.waiting_since, since)

    def hint(self, now: float) -> None:
        """Probe soon: the state of a link has changed."""
        self._probes_in_a_row = 0
        if self._sent:
            self.probe_deadline = min(self.probe_deadline, now + GRANULARITY)

    def _take(self, ranges: Sequence[tuple[int, int]]) -> list[SentRun]:
        """Remove and return the packets with numbers in ``ranges``, in ascending order."""
        if not self._sent:
            return []
        if ranges[0][1] >= self._sent_to and ranges[0][0] <= next(iter(self._sent)):
            everything = list(self._sent.values())
            self._sent.clear()
            return everything
        arrived: list[SentRun] = []
        torn: list[SentRun] = []
        end_of_all = ranges[0][1]
        index = len(ranges) - 1
        low, high = ranges[index]
        for run in self._sent.values():
            first = run.number
            if first >= end_of_all:
                break
            while high <= first:
                index -= 1
                low, high = ranges[index]
            stop = first + run.count
            if low <= first and stop <= high:
                arrived.append(run)
            elif stop > low:
                torn.append(run)
                arrived += _common(run, ranges)
        self._remove(arrived, torn)
        return arrived

    def _remove(self, parts: Sequence[SentRun], torn: Sequence[SentRun]) -> None:
        """Remove packets: whole runs, and parts of the runs ``torn``."""
        sent = self._sent
        if not torn:
            for run in parts:
                del sent[run.number]
            return
        gone = RangeSet()
        for part in parts:
            gone.add(part.number, part.number + part.count)
        left: list[SentRun] = []
        for run in sent.values():
            start, stop = run.number, run.number + run.count
            for low, high in gone.overlaps(start, stop):
                if start < low:
                    left.append(run.part(start, low))
                start = high
            if start < stop:
                left.append(run.part(start, stop))
        self._sent = {run.number: run for run in left}

    def _lose(self, lost: list[SentRun], now: float) -> None:
        # Only the last one can be a part of a run.
        last = lost[-1]
        torn = [last] if self._sent[last.number] is not last else []
        self._remove(lost, torn)
        self._remember(lost)
        count = sum([run.count for run in lost])
        size = sum([run.size * run.count for run in lost])
        self.in_flight -= size
        self.lost_packets += count
        estimate = self.round_trip
        queueing = max(0.0, estimate.smooth - estimate.least) if estimate.is_measured else 0.0
        if self.congestion.lost(size, last.sent, now, queueing):
            self._doubted = 0
        self._doubted += count
        if self._is_persistent(lost):
            self.congestion.collapse()

    def _remember(self, lost: Sequence[SentRun]) -> None:
        """Remember lost packets one by one, the latest ``_REMEMBERED`` of all."""
        remembered = self._remembered
        kept: list[SentRun] = []
        for run in reversed(lost):
            stop = run.number + run.count
            start = max(run.number, stop - _REMEMBERED + len(kept))
            kept += [run.part(number, number + 1) for number in range(stop - 1, start - 1, -1)]
            if len(kept) == _REMEMBERED:
                break
        excess = len(remembered) + len(kept) - _REMEMBERED
        if excess > 0:
            for number in list(islice(remembered, excess)):
                del remembered[number]
        for part in reversed(kept):
            remembered[part.number] = part

    def _is_persistent(self, lost: list[SentRun]) -> bool:
        """Return whether all packets of a long period are lost."""
        if not self.round_trip.is_measured:
            return False
        duration = PERSISTENT * self.round_trip.probe_timeout
        first = lost[0]
        for before, packet in pairwise(lost):
            if packet.place != before.place + before.count:
                first = packet
            elif packet.sent - first.sent > duration:
                return True
        return False

    def _find_spurious(self, ranges: Sequence[tuple[int, int]]) -> list[SentRun]:
        """Return packets declared lost that were acknowledged now, and adapt the thresholds."""
        remembered = self._remembered
        # Ascending: packets lost later were sent later.
        numbers = list(remembered)
        oldest = numbers[0]
        found: list[SentRun] = []
        for start, end in ranges:
            if end <= oldest:
                break
            first = bisect_left(numbers, start)
            last = bisect_left(numbers, end, first)
            if first < last:
                found += [remembered.pop(number) for number in numbers[first:last]]
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


def _common(run: SentRun, ranges: Sequence[tuple[int, int]]) -> list[SentRun]:
    """Return the parts of a run whose numbers are in ``ranges``, in ascending order."""
    first, stop = run.number, run.number + run.count
    return [
        run.part(max(first, low), min(stop, high))
        for low, high in reversed(ranges)
        if low < stop and first < high
    ]
