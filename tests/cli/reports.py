"""Reports of hosts that there are not."""

from __future__ import annotations

from typing import Any

from knet_trio.control import HandleReport, HostReport, LinkReport, StreamReport


def link(link_id: int = 0, **changes: Any) -> LinkReport:
    """A link that has been up for a minute."""
    values: dict[str, Any] = {
        "link_id": link_id,
        "at": 160.0,
        "transport": "udp",
        "src": "10.0.0.1:5405",
        "dst": "10.0.0.2:5405",
        "dynamic": False,
        "enabled": True,
        "connected": True,
        "carries_data": True,
        "in_use": link_id == 0,
        "reason": "the peer answers pings",
        "since": 100.0,
        "latency": 0.00123,
        "latency_p50": 0.001,
        "latency_p99": 0.002,
        "jitter": 0.0001,
        "loss": 0.0,
        "mtu": 1397,
        "proto_overhead": 103,
        "priority": 0,
        "ping_interval": 1.0,
        "pong_timeout": 2.0,
        "latency_samples": 2048,
        "pong_count": 5,
        "high_priority": False,
        "up_count": 1,
        "down_count": 0,
        "tx_data_packets": 0,
        "rx_data_packets": 0,
        "tx_data_bytes": 0,
        "rx_data_bytes": 0,
        "tx_total_packets": 0,
        "rx_total_packets": 0,
        "tx_total_bytes": 0,
        "rx_total_bytes": 0,
        "tx_total_errors": 0,
    }
    return LinkReport(**{**values, **changes})


def down(link_id: int = 0, **changes: Any) -> LinkReport:
    """A link that is down."""
    values: dict[str, Any] = {
        "connected": False,
        "carries_data": False,
        "in_use": False,
        "reason": "no pong for 2.000 s",
        "loss": 1.0,
    }
    return link(link_id, **{**values, **changes})


def streams(channel: int, **changes: Any) -> StreamReport:
    """Streams over a channel."""
    values: dict[str, Any] = {
        "channel": channel,
        "open": 2,
        "round_trip": 0.0012,
        "window": 14000,
        "in_flight": 0,
        "rate": 11.2e6,
        "arrived_packets": 100,
        "lost_packets": 1,
        "spurious_losses": 0,
    }
    return StreamReport(**{**values, **changes})


def host(
    host_id: int,
    *links: LinkReport,
    name: str | None = None,
    streams: tuple[StreamReport, ...] = (),
    confirmed: dict[str, bool] | None = None,
) -> HostReport:
    """A host with links."""
    return HostReport(
        host_id=host_id,
        name=str(host_id) if name is None else name,
        policy="passive",
        reachable=any(link.carries_data for link in links),
        links=links,
        streams=streams,
        confirmed=confirmed or {},
    )


def handle(*hosts: HostReport, **changes: Any) -> HandleReport:
    """The handle of host 1."""
    values: dict[str, Any] = {
        "host_id": 1,
        "at": 160.0,
        "time": 1795820503.5,
        "data_mtu": 1397,
        "forwarding": True,
        "access_lists": True,
        "allow_clear_traffic": False,
        "hedge": True,
        "dscp": 0,
        "mtu": None,
        "pmtud_interval": 60.0,
        "reconnect_interval": 1.0,
        "drops": {},
        "hosts": hosts,
    }
    return HandleReport(**{**values, **changes})
