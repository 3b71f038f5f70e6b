"""The host object that a program holds."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType

import trio

from knet_trio._core.liveness import (
    DEFAULT_LATENCY_SAMPLES,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_COUNT,
    DEFAULT_PONG_TIMEOUT,
)
from knet_trio._core.policy import LinkPolicy
from knet_trio._runtime import Runtime
from knet_trio._state.host import HostState
from knet_trio.address import Address, parse_address
from knet_trio.config import MAX_NAME_SIZE, LinkConfig, check_boolean
from knet_trio.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    UnknownHostError,
    UnknownLinkError,
)
from knet_trio.link import Link
from knet_trio.status import HostStatus

AddressLike = tuple[str | IPv4Address | IPv6Address, int]


class Host:
    """Another host and the links to it. ``Handle.add_host`` makes it."""

    def __init__(self, runtime: Runtime, state: HostState, hosts: dict[int, Host]) -> None:
        self._runtime = runtime
        self._state = state
        self._hosts = hosts
        self._links: dict[int, Link] = {}

    def __repr__(self) -> str:
        state = "reachable" if self._state.reachable.is_on else "unreachable"
        return f"<Host {self.host_id} {self.name!r}: {state}>"

    @property
    def state(self) -> HostState:
        """For the package itself: the state behind this object."""
        return self._state

    @property
    def host_id(self) -> int:
        """The id of the host, 0 to 65535, unique in the cluster."""
        return self._state.host_id

    @property
    def name(self) -> str:
        """Its name, 1 to 255 bytes, unique among the hosts. See knet_host_set_name(3)."""
        return self._state.name

    @name.setter
    def name(self, name: str) -> None:
        self._check()
        check_name(self._runtime, name, self._state)
        self._runtime.handle.rename(self._state, name)

    @property
    def policy(self) -> LinkPolicy:
        """How its links share its messages. See knet_host_set_policy(3)."""
        return self._state.policy

    @policy.setter
    def policy(self, policy: LinkPolicy) -> None:
        self._check()
        self._state.set_policy(check_policy(policy))

    @property
    def links(self) -> Mapping[int, Link]:
        """Its links by their ids."""
        return MappingProxyType(self._links)

    @property
    def status(self) -> HostStatus:
        """Whether it can be reached. See knet_host_get_status(3)."""
        return HostStatus(reachable=self._state.reachable.is_on)

    async def wait_reachable(self) -> None:
        """Wait until a link to the host can carry data.

        Raises:
            trio.ClosedResourceError: The host was removed, or the handle has ended.
        """
        await self._state.reachable.wait(True)

    async def wait_unreachable(self) -> None:
        """Wait until no link to the host can carry data.

        Raises:
            trio.ClosedResourceError: The host was removed, or the handle has ended.
        """
        await self._state.reachable.wait(False)

    async def add_link(
        self,
        link_id: int,
        src: AddressLike,
        dst: AddressLike | None = None,
        *,
        transport: str = "udp",
        priority: int = 0,
        ping_interval: float = DEFAULT_PING_INTERVAL,
        pong_timeout: float = DEFAULT_PONG_TIMEOUT,
        latency_samples: int = DEFAULT_LATENCY_SAMPLES,
        pong_count: int = DEFAULT_PONG_COUNT,
        high_priority: bool = False,
        enabled: bool = True,
    ) -> Link:
        """Add a link to the host. The other side has the mirror image of ``src`` and ``dst``.

        ``transport="loopback"`` gives this host itself, added with the handle's own id, its only
        link: what is sent to it, or to everybody, is then delivered here too.

        Args:
            link_id: 0 to 7, the same on both sides.
            src: The local address and port. Port 0 takes a free one, shown in ``link.config.src``.
                A loopback link binds nothing to it.
            dst: The address and port of the peer. None makes a dynamic link: it is silent until the
                peer speaks, and its access list, empty at first, says who may.
            transport: ``"udp"`` or ``"loopback"``.
            priority: 0 to 255; the passive policy prefers the highest.
            ping_interval: Seconds between pings.
            pong_timeout: Seconds without a pong after which the link is down.
            latency_samples: How many round trips the average latency is made of.
            pong_count: After this many pongs, one more takes the link up.
            high_priority: Mark its packets for the network, see ``Handle.dscp``.
            enabled: False makes a link that stays silent until ``enabled`` is set.

        Raises:
            InvalidArgumentError: An argument is out of range, or does not fit the others.
            BusyError: The host has a link of that id.
            TransportError: The system refuses the address.

        On an error nothing has changed. See knet_link_set_config(3).
        """
        await trio.lowlevel.checkpoint()
        self._check()
        check_boolean("enabled", enabled)
        config = LinkConfig(
            link_id=link_id,
            src=parse_address(*src),
            dst=None if dst is None else _check_destination(parse_address(*dst)),
            transport=transport,
            priority=priority,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            latency_samples=latency_samples,
            pong_count=pong_count,
            high_priority=high_priority,
        )
        if config.dst is not None and config.dst.is_ipv6 != config.src.is_ipv6:
            raise InvalidArgumentError(
                f"{config.src} and {config.dst} are of different IP versions"
            )
        state = self._runtime.add_link(self._state, config)
        link = self._links[link_id] = Link(self._runtime, self, state)
        state.set_enabled(enabled)
        return link

    async def remove_link(self, link_id: int) -> None:
        """Take a link down and remove it, as ``Link.remove`` does.

        Raises:
            UnknownLinkError: There is no such link.
        """
        self._check()
        if self._links.pop(link_id, None) is None:
            raise UnknownLinkError(f"host {self.host_id} has no link {link_id!r}")
        await self._runtime.remove_links(self._state, [self._state.links[link_id]])

    async def remove(self) -> None:
        """Remove the host, with its links. It is removed even if the call is cancelled.

        What waits to be sent to it is counted as ``host_down``. See knet_host_remove(3).
        """
        self._check()
        # First out of sight, so that no message starts on its way to it.
        links = list(self._state.links.values())
        self._links.clear()
        del self._hosts[self.host_id]
        self._runtime.handle.remove(self._state)
        await self._runtime.remove_links(self._state, links)

    def _check(self) -> None:
        self._runtime.check_running()
        if self._hosts.get(self.host_id) is not self:
            raise UnknownHostError(f"host {self.host_id} was removed; add it again")


def check_name(runtime: Runtime, name: str, owner: HostState | None = None) -> None:
    """Check the name of a host.

    Args:
        runtime: Whose hosts may have the name already.
        name: The name.
        owner: The host that is renamed, which may keep its name.

    Raises:
        InvalidArgumentError: It is empty or too long.
        AlreadyExistsError: Another host has it.
    """
    size = len(name.encode())
    if not 0 < size <= MAX_NAME_SIZE:
        raise InvalidArgumentError(
            f"a host's name has 1 to {MAX_NAME_SIZE} bytes; this one has {size}"
        )
    host = runtime.handle.find(name)
    if host is not None and host is not owner:
        raise AlreadyExistsError(f"host {host.host_id} is already called {name!r}")


def check_policy(policy: object) -> LinkPolicy:
    """Return ``policy`` if it is a LinkPolicy, else raise InvalidArgumentError."""
    if not isinstance(policy, LinkPolicy):
        raise InvalidArgumentError(f"{policy!r} is not a LinkPolicy, such as LinkPolicy.PASSIVE")
    return policy


def _check_destination(dst: Address) -> Address:
    if not dst.port:
        raise InvalidArgumentError(f"{dst} has no port: name the one the peer is bound to")
    if ip_address(dst.host.partition("%")[0]).is_unspecified:
        raise InvalidArgumentError(f"{dst} is no destination: name one address of the peer")
    return dst
