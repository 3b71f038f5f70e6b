"""The counters of links and handles, and the frozen records made of them."""

from __future__ import annotations

import enum
import time
from collections import Counter, deque
from types import MappingProxyType
from typing import Final, NamedTuple

import attrs

from knet_trio._core.liveness import Liveness
from knet_trio._core.round_trips import BOUNDS
from knet_trio._state.refusals import LastDrop
from knet_trio.address import Address
from knet_trio.errors import DropCause
from knet_trio.status import HandleStatistics, LinkCause, LinkStatistics

STATUS_TIMES: Final = 16
_NO_ROUND_TRIPS: Final = (0,) * (len(BOUNDS) + 1)


class Kind(enum.IntEnum):
    """The kind of a packet, for counting; its value is the index in ``LinkCounters.tallies``."""

    DATA = 0
    PING = 1
    PONG = 2
    PMTU = 3
    # A reply to a probe, when it is sent. The statistics leave it out, like libknet, which counts
    # only received replies as PMTU.
    PMTU_ANSWER = 4


_SHOWN: Final = (Kind.DATA, Kind.PING, Kind.PONG, Kind.PMTU)


@attrs.define
class Tally:
    """Packets of one kind on one link. Packets that the system refused count as sent, too."""

    tx_packets: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_retries: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0


class Trouble(NamedTuple):
    """The last thing that went wrong on a link.

    Attributes:
        what: The trouble in words.
        at: The time, in seconds on Trio's clock.
        errno: The system's number of the error.
        local: True if this machine reported it, False if the network did.
    """

    what: str
    at: float
    errno: int = 0
    local: bool = True


class Unopened(NamedTuple):
    """A packet that could not be opened.

    Attributes:
        datagram: The packet.
        source: The address that it came from.
        at: The time, in seconds on Trio's clock.
        cause: The cause under which it was dropped.
    """

    datagram: bytes
    source: Address
    at: float
    cause: DropCause


class CameForClosed(NamedTuple):
    """Messages for a channel that is not open: see ``ClosedChannel``."""

    messages: int
    host_id: int
    at: float


LARGEST_UNOPENED: Final = 256
"""The largest packet that is kept as ``Unopened``, in bytes: enough for a ping."""


