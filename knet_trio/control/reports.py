"""The state of a handle, its hosts and links, as records."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

import trio

from knet_trio import (
    Handle,
    Host,
    Link,
    LinkPolicy,
    LinkStatistics,
    LinkStatus,
    format_address,
)
from knet_trio.address import Address
from knet_trio.control.key_changes import find_key_change
from knet_trio.control.records import (
    HandleMetrics,
    HandleReport,
    HostMetrics,
    HostReport,
    LinkChange,
    LinkHistory,
    LinkMetrics,
    LinkPing,
    LinkReport,
    LoopReport,
    StreamReport,
)
from knet_trio.streams import get_stream_statistics

_LINKS_A_TURN: Final = 4
"""Links reported before other tasks may run, not counting the rest of a host: one link takes about
0.1 ms."""

_LOOK_EVERY: Final = 0.02
"""Seconds between two wake-ups that observe the event loop."""

_ON_TIME: Final = 0.02
"""A delay that does not count as late, in seconds: any task may take a few milliseconds, on a busy
machine more."""


def report_handle(handle: Handle) -> HandleReport:
    """Return the state of a handle, without its hosts."""
    drops = handle.statistics().drops
    return HandleReport(
        host_id=handle.host_id,
        at=trio.current_time(),
        time=time.time(),
        data_mtu=handle.data_mtu,
        forwarding=handle.forwarding,
        access_lists=handle.access_lists,
        allow_clear_traffic=handle.allow_clear_traffic,
        hedge=handle.hedge,
        dscp=handle.dscp,
        mtu=handle.mtu,
        pmtud_interval=handle.pmtud_interval,
        reconnect_interval=handle.reconnect_interval,
        drops={cause.value: count for cause, count in drops.items() if count},
        key_change=find_key_change(handle),
        encrypted=handle.crypto_in_use != 0,
        hosts=(),
    )


def report_host(handle: Handle, host: Host) -> HostReport:
    """Return the state of a host, with its links."""
    return HostReport(
        host_id=host.host_id,
        name=host.name,
        policy=host.policy.value,
        reachable=host.status.reachable,
        links=report_links(host),
        streams=_report_streams(handle, host),
        confirmed=_report_confirmed(handle, host),
    )


async def visit_hosts(handle: Handle) -> AsyncGenerator[Host]:
    """Yield each host of a handle in the order of their ids, letting other tasks run meanwhile."""
    links = _LINKS_A_TURN
    for host_id in sorted(handle.hosts):
        if links >= _LINKS_A_TURN:
            await trio.lowlevel.checkpoint()
            links = 0
        host = handle.hosts.get(host_id)
        # The host may have been removed meanwhile.
        if host is not None:
            links += len(host.links) or 1
            yield host


def report_links(host: Host) -> tuple[LinkReport, ...]:
    """Return the state of the links to a host."""
    statuses = {link_id: host.links[link_id].status for link_id in sorted(host.links)}
    used = _links_in_use(host, statuses)
    return tuple(
        _report_link(host.links[link_id], status, link_id in used)
        for link_id, status in statuses.items()
    )


def _report_streams(handle: Handle, host: Host) -> tuple[StreamReport, ...]:
    return tuple(
        StreamReport(
            channel=one.channel,
            open=one.open,
            round_trip=one.round_trip,
            window=one.window,
            in_flight=one.in_flight,
            rate=one.rate,
            arrived_packets=one.arrived_packets,
            lost_packets=one.lost_packets,
            spurious_losses=one.spurious_losses,
        )
        for one in get_stream_statistics(handle, host.host_id)
    )


def _report_confirmed(handle: Handle, host: Host) -> dict[str, bool]:
    if host.host_id == handle.host_id:
        return {}
    return {str(slot): host.confirmed(slot) for slot in handle.aead_slots}


def _report_link(link: Link, status: LinkStatus, in_use: bool) -> LinkReport:
    config, stats = link.config, status.stats
    dst = None
    if status.dst_ipaddr is not None and status.dst_port is not None:
        dst = format_address(Address(status.dst_ipaddr, status.dst_port))
    return LinkReport(
        link_id=link.link_id,
        at=trio.current_time(),
        transport=config.transport,
        src=format_address(config.src),
        dst=dst,
        dynamic=config.dst is None,
        enabled=status.enabled,
        connected=status.connected,
        carries_data=status.carries_data,
        in_use=in_use,
        reason=status.reason,
        since=status.since,
        latency=status.latency,
        latency_p50=status.latency_p50,
        latency_p99=status.latency_p99,
        jitter=status.jitter,
        loss=status.loss,
        mtu=status.mtu,
        proto_overhead=status.proto_overhead,
        priority=config.priority,
        ping_interval=config.ping_interval,
        pong_timeout=config.pong_timeout,
        latency_samples=config.latency_samples,
        pong_count=config.pong_count,
        high_priority=config.high_priority,
        up_count=stats.up_count,
        down_count=stats.down_count,
        tx_data_packets=stats.tx_data_packets,
        rx_data_packets=stats.rx_data_packets,
        tx_data_bytes=stats.tx_data_bytes,
        rx_data_bytes=stats.rx_data_bytes,
        tx_total_packets=stats.tx_total_packets,
        rx_total_packets=stats.rx_total_packets,
        tx_total_bytes=stats.tx_total_bytes,
        rx_total_bytes=stats.rx_total_bytes,
        tx_total_errors=stats.tx_total_errors,
    )


def measure_handle(handle: Handle) -> HandleMetrics:
    """Return the metrics of a handle, without its hosts."""
    return HandleMetrics(
        host_id=handle.host_id,
        time=time.time(),
        latency_bounds=LinkStatistics.LATENCY_BOUNDS,
        drops={cause.value: count for cause, count in handle.statistics().drops.items()},
        channel_queues={str(number): size for number, size in handle.channel_queues.items()},
        hosts=(),
    )


def measure_host(handle: Handle, host: Host) -> HostMetrics:
    """Return the metrics of a host and its links."""
    return HostMetrics(
        host_id=host.host_id,
        name=host.name,
        reachable=host.status.reachable,
        links=tuple(_measure_link(host.links[link_id]) for link_id in sorted(host.links)),
        streams=_report_streams(handle, host),
        confirmed=_report_confirmed(handle, host),
    )


def _measure_link(link: Link) -> LinkMetrics:
    status = link.status
    return LinkMetrics(
        link_id=link.link_id,
        enabled=status.enabled,
        connected=status.connected,
        mtu=status.mtu,
        loss=status.loss,
        stats=status.stats,
    )


def report_history(link: Link) -> LinkHistory:
    """Return when a link last went up or down."""
    # The program's own clock means nothing to other processes.
    behind = time.time() - trio.current_time()
    return LinkHistory(
        changes=tuple(
            LinkChange(at=at, time=at + behind, connected=connected, reason=reason)
            for at, connected, reason in link.history
        )
    )


def report_pings(host: Host, trips: Mapping[int, Sequence[float | None]]) -> tuple[LinkPing, ...]:
    """Return the results of pings.

    Args:
        host: The host that was pinged.
        trips: The round trips by link id, in seconds, None for a ping without answer; empty for a
            link that is down. Links that have been removed since are left out.
    """
    answered = {
        link_id: [seconds for seconds in several if seconds is not None]
        for link_id, several in trips.items()
    }
    statuses = {link_id: link.status for link_id, link in host.links.items()}
    used = _links_in_use(host, statuses)
    return tuple(
        LinkPing(
            link_id=link_id,
            sent=len(trips[link_id]),
            answered=len(answered[link_id]),
            seconds=fmean(answered[link_id]) if answered[link_id] else None,
            slowest=max(answered[link_id], default=None),
            connected=statuses[link_id].connected,
            in_use=link_id in used,
            reason=statuses[link_id].reason,
        )
        for link_id in sorted(trips)
        if link_id in statuses
    )


async def observe_loop(seconds: float) -> LoopReport:
    """Measure for ``seconds`` how late the event loop wakes this task up.

    The task can only run between other tasks, so each delay is the time they took.
    """
    began = due = trio.current_time()
    looks, late, longest = 0, 0.0, 0.0
    while due < began + seconds:
        due += _LOOK_EVERY
        await trio.sleep_until(due)
        now = trio.current_time()
        behind = now - due
        looks += 1
        if behind > _ON_TIME:
            late += behind
        longest = max(longest, behind)
        due = max(due, now)
    return LoopReport(seconds=due - began, looks=looks, late=late, longest=longest)


def _links_in_use(host: Host, statuses: Mapping[int, LinkStatus]) -> Iterable[int]:
    """Return the ids of the links that messages are sent over, by the policy of the host."""
    able = [link_id for link_id, status in statuses.items() if status.carries_data]
    if host.policy is not LinkPolicy.PASSIVE or not able:
        return able
    return [min(able, key=lambda link_id: (-host.links[link_id].priority, link_id))]
