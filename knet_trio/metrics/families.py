"""The metrics of a handle as objects of prometheus-client."""

from __future__ import annotations

from itertools import accumulate

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from knet_trio.control import HandleMetrics, HostMetrics, LinkMetrics, StreamReport
from knet_trio.metrics import series
from knet_trio.metrics.series import DIRECTIONS, KINDS, OUTCOMES, REASONS, Series


def make_families(metrics: HandleMetrics | None) -> list[Metric]:
    """Return one family for each of ``SERIES``, with its samples.

    Args:
        metrics: The metrics of a handle, None for families without samples.
    """
    families = _Families()
    if metrics is not None:
        families.add(metrics)
    return [
        families.link_up,
        families.link_enabled,
        families.link_mtu,
        families.link_rtt,
        families.link_loss,
        families.link_transitions,
        families.link_packets,
        families.link_bytes,
        families.host_reachable,
        families.host_confirmed,
        families.drops,
        families.channel_queue,
        families.stream_open,
        families.stream_rtt,
        families.stream_window,
        families.stream_packets,
    ]


def _gauge(one: Series) -> GaugeMetricFamily:
    return GaugeMetricFamily(one.name, one.meaning, labels=one.labels)


def _counter(one: Series) -> CounterMetricFamily:
    return CounterMetricFamily(one.name, one.meaning, labels=one.labels)


@attrs.define
class _Families:
    link_up: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.LINK_UP))
    link_enabled: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.LINK_ENABLED))
    link_mtu: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.LINK_MTU))
    link_rtt: HistogramMetricFamily = attrs.field(
        factory=lambda: HistogramMetricFamily(
            series.LINK_RTT.name, series.LINK_RTT.meaning, labels=series.LINK_RTT.labels
        )
    )
    link_loss: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.LINK_LOSS))
    link_transitions: CounterMetricFamily = attrs.field(
        factory=lambda: _counter(series.LINK_TRANSITIONS)
    )
    link_packets: CounterMetricFamily = attrs.field(factory=lambda: _counter(series.LINK_PACKETS))
    link_bytes: CounterMetricFamily = attrs.field(factory=lambda: _counter(series.LINK_BYTES))
    host_reachable: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.HOST_REACHABLE))
    host_confirmed: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.HOST_CONFIRMED))
    drops: CounterMetricFamily = attrs.field(factory=lambda: _counter(series.DROPS))
    channel_queue: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.CHANNEL_QUEUE))
    stream_open: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.STREAM_OPEN))
    stream_rtt: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.STREAM_RTT))
    stream_window: GaugeMetricFamily = attrs.field(factory=lambda: _gauge(series.STREAM_WINDOW))
    stream_packets: CounterMetricFamily = attrs.field(
        factory=lambda: _counter(series.STREAM_PACKETS)
    )

    def add(self, metrics: HandleMetrics) -> None:
        """Add the samples of a handle."""
        # Converted to text only once, since there may be thousands of links.
        bounds = [*map(repr, metrics.latency_bounds), "+Inf"]
        for host in metrics.hosts:
            self._add_host(host, bounds)
        for cause, count in metrics.drops.items():
            self.drops.add_metric([cause], count)
        for channel, size in metrics.channel_queues.items():
            self.channel_queue.add_metric([channel], size)

    def _add_host(self, host: HostMetrics, bounds: list[str]) -> None:
        labels = [str(host.host_id), host.name]
        self.host_reachable.add_metric(labels, host.reachable)
        for slot, confirmed in host.confirmed.items():
            self.host_confirmed.add_metric([*labels, slot], confirmed)
        for link in host.links:
            self._add_link(link, [*labels, str(link.link_id)], bounds)
        for one in host.streams:
            self._add_streams(one, [*labels, str(one.channel)])

    def _add_streams(self, one: StreamReport, labels: list[str]) -> None:
        self.stream_open.add_metric(labels, one.open)
        if one.round_trip is not None:
            self.stream_rtt.add_metric(labels, one.round_trip)
        self.stream_window.add_metric(labels, one.window)
        counts = one.arrived_packets, one.lost_packets, one.spurious_losses
        for outcome, count in zip(OUTCOMES, counts, strict=True):
            self.stream_packets.add_metric([*labels, outcome], count)

    def _add_link(self, link: LinkMetrics, labels: list[str], bounds: list[str]) -> None:
        stats = link.stats
        self.link_up.add_metric(labels, link.connected)
        self.link_enabled.add_metric(labels, link.enabled)
        self.link_mtu.add_metric(labels, link.mtu)
        buckets = list(zip(bounds, accumulate(stats.latency_buckets), strict=True))
        self.link_rtt.add_metric(labels, buckets, stats.latency_total)
        if link.loss is not None:
            self.link_loss.add_metric(labels, link.loss)
        for reason, to in REASONS.items():
            self.link_transitions.add_metric([*labels, to, reason], stats.transitions[reason])
        for direction in DIRECTIONS:
            for kind in KINDS:
                more = [*labels, direction, kind]
                self.link_packets.add_metric(more, getattr(stats, f"{direction}_{kind}_packets"))
                self.link_bytes.add_metric(more, getattr(stats, f"{direction}_{kind}_bytes"))