class LinkCounters:
    """The counters of one link.

    Bytes are UDP payloads for sent packets, and packets without their envelopes for received ones.

    Attributes:
        trouble: The last trouble, None if there was none.
        tallies: Packets by their ``Kind``.
        drops: Packets that were dropped, by cause.
        last_drops: The last drop of each cause that is logged.
        unopened: The last small packet that could not be opened, None before the first.
        up_count: How often the link went up.
        down_count: How often the link went down.
        transitions: How often the link went up or down, by cause.
        up_times: When the link went up, the last times, as times of day.
        down_times: When the link went down, the last times, as times of day.
    """

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self.clear()

    def clear(self) -> None:
        """Set all counters to zero. The last trouble stays."""
        self.tallies: list[Tally] = [Tally() for _ in Kind]
        self.drops: Counter[DropCause] = Counter()
        self.last_drops: dict[DropCause, LastDrop] = {}
        self.unopened: Unopened | None = None
        self.up_count: int = 0
        self.down_count: int = 0
        self.transitions: Counter[LinkCause] = Counter()
        self.up_times: deque[float] = deque(maxlen=STATUS_TIMES)
        self.down_times: deque[float] = deque(maxlen=STATUS_TIMES)

    def sent(self, kind: Kind, packets: int, size: int) -> None:
        """Count packets that were sent, ``size`` bytes together."""
        tally = self.tallies[kind]
        tally.tx_packets += packets
        tally.tx_bytes += size

    def delayed(self, kind: Kind, packets: int) -> None:
        """Count packets that the socket had no room for."""
        self.tallies[kind].tx_retries += packets

    def failed(self, kind: Kind, size: int) -> None:
        """Count a packet of ``size`` bytes that the system refused to send, as sent too."""
        tally = self.tallies[kind]
        tally.tx_packets += 1
        tally.tx_bytes += size
        tally.tx_errors += 1

    def received(self, kind: Kind, packets: int, size: int) -> None:
        """Count packets that were received, ``size`` bytes together without their envelopes."""
        tally = self.tallies[kind]
        tally.rx_packets += packets
        tally.rx_bytes += size

    def drop(self, cause: DropCause, times: int = 1) -> None:
        """Count packets that were dropped; ``Context.refuse`` counts them for the handle too."""
        self.drops[cause] += times

    def note(self, what: str, at: float, number: int = 0, *, local: bool = True) -> None:
        """Remember a trouble for ``explain``.

        Args:
            what: The trouble in words.
            at: The time, in seconds on Trio's clock.
            number: The system's number of the error.
            local: True if this machine reported it, False if the network did.
        """
        self.trouble = Trouble(what, at, number, local)

    def went_up(self, cause: LinkCause) -> None:
        """Count that the link went up."""
        self.up_count += 1
        self.transitions[cause] += 1
        self.up_times.append(time.time())

    def went_down(self, cause: LinkCause) -> None:
        """Count that the link went down."""
        self.down_count += 1
        self.transitions[cause] += 1
        self.down_times.append(time.time())

    def snapshot(self, liveness: Liveness | None = None) -> LinkStatistics:
        """Return a record of the counters, with the latencies of ``liveness``."""
        tallies = [self.tallies[kind] for kind in _SHOWN]
        total = Tally(
            **{
                field.name: sum(getattr(tally, field.name) for tally in tallies)
                for field in attrs.fields(Tally)
            }
        )
        numbers: dict[str, int] = {}
        named = zip([kind.name.lower() for kind in _SHOWN], tallies, strict=True)
        for name, tally in [*named, ("total", total)]:
            for field, value in attrs.asdict(tally).items():
                direction, _, what = field.partition("_")
                numbers[f"{direction}_{name}_{what}"] = value
        return LinkStatistics(
            **numbers,
            latency_min=liveness.latency_min if liveness else None,
            latency_max=liveness.latency_max if liveness else None,
            latency_ave=liveness.latency if liveness and liveness.latency_samples else None,
            latency_samples=liveness.latency_samples if liveness else 0,
            latency_total=liveness.round_trips.total if liveness else 0.0,
            latency_buckets=liveness.round_trips.counts if liveness else _NO_ROUND_TRIPS,
            up_count=self.up_count,
            down_count=self.down_count,
            transitions=MappingProxyType({cause: self.transitions[cause] for cause in LinkCause}),
            last_up_times=tuple(self.up_times),
            last_down_times=tuple(self.down_times),
        )


@attrs.define
class Timing:
    """The duration of an operation, in seconds."""

    count: int = 0
    total: float = 0.0
    min: float | None = None
    max: float | None = None

    def add(self, seconds: float, times: int) -> None:
        """Add ``times`` operations that took ``seconds`` together."""
        if times:
            each = seconds / times
            self.count += times
            self.total += seconds
            self.min = each if self.min is None else min(self.min, each)
            self.max = each if self.max is None else max(self.max, each)

    @property
    def ave(self) -> float | None:
        """The average, None before the first operation."""
        return self.total / self.count if self.count else None


@attrs.define
class CompressionTally:
    """Messages that were compressed or decompressed."""

    packets: int = 0
    original_bytes: int = 0
    size_bytes: int = 0
    time: Timing = attrs.field(factory=Timing)

    def add(self, original: int, size: int, seconds: float) -> None:
        """Add a message.

        Args:
            original: The size of the message, in bytes.
            size: Its compressed size, in bytes.
            seconds: The time it took.
        """
        self.packets += 1
        self.original_bytes += original
        self.size_bytes += size
        self.time.add(seconds, 1)


