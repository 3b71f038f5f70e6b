"""Frozen records of states and counters. Their fields have libknet's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import attrs

from knet_trio.errors import DropCause


@attrs.frozen
class HostStatus:
    """Whether a host can be reached. See knet_host_get_status(3).

    Attributes:
        reachable: Whether a link to it can carry data.
        remote: Always False: libknet has it for what it does not do yet.
        external: Always False likewise.
    """

    reachable: bool
    remote: bool = False
    external: bool = False


@attrs.frozen
class OnwireVersions:
    """The versions of the wire protocol. See knet_handle_get_onwire_ver(3).

    Attributes:
        minimum: The oldest version that the handle can speak.
        maximum: The newest one.
        in_use: The one that it speaks.
    """

    minimum: int
    maximum: int
    in_use: int


@attrs.frozen(kw_only=True)
class LinkStatistics:
    """The counters of one link. See knet_link_get_status(3).

    Latencies are seconds, None while there was no sample. ``*_errors`` are packets that the system
    refused, ``*_retries`` those that it took only at a later try. ``last_up_times`` and
    ``last_down_times`` are up to 16 times of day (``time.time()``), oldest first.
    """

    tx_data_packets: int
    rx_data_packets: int
    tx_data_bytes: int
    rx_data_bytes: int
    tx_ping_packets: int
    rx_ping_packets: int
    tx_ping_bytes: int
    rx_ping_bytes: int
    tx_pong_packets: int
    rx_pong_packets: int
    tx_pong_bytes: int
    rx_pong_bytes: int
    tx_pmtu_packets: int
    rx_pmtu_packets: int
    tx_pmtu_bytes: int
    rx_pmtu_bytes: int
    tx_total_packets: int
    rx_total_packets: int
    tx_total_bytes: int
    rx_total_bytes: int
    tx_total_errors: int
    tx_total_retries: int
    tx_pmtu_errors: int
    tx_pmtu_retries: int
    tx_ping_errors: int
    tx_ping_retries: int
    tx_pong_errors: int
    tx_pong_retries: int
    tx_data_errors: int
    tx_data_retries: int
    latency_min: float | None
    latency_max: float | None
    latency_ave: float | None
    latency_samples: int
    up_count: int
    down_count: int
    last_up_times: tuple[float, ...]
    last_down_times: tuple[float, ...]


class LinkTransition(NamedTuple):
    """A time that a link went up or down.

    Attributes:
        at: When, in seconds on Trio's clock.
        connected: Whether it went up.
        reason: Why, in words.
    """

    at: float
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class LinkStatus:
    """The state of a link. See knet_link_get_status(3).

    Times are seconds. The figures of the last pings are of the last 100 that were answered, or were
    not answered within ``pong_timeout``, since the link was enabled or its statistics were cleared.

    Attributes:
        src_ipaddr: The local address.
        src_port: Its port.
        dst_ipaddr: The address of the peer, None while a dynamic link has no peer.
        dst_port: Its port, None likewise.
        enabled: Whether the link is in use.
        connected: Whether it is up.
        dynconnected: Whether it is dynamic and has a peer.
        latency: The average round trip, 0.0 before the first pong.
        pong_last: When the last pong came, on Trio's clock, None before the first.
        mtu: The user bytes that one packet carries: what every path carries until the path MTU is
            known, 0 if the path does not even carry that.
        proto_overhead: The bytes around them on the wire, 0 before the path MTU is known.
        reason: Why it is up or down, in words.
        since: Since when, on Trio's clock.
        carries_data: Whether messages can go over it: it is up, and its path takes packets of the
            smallest MTU.
        loss: The share of the last pings that was lost, 0 to 1; None before there was one.
        jitter: The mean difference between a round trip and the next, of the last pings; None
            before there were two.
        latency_p50: The round trip that half of the last pings did not exceed; None before one was
            answered.
        latency_p99: The round trip that 99 % of them did not exceed; None likewise.
        stats: The counters.
    """

    src_ipaddr: str
    src_port: int
    dst_ipaddr: str | None
    dst_port: int | None
    enabled: bool
    connected: bool
    dynconnected: bool
    latency: float
    pong_last: float | None
    mtu: int
    proto_overhead: int
    reason: str
    since: float
    carries_data: bool
    loss: float | None
    jitter: float | None
    latency_p50: float | None
    latency_p99: float | None
    stats: LinkStatistics


@attrs.frozen(kw_only=True)
class HandleStatistics:
    """The counters of a handle. See knet_handle_get_stats(3).

    Times are seconds, None while there was no sample. ``tx_failed_to_compress`` are messages that
    went as they were because the compressor failed, ``tx_unable_to_compress`` those that it did not
    make smaller, ``rx_failed_to_decompress`` those that were dropped because they did not open.
    ``drops`` has a number for each cause: how many packets or messages were dropped because of it.
    """

    tx_uncompressed_packets: int
    tx_compressed_packets: int
    tx_compressed_original_bytes: int
    tx_compressed_size_bytes: int
    tx_compress_time_ave: float | None
    tx_compress_time_min: float | None
    tx_compress_time_max: float | None
    rx_compressed_packets: int
    rx_compressed_original_bytes: int
    rx_compressed_size_bytes: int
    rx_compress_time_ave: float | None
    rx_compress_time_min: float | None
    rx_compress_time_max: float | None
    tx_crypt_packets: int
    tx_crypt_byte_overhead: int
    tx_crypt_time_ave: float | None
    tx_crypt_time_min: float | None
    tx_crypt_time_max: float | None
    rx_crypt_packets: int
    rx_crypt_time_ave: float | None
    rx_crypt_time_min: float | None
    rx_crypt_time_max: float | None
    tx_failed_to_compress: int
    tx_unable_to_compress: int
    rx_failed_to_decompress: int
    drops: Mapping[DropCause, int]
