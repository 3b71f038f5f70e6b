"""Cluster files: one file for all hosts of a cluster, read, checked and run.

Begin with ``open_cluster``. ``docs/cluster-file.md`` describes the keys of the file, and the keys
of a ``corosync.conf`` that are used.
"""

from __future__ import annotations

from knet_trio.cluster._crypto_names import CryptoNames
from knet_trio.cluster._differences import Change
from knet_trio.cluster._key_change import KeyChange, KeyChangeFiles
from knet_trio.cluster._key_file import (
    KeyFileError,
    make_fingerprint,
    parse_salt,
    read_key_file,
    write_key_file,
)
from knet_trio.cluster._load import load_cluster
from knet_trio.cluster._opening import get_cluster, open_cluster
from knet_trio.cluster._own_host import find_own_host
from knet_trio.cluster._plan import LinkWay, plan_links
from knet_trio.cluster._reloading import Reloaded, reload
from knet_trio.cluster.errors import ClusterFileError, Mistake, ReloadError
from knet_trio.cluster.records import (
    Cluster,
    ClusterChannel,
    ClusterControl,
    ClusterHost,
    ClusterLink,
    ClusterMetrics,
    ClusterTap,
    HostLink,
)

__all__ = [
    "Change",
    "Cluster",
    "ClusterChannel",
    "ClusterControl",
    "ClusterFileError",
    "ClusterHost",
    "ClusterLink",
    "ClusterMetrics",
    "ClusterTap",
    "CryptoNames",
    "HostLink",
    "KeyChange",
    "KeyChangeFiles",
    "KeyFileError",
    "LinkWay",
    "Mistake",
    "ReloadError",
    "Reloaded",
    "find_own_host",
    "get_cluster",
    "load_cluster",
    "make_fingerprint",
    "open_cluster",
    "parse_salt",
    "plan_links",
    "read_key_file",
    "reload",
    "write_key_file",
]
