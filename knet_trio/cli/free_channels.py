"""The channels that a cluster file leaves free, for messages between commands on its hosts.

All hosts of a file find the same channels.
"""

from __future__ import annotations

from typing import Final

from knet_trio.cluster import Cluster

_CHANNELS: Final = 32


def list_free_channels(cluster: Cluster) -> list[int]:
    """Return the channels that a cluster file does not use, in descending order.

    Programs take low channels first: a corosync, which may run on other hosts of the file, has 0
    and 1.
    """
    used = {channel.channel for channel in cluster.channels}
    if cluster.tap is not None:
        used.add(cluster.tap.channel)
    if cluster.service_channel is not None:
        used.add(cluster.service_channel)
    return [channel for channel in range(_CHANNELS - 1, -1, -1) if channel not in used]


def choose_service_channel(cluster: Cluster) -> int:
    """Return the channel for requests: the file's service channel, or the last free one, or 0."""
    if cluster.service_channel is not None:
        return cluster.service_channel
    return next(iter(list_free_channels(cluster)), 0)
