"""Print what a cluster file says and which host this machine is: ``python -m … FILE``."""

from __future__ import annotations

import json
import sys

import attrs

from knet_trio import LinkPolicy
from knet_trio.cluster import find_own_host, load_cluster
from knet_trio.cluster._plan import plan_hosts


def main(path: str) -> None:
    """Print one JSON object."""
    cluster = load_cluster(path)
    me = find_own_host(cluster)
    said = attrs.asdict(cluster)
    said["policy"] = {
        LinkPolicy.PASSIVE: 0,
        LinkPolicy.ACTIVE: 1,
        LinkPolicy.ROUND_ROBIN: 2,
    }[cluster.policy]
    if cluster.crypto is not None:
        said["crypto"]["key"] = len(cluster.crypto.key)
    said["me"] = me.host_id
    said["tap_address"] = cluster.tap and cluster.tap.get_address(me.host_id)
    said["tap_mac"] = cluster.tap and cluster.tap.get_mac(me.host_id)
    said["plans"] = {
        host_id: {link_id: [link.src, link.dst] for link_id, link in plan.links.items()}
        for host_id, plan in plan_hosts(cluster, me).items()
    }
    json.dump(said, sys.stdout, default=str)


main(sys.argv[1])
