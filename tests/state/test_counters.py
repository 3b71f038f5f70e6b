from __future__ import annotations

import attrs
import pytest

from knet_trio._core.liveness import Liveness
from knet_trio._state.counters import (
    STATUS_TIMES,
    HandleCounters,
    Kind,
    LinkCounters,
    Tally,
    Timing,
)
from knet_trio.errors import DropCause
from knet_trio.status import LinkCause, LinkStatistics
from tests.drops import counted

FIELDS = [field.name for field in attrs.fields(Tally)]


class TestLinkCounters:
    def test_totals_are_the_sums(self) -> None:
        counters = LinkCounters()
        for i, kind in enumerate(Kind):
            for j, field in enumerate(FIELDS):
                setattr(counters.tallies[kind], field, 10**i * (j + 1))
        snapshot = attrs.asdict(counters.snapshot(Liveness(0.0)))
        for j, field in enumerate(FIELDS):
            direction, _, what = field.partition("_")
            # Answers to probes that are sent are not shown.
            for i, kind in enumerate((Kind.DATA, Kind.PING, Kind.PONG, Kind.PMTU)):
                shown = snapshot.get(f"{direction}_{kind.name.lower()}_{what}")
                assert shown == 10**i * (j + 1)
            assert snapshot[f"{direction}_total_{what}"] == 1111 * (j + 1)

    def test_what_the_system_refused_was_sent(self) -> None:
        counters = LinkCounters()
        counters.sent(Kind.DATA, 2, 300)
        counters.failed(Kind.DATA, 50)
        snapshot = counters.snapshot(Liveness(0.0))
        assert (snapshot.tx_data_packets, snapshot.tx_data_bytes) == (3, 350)
        assert snapshot.tx_data_errors == snapshot.tx_total_errors == 1

    def test_before_anything_happened(self) -> None:
        snapshot = LinkCounters().snapshot(Liveness(0.0))
        assert snapshot.tx_total_packets == snapshot.rx_total_bytes == 0
        assert snapshot.latency_min is snapshot.latency_max is snapshot.latency_ave is None
        assert snapshot.last_up_times == snapshot.last_down_times == ()

    def test_latencies_come_from_the_heartbeat(self) -> None:
        liveness = Liveness(0.0)
        for sent, answered in [(0.0, 0.25), (1.0, 1.75)]:
            liveness.pong_received(answered, liveness.ping_time(sent))
        snapshot = LinkCounters().snapshot(liveness)
        assert (snapshot.latency_min, snapshot.latency_max) == (0.25, 0.75)
        assert snapshot.latency_ave == 0.5
        assert snapshot.latency_samples == 2

    def test_round_trips_are_counted_by_how_long_they_took(self) -> None:
        liveness = Liveness(0.0)
        for sent, answered in [(0.0, 0.25), (1.0, 1.75), (2.0, 2.75)]:
            ping = liveness.ping_time(sent)
            liveness.left(ping, sent)
            liveness.pong_received(answered, ping)
        snapshot = LinkCounters().snapshot(liveness)
        counts = dict(zip(LinkStatistics.LATENCY_BOUNDS, snapshot.latency_buckets, strict=False))
        assert {bound: count for bound, count in counts.items() if count} == {0.25: 1, 1.0: 2}
        assert snapshot.latency_total == 1.75
        assert LinkCounters().snapshot().latency_buckets == (0,) * len(snapshot.latency_buckets)

    def test_each_time_has_its_cause(self) -> None:
        counters = LinkCounters()
        counters.went_up(LinkCause.ANSWERED)
        counters.went_down(LinkCause.NO_PONG)
        counters.went_up(LinkCause.ANSWERED)
        snapshot = counters.snapshot()
        assert snapshot.transitions[LinkCause.ANSWERED] == snapshot.up_count == 2
        assert snapshot.transitions[LinkCause.NO_PONG] == snapshot.down_count == 1
        assert snapshot.transitions[LinkCause.REFUSED] == 0

    def test_only_the_last_times_are_kept(self) -> None:
        counters = LinkCounters()
        counters.up_times.extend(range(20))
        counters.down_times.extend(range(3))
        counters.up_count, counters.down_count = 20, 3
        snapshot = counters.snapshot(Liveness(0.0))
        assert list(snapshot.last_up_times) == list(range(20 - STATUS_TIMES, 20))
        assert list(snapshot.last_down_times) == [0, 1, 2]
        assert (snapshot.up_count, snapshot.down_count) == (20, 3)

    def test_a_snapshot_stays_as_it_was(self) -> None:
        counters = LinkCounters()
        before = counters.snapshot(Liveness(0.0))
        counters.tallies[Kind.PING].tx_packets += 1
        counters.up_times.append(1.0)
        assert before == LinkCounters().snapshot(Liveness(0.0))


