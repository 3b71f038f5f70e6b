"""Which of a file's hosts this machine is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from knet_trio._state.turns import Turns
from knet_trio.address import Address, socket_address
from knet_trio.cluster.records import Cluster, ClusterHost
from knet_trio.errors import InvalidArgumentError

# Of 127.0.0.0/8 every address can be bound to, but only this one is configured.
_LOCALHOST: Final = "127.0.0.1"


def find_own_host(cluster: Cluster, host: int | str | None = None) -> ClusterHost:
    """Return the host of the file that this machine is.

    Args:
        cluster: The file.
        host: Its id or name; None looks for the host whose addresses this machine has. In a
            corosync.conf that is the host of this machine's name, and only then the addresses.

    Raises:
        UnknownHostError: The file has no such host.
        InvalidArgumentError: No host has an address of this machine, or several have.
    """
    named = _find_named(cluster, host)
    if named is not None:
        return named
    return _choose(cluster, [one for one in cluster.hosts if _is_own(one)])


async def find_own_host_in_turns(
    cluster: Cluster, host: int | str | None, turns: Turns
) -> ClusterHost:
    """Return what ``find_own_host`` does; others get their turns, as there may be thousands."""
    named = _find_named(cluster, host)
    if named is not None:
        return named
    own: list[ClusterHost] = []
    for one in cluster.hosts:
        if _is_own(one):
            own.append(one)
        if turns.is_over():
            await turns.give_up()
    return _choose(cluster, own)


def _find_named(cluster: Cluster, host: int | str | None) -> ClusterHost | None:
    """Return the host that is asked for, or that is called like this machine, where that counts."""
    if host is not None:
        return cluster.get_host(host)
    return _find_by_name(cluster, os.uname().nodename) if cluster.is_corosync else None


def _is_own(host: ClusterHost) -> bool:
    return any(map(has_address, _addresses(host)))


def _choose(cluster: Cluster, own: list[ClusterHost]) -> ClusterHost:
    """Return the only one of the hosts that have an address of this machine."""
    if cluster.is_corosync and len(own) > 1:
        own = [host for host in own if any(map(_is_configured, _addresses(host)))] or own
    if len(own) == 1:
        return own[0]
    file = cluster.path or "the cluster"
    if own:
        names = ", ".join(host.name for host in own)
        raise InvalidArgumentError(
            f"this machine has the addresses of several hosts of {file} ({names}): say which it is"
            " (--host, or host= of open_cluster)"
        )
    names = ", ".join(host.name for host in cluster.hosts)
    raise InvalidArgumentError(
        f"this machine has no address of a host of {file}: say which of its hosts it is (--host, or"
        f" host= of open_cluster), of {names}"
    )


def has_address(address: Address) -> bool:
    """Return whether this machine has an address: whether a socket can be bound to it."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket_address(Address(address.host, 0)))
    except OSError:
        return False
    return True


def _is_configured(address: Address) -> bool:
    """Return whether an interface has the address, as ``has_address`` says of others too."""
    ip = ip_address(address.host.partition("%")[0])
    return has_address(address) and (not ip.is_loopback or str(ip) in (_LOCALHOST, "::1"))


def _addresses(host: ClusterHost) -> Iterable[Address]:
    return (link.address for link in host.links if link.address is not None)


def _find_by_name(cluster: Cluster, name: str) -> ClusterHost | None:
    """Return the host that is called as corosync.conf(5) says for this machine's name."""
    short = name.partition(".")[0]
    for wanted in (name, short):
        for host in cluster.hosts:
            if host.name == wanted:
                return host
    return next((host for host in cluster.hosts if host.name.partition(".")[0] == short), None)
