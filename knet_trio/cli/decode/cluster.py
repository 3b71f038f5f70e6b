"""The keys and ports in a cluster file."""

from __future__ import annotations

from knet_trio.cli.decode.keys import OpeningKey, make_opening_key
from knet_trio.cluster import Cluster, plan_links


def cluster_keys(cluster: Cluster) -> list[OpeningKey]:
    """Return the keys that the hosts of the file use and accept."""
    name = cluster.path.name if cluster.path else cluster.name
    configs = [cluster.crypto, cluster.accept_crypto]
    return [make_opening_key(name, config) for config in configs if config is not None]


def cluster_ports(cluster: Cluster) -> set[int]:
    """Return the ports of all links of the file."""
    return {way.src.port for host in cluster.hosts for way in plan_links(cluster, host)}
