"""The cluster file as a preflight opens it, and its settings that all hosts have to share."""

from __future__ import annotations

from typing import Final

import attrs

from knet_trio import format_address
from knet_trio.cli.free_channels import choose_service_channel
from knet_trio.cluster import Cluster

PING_INTERVAL: Final = 0.2
"""Seconds between two pings of a link's heartbeat, at most, so that links come up soon."""
PONG_TIMEOUT: Final = 3.0
"""Seconds to wait for a pong, at least, so that slow paths can be measured."""
RECONNECT_INTERVAL: Final = 0.5
"""Seconds between two attempts to connect, at most, with a transport that has connections."""
PMTUD_INTERVAL: Final = 1.0
"""Seconds between two searches for the path MTU; the next one makes up for a lost probe."""


def prepare(cluster: Cluster) -> Cluster:
    """Return the cluster file with the timers of a preflight, to measure in a short time.

    Addresses, ports, the key and everything else that decides whether hosts understand each other
    stay as in the file. PMTUd runs even if the file fixes the MTU.
    """
    return attrs.evolve(
        cluster,
        links=tuple(
            attrs.evolve(
                link,
                ping_interval=min(link.ping_interval, PING_INTERVAL),
                pong_timeout=max(link.pong_timeout, PONG_TIMEOUT),
            )
            for link in cluster.links
        ),
        mtu=None,
        pmtud_interval=PMTUD_INTERVAL,
        reconnect_interval=min(cluster.reconnect_interval, RECONNECT_INTERVAL),
        loopback=False,
        filter=None,
        forwarding=True,
        log_fd=None,
    )


def list_settings(cluster: Cluster) -> dict[str, str]:
    """Return the settings that have to be the same on all hosts, as text, without the key."""
    settings = {
        "name": cluster.name,
        "policy": cluster.policy.value,
        "mtu": "discovered" if cluster.mtu is None else str(cluster.mtu),
        "service_channel": str(choose_service_channel(cluster)),
        "crypto": describe_crypto(cluster),
    }
    if cluster.compress is not None:
        settings["compress"] = cluster.compress.model
    if cluster.tap is not None:
        settings["tap"] = f"{cluster.tap.name} on channel {cluster.tap.channel}"
    for link in cluster.links:
        for name in ("ping_interval", "pong_timeout", "pong_count", "transport", "enabled"):
            settings[f"link {link.link_id} {name}"] = str(getattr(link, name))
    for host in cluster.hosts:
        settings[f"host {host.host_id}"] = host.name
        for end in host.links:
            where = "dynamic" if end.address is None else format_address(end.address)
            settings[f"host {host.host_id} link {end.link_id}"] = where
    return settings


def describe_crypto(cluster: Cluster) -> str:
    """Return the names of the cipher and the hash, ``none`` without encryption."""
    if cluster.crypto is None:
        return "none"
    return f"{cluster.crypto.cipher} and {cluster.crypto.hash}"
