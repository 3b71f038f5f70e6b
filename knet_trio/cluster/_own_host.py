"""Finding of the host of a cluster file that runs on this machine."""

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

# Every address of 127.0.0.0/8 can be bound, but only this one is configured.
_LOCALHOST: Final = "127.0.0.1"


class UnclearHostError(InvalidArgumentError):
    """It is not clear which host of a file this machine is.

    Attributes:
        for_commands: The message for users of commands, who have an option instead of an argument.
    """

    def __init__(self, why: str, hosts: list[ClusterHost]) -> None:
        names = ", ".join(host.name for host in hosts)
        super().__init__(f"{why}: choose one with host=: {names}")
        self.for_commands: Final = f"{why}: choose one with --host: {names}"


def find_own_host(cluster: Cluster, host: int | str | None = None) -> ClusterHost:
    """Return the host of the file that runs on this machine.

    Args:
        cluster: The file.
        host: The id or the name of the host; None finds the host whose address this machine has.
            For a corosync.conf, None finds the host with the name of this machine first.

    Returns:
        The host.

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
    """Do the same as ``find_own_host``, letting other tasks run, as there may be many hosts."""
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
    """Return the requested host, or for a corosync.conf the host with this machine's name."""
    if host is not None:
        return cluster.get_host(host)
    return _find_by_name(cluster, os.uname().nodename) if cluster.is_corosync else None


def _is_own(host: ClusterHost) -> bool:
    return any(map(has_address, _addresses(host)))


def _choose(cluster: Cluster, own: list[ClusterHost]) -> ClusterHost:
    """Return the only host that has an address of this machine."""
    if cluster.is_corosync and len(own) > 1:
        own = [host for host in own if any(map(_is_configured, _addresses(host)))] or own
    if len(own) == 1:
        return own[0]
    file = cluster.path or "the cluster"
    if own:
        raise UnclearHostError(f"this machine has the addresses of several hosts of {file}", own)
    raise UnclearHostError(f"this machine has no address of a host of {file}", [*cluster.hosts])


def has_address(address: Address) -> bool:
    """Return whether this machine has an address, that is, a socket can be bound to it."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket_address(Address(address.host, 0)))
    except OSError:
        return False
    return True


def _is_configured(address: Address) -> bool:
    """Return whether an interface has the address, which is stricter than ``has_address``."""
    ip = ip_address(address.host.partition("%")[0])
    return has_address(address) and (not ip.is_loopback or str(ip) in (_LOCALHOST, "::1"))


def _addresses(host: ClusterHost) -> Iterable[Address]:
    return (link.address for link in host.links if link.address is not None)


def _find_by_name(cluster: Cluster, name: str) -> ClusterHost | None:
    """Return the host for a name of this machine, by the rules of corosync.conf(5)."""
    short = name.partition(".")[0]
    for wanted in (name, short):
        for host in cluster.hosts:
            if host.name == wanted:
                return host
    return next((host for host in cluster.hosts if host.name.partition(".")[0] == short), None)
