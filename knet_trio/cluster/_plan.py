"""The links that one host of a cluster file has to the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from knet_trio._core.acl import AclEntry
from knet_trio._core.policy import LinkPolicy
from knet_trio._state.turns import Turns
from knet_trio._transport import LOOPBACK
from knet_trio.address import Address
from knet_trio.cluster.records import DEFAULT_PORT, Cluster, ClusterHost, ClusterLink

_EVERY_IPV4: Final = "0.0.0.0"
_EVERY_IPV6: Final = "::"


@attrs.frozen
class LinkPlan:
    """A link of this host to another one.

    Attributes:
        settings: The settings, the same on all hosts.
        src: The address of this host.
        dst: The address of the other host, None if it is learnt.
        allow: The access list, if the address of the other host is learnt.
    """

    settings: ClusterLink
    src: Address
    dst: Address | None
    allow: tuple[AclEntry, ...] = ()

    def describe(self) -> str:
        """Return the addresses of both ends, as text."""
        return f"{self.src} to {self.dst or 'an address that is learnt'}"


@attrs.frozen
class HostPlan:
    """A host that this host has links to.

    Attributes:
        host_id: The id of the host.
        name: The name of the host.
        policy: How the links share the messages to the host.
        links: The links to the host, by link id.
    """

    host_id: int
    name: str
    policy: LinkPolicy
    links: dict[int, LinkPlan]


@attrs.frozen
class LinkWay:
    """A link from one host of a file to another one.

    Attributes:
        host_id: The id of the other host.
        link_id: The id of the link, 0 to 7.
        src: The address of the host itself; the wildcard address if the others learn it.
        dst: The address of the other host, None if it is learnt.
        transport: The name of the transport.
    """

    host_id: int
    link_id: int
    src: Address
    dst: Address | None
    transport: str


def plan_links(cluster: Cluster, host: ClusterHost) -> tuple[LinkWay, ...]:
    """Return the links that ``open_cluster`` adds on a host of the file.

    Args:
        cluster: The file.
        host: The host.

    Returns:
        The links to all other hosts.
    """
    return tuple(
        LinkWay(plan.host_id, link_id, link.src, link.dst, link.settings.transport)
        for plan in plan_hosts(cluster, host).values()
        for link_id, link in plan.links.items()
    )


def plan_hosts(cluster: Cluster, me: ClusterHost) -> dict[int, HostPlan]:
    """Return the plan of host ``me``: its links to each other host, by host id."""
    return {plan.host_id: plan for plan in _plan(cluster, me)}


async def plan_hosts_in_turns(
    cluster: Cluster, me: ClusterHost, turns: Turns
) -> dict[int, HostPlan]:
    """Do the same as ``plan_hosts``, letting other tasks run, as there may be many hosts."""
    plans: dict[int, HostPlan] = {}
    for plan in _plan(cluster, me):
        plans[plan.host_id] = plan
        if turns.is_over():
            await turns.give_up()
    return plans


def _plan(cluster: Cluster, me: ClusterHost) -> Iterator[HostPlan]:
    settings = {link.link_id: link for link in cluster.links}
    for host in cluster.hosts:
        if host.host_id != me.host_id:
            links = _plan_links(settings, me, host)
            yield HostPlan(host.host_id, host.name, cluster.policy, links)
    if cluster.loopback:
        link = ClusterLink(0, DEFAULT_PORT, transport=LOOPBACK)
        # A link must have an address; loopback binds no socket to it.
        source = Address("127.0.0.1", DEFAULT_PORT)
        links = {0: LinkPlan(link, source, source)}
        yield HostPlan(me.host_id, me.name, cluster.policy, links)


def _plan_links(
    settings: dict[int, ClusterLink], me: ClusterHost, host: ClusterHost
) -> dict[int, LinkPlan]:
    plans: dict[int, LinkPlan] = {}
    for mine in me.links:
        theirs = host.find_link(mine.link_id)
        if theirs is None:
            continue
        link, src, dst = settings[mine.link_id], mine.address, theirs.address
        if src is None:
            if dst is None:
                # Both addresses are learnt, so neither host could send first.
                continue
            src = Address(_EVERY_IPV6 if dst.is_ipv6 else _EVERY_IPV4, link.port)
        plans[mine.link_id] = LinkPlan(link, src, dst, () if dst else _allowed(host, src))
    return plans


def _allowed(host: ClusterHost, src: Address) -> tuple[AclEntry, ...]:
    """Return the entries for the IP version of the link."""
    version = 6 if src.is_ipv6 else 4
    return tuple(entry for entry in host.allow if entry.first.version == version)
