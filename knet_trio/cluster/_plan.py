"""What one host does with a file: its links to the others."""

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
        settings: What is the same for all hosts.
        src: The address of this host on it.
        dst: The address of the other one, None if it is learnt.
        allow: From where the other may speak, if its address is learnt.
    """

    settings: ClusterLink
    src: Address
    dst: Address | None
    allow: tuple[AclEntry, ...] = ()

    def describe(self) -> str:
        """Return where it leads from and to, as text."""
        return f"{self.src} to {self.dst or 'an address that is learnt'}"


@attrs.frozen
class HostPlan:
    """A host that this one has links to.

    Attributes:
        host_id: Its id.
        name: Its name.
        policy: How the links share its messages.
        links: The links, by their ids.
    """

    host_id: int
    name: str
    policy: LinkPolicy
    links: dict[int, LinkPlan]


@attrs.frozen
class LinkWay:
    """A link that a host of a file has to another one.

    Attributes:
        host_id: The other host.
        link_id: 0 to 7.
        src: The address of the host itself; of every address of the machine if the others learn it.
        dst: The address of the other host, None if it is learnt.
        transport: The name of the transport.
    """

    host_id: int
    link_id: int
    src: Address
    dst: Address | None
    transport: str


def plan_links(cluster: Cluster, host: ClusterHost) -> tuple[LinkWay, ...]:
    """Return the links that ``open_cluster`` adds on a host of the file."""
    return tuple(
        LinkWay(plan.host_id, link_id, link.src, link.dst, link.settings.transport)
        for plan in plan_hosts(cluster, host).values()
        for link_id, link in plan.links.items()
    )


def plan_hosts(cluster: Cluster, me: ClusterHost) -> dict[int, HostPlan]:
    """Return what host ``me`` of the file has to set up, by the ids of the other hosts."""
    return {plan.host_id: plan for plan in _plan(cluster, me)}


async def plan_hosts_in_turns(
    cluster: Cluster, me: ClusterHost, turns: Turns
) -> dict[int, HostPlan]:
    """Return what ``plan_hosts`` does; others get their turns, as there may be thousands."""
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
        # It has to have an address, and binds nothing to it.
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
                # Neither could begin.
                continue
            src = Address(_EVERY_IPV6 if dst.is_ipv6 else _EVERY_IPV4, link.port)
        plans[mine.link_id] = LinkPlan(link, src, dst, () if dst else _allowed(host, src))
    return plans


def _allowed(host: ClusterHost, src: Address) -> tuple[AclEntry, ...]:
    """Return the entries for the version of IP that the link speaks."""
    version = 6 if src.is_ipv6 else 4
    return tuple(entry for entry in host.allow if entry.first.version == version)