class TestTiming:
    def test_mean_and_extremes(self) -> None:
        timing = Timing()
        timing.add(1.0, 4)
        timing.add(0.5, 1)
        assert timing.count == 5
        assert timing.ave == pytest.approx(0.3)
        assert (timing.min, timing.max) == (0.25, 0.5)

    def test_nothing(self) -> None:
        timing = Timing()
        timing.add(1.0, 0)
        assert timing == Timing()
        assert timing.ave is None


class TestHandleCounters:
    def test_drops_add_up(self) -> None:
        counters = HandleCounters()
        counters.drop(DropCause.DUPLICATE)
        counters.drop(DropCause.DUPLICATE, 3)
        counters.drop(DropCause.HOST_DOWN)
        assert counted(counters.snapshot().drops) == {
            DropCause.DUPLICATE: 4,
            DropCause.HOST_DOWN: 1,
        }

    def test_every_cause_is_shown(self) -> None:
        counters = HandleCounters()
        counters.drop(DropCause.DUPLICATE)
        drops = counters.snapshot().drops
        assert list(drops) == list(DropCause)
        assert sum(drops.values()) == 1

    def test_a_snapshot_stays_as_it_was_and_cannot_be_changed(self) -> None:
        counters = HandleCounters()
        counters.drop(DropCause.DUPLICATE)
        drops = counters.snapshot().drops
        counters.drop(DropCause.DUPLICATE)
        assert drops[DropCause.DUPLICATE] == 1
        with pytest.raises(TypeError):
            drops[DropCause.DUPLICATE] = 0  # type: ignore[index]  # pyright: ignore[reportIndexIssue]

    def test_all_that_is_counted_is_shown(self) -> None:
        counters = HandleCounters()
        counters.tx_uncompressed = 1
        counters.tx_compress.packets = 2
        counters.tx_compress.original_bytes = 300
        counters.tx_compress.size_bytes = 200
        counters.tx_compress.time.add(2.0, 2)
        counters.rx_compress.packets = 3
        counters.rx_compress.original_bytes = 500
        counters.rx_compress.size_bytes = 400
        counters.rx_compress.time.add(6.0, 3)
        counters.tx_crypt.add(4.0, 1)
        counters.tx_crypt_overhead = 48
        counters.tx_crypt_control = 6
        counters.rx_crypt.add(10.0, 2)
        shown = counters.snapshot()
        assert shown.tx_uncompressed_packets == 1
        assert shown.tx_compressed_packets == 2
        assert shown.tx_compressed_original_bytes == 300
        assert shown.tx_compressed_size_bytes == 200
        assert shown.tx_compress_time_ave == 1.0
        assert shown.rx_compressed_packets == 3
        assert shown.rx_compressed_original_bytes == 500
        assert shown.rx_compressed_size_bytes == 400
        assert shown.rx_compress_time_min == shown.rx_compress_time_max == 2.0
        assert shown.tx_crypt_packets == 7
        assert shown.tx_crypt_byte_overhead == 48
        assert shown.tx_crypt_time_ave == 4.0
        assert shown.rx_crypt_packets == 2
        assert shown.rx_crypt_time_ave == 5.0

    def test_what_the_compressor_made_of_messages(self) -> None:
        counters = HandleCounters()
        counters.handed_over((100, 40, 1.0), 0)
        counters.handed_over((100, 111, 2.0), 1)
        counters.handed_over((100, 100, 3.0), 1)
        counters.handed_over(None, 4)
        shown = counters.snapshot()
        assert shown.tx_compressed_packets == 3
        assert shown.tx_compressed_original_bytes == 300
        assert shown.tx_compressed_size_bytes == 251
        assert shown.tx_compress_time_ave == 2.0
        assert shown.tx_unable_to_compress == 2
        assert shown.tx_uncompressed_packets == 6

    def test_clearing_starts_again(self) -> None:
        counters = HandleCounters()
        counters.tx_crypt_control = 3
        counters.drop(DropCause.DUPLICATE)
        counters.tx_crypt.add(1.0, 1)
        counters.clear()
        assert counters.snapshot() == HandleCounters().snapshot()
