"""The keys of corosync.conf(5): those that are used here, and those that are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knet_trio._core.onwire import MAX_LINKS

# The keys that are read. Other keys of corosync in the same sections are listed below, so that only
# keys unknown to corosync cause a warning.
USED: Final[Mapping[str, frozenset[str]]] = {
    "totem": frozenset(
        [
            "version",
            "cluster_name",
            "transport",
            "crypto_model",
            "crypto_cipher",
            "crypto_hash",
            "secauth",
            "keyfile",
            "key",
            "link_mode",
            "token",
            "token_coefficient",
            "knet_compression_model",
            "knet_compression_threshold",
            "knet_compression_level",
            "knet_mtu",
            "knet_pmtud_interval",
            "ip_dscp",
            "ip_version",
            "block_unlisted_ips",
        ]
    ),
    "totem.interface": frozenset(
        [
            "linknumber",
            "ringnumber",
            "knet_link_priority",
            "knet_ping_interval",
            "knet_ping_timeout",
            "knet_ping_precision",
            "knet_pong_count",
            "knet_transport",
            "mcastport",
        ]
    ),
    "nodelist.node": frozenset(
        ["nodeid", "name", *(f"ring{number}_addr" for number in range(MAX_LINKS))]
    ),
    "nodelist": frozenset(),
    "system": frozenset(["allow_knet_handle_fallback"]),
    "nozzle": frozenset(["name", "ipaddr", "ipprefix", "macaddr"]),
}

IGNORED: Final[Mapping[str, frozenset[str]]] = {
    "totem": frozenset(
        [
            "clear_node_high_bit",
            "netmtu",
            "config_version",
            "token_warning",
            "token_retransmit",
            "hold",
            "token_retransmits_before_loss_const",
            "join",
            "send_join",
            "consensus",
            "merge",
            "downcheck",
            "fail_recv_const",
            "seqno_unchanged_const",
            "heartbeat_failures_allowed",
            "max_network_delay",
            "window_size",
            "max_messages",
            "miss_count_const",
            "cancel_token_hold_on_retransmit",
            "rrp_mode",
            "rrp_problem_count_timeout",
            "threads",
            "vsftype",
        ]
    ),
    "totem.interface": frozenset(["bindnetaddr", "broadcast", "mcastaddr", "ttl"]),
    "nodelist.node": frozenset(["quorum_votes"]),
    "nodelist": frozenset(),
    "system": frozenset(
        ["qb_ipc_type", "sched_rr", "priority", "move_to_root_cgroup", "state_dir"]
    ),
    "nozzle": frozenset(),
}

# The sections inside those that are read.
INNER: Final[Mapping[str, tuple[str, ...]]] = {
    "totem": ("interface",),
    "nodelist": ("node",),
    "system": (),
    "nozzle": (),
}

SECTIONS: Final = (
    "totem",
    "logging",
    "quorum",
    "nodelist",
    "system",
    "resources",
    "nozzle",
    "uidgid",
    "qb",
)