class HandleCounters:
    """The counters of a handle.

    Attributes:
        drops: Packets and messages that were dropped, by cause.
        linkless_drops: The same without those that were counted for a link.
        last_drops: The last drop of each cause that is logged, without those of links.
        unopened: The last small packet that could not be opened, without those of links.
        closed_channels: The messages for channels that are not open, by channel.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Set all counters to zero."""
        self.drops: Counter[DropCause] = Counter()
        self.linkless_drops: Counter[DropCause] = Counter()
        self.last_drops: dict[DropCause, LastDrop] = {}
        self.unopened: Unopened | None = None
        self.closed_channels: dict[int, CameForClosed] = {}
        self.tx_uncompressed: int = 0
        self.tx_compress: CompressionTally = CompressionTally()
        self.rx_compress: CompressionTally = CompressionTally()
        # Bytes and time of data packets. Control packets are only counted.
        self.tx_crypt_overhead = 0
        self.tx_crypt: Timing = Timing()
        self.tx_crypt_control = 0
        self.rx_crypt: Timing = Timing()
        self.tx_failed_to_compress = 0
        self.tx_unable_to_compress: int = 0
        self.rx_failed_to_decompress = 0

    def handed_over(self, tried: tuple[int, int, float] | None, unchanged: int) -> None:
        """Count messages that are handed over while compression is on.

        Args:
            tried: The size of the message that was compressed, before and after in bytes, and the
                time in seconds; None if none was.
            unchanged: The number of messages that are sent uncompressed.
        """
        self.tx_uncompressed += unchanged
        if tried is not None:
            original, size, seconds = tried
            self.tx_compress.add(original, size, seconds)
            if size >= original:
                self.tx_unable_to_compress += 1

    def drop(self, cause: DropCause, times: int = 1) -> None:
        """Count packets or messages that were dropped."""
        self.drops[cause] += times
        self.linkless_drops[cause] += times

    def came_for_closed(self, channel: int, host_id: int, messages: int, now: float) -> None:
        """Count messages of a host for a channel that is not open."""
        before = self.closed_channels.get(channel)
        if before is not None:
            messages += before.messages
        self.closed_channels[channel] = CameForClosed(messages, host_id, now)

    def snapshot(self) -> HandleStatistics:
        """Return a record of the counters."""
        tx, rx = self.tx_compress, self.rx_compress
        return HandleStatistics(
            tx_uncompressed_packets=self.tx_uncompressed,
            tx_compressed_packets=tx.packets,
            tx_compressed_original_bytes=tx.original_bytes,
            tx_compressed_size_bytes=tx.size_bytes,
            tx_compress_time_ave=tx.time.ave,
            tx_compress_time_min=tx.time.min,
            tx_compress_time_max=tx.time.max,
            rx_compressed_packets=rx.packets,
            rx_compressed_original_bytes=rx.original_bytes,
            rx_compressed_size_bytes=rx.size_bytes,
            rx_compress_time_ave=rx.time.ave,
            rx_compress_time_min=rx.time.min,
            rx_compress_time_max=rx.time.max,
            tx_crypt_packets=self.tx_crypt.count + self.tx_crypt_control,
            tx_crypt_byte_overhead=self.tx_crypt_overhead,
            tx_crypt_time_ave=self.tx_crypt.ave,
            tx_crypt_time_min=self.tx_crypt.min,
            tx_crypt_time_max=self.tx_crypt.max,
            rx_crypt_packets=self.rx_crypt.count,
            rx_crypt_time_ave=self.rx_crypt.ave,
            rx_crypt_time_min=self.rx_crypt.min,
            rx_crypt_time_max=self.rx_crypt.max,
            tx_failed_to_compress=self.tx_failed_to_compress,
            tx_unable_to_compress=self.tx_unable_to_compress,
            rx_failed_to_decompress=self.rx_failed_to_decompress,
            drops=MappingProxyType({cause: self.drops[cause] for cause in DropCause}),
        )
