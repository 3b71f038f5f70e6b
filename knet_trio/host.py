"""The host a user holds."""

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
from knet_trio.config import MAX_NAME_SIZE, LinkConfig
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
    """Another host and the links to it. Made by ``Handle.add_host``, which has it in ``hosts``."""

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
        """What is behind it."""
        return self._state

    @property
    def host_id(self) -> int:
        """0 to 65535, unique among the hosts."""
        return self._state.host_id

    @property
    def name(self) -> str:
        """Up to 255 bytes, unique among the hosts. Source: man knet_host_set_name."""
        return self._state.name

    @name.setter
    def name(self, name: str) -> None:
        self._check()
        check_name(self._runtime, name, self._state)
        self._runtime.handle.rename(self._state, name)

    @property
    def policy(self) -> LinkPolicy:
        """How its links share its messages. Source: man knet_host_set_policy."""
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
        """Whether it can be reached. Source: man knet_host_get_status."""
        return HostStatus(reachable=self._state.reachable.is_on)

    async def wait_reachable(self) -> None:
        """Return once a link to it can carry data; ``trio.ClosedResourceError`` if removed."""
        await self._state.reachable.wait(True)

    async def wait_unreachable(self) -> None:
        """Return once no link to it can carry data; ``trio.ClosedResourceError`` if removed."""
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
        """Add a link to the host; ``src`` here and ``dst`` there are mirrored on its side.

        ``src`` with port 0 takes a free port, shown in ``link.config.src``. Without ``dst`` the
        link is dynamic: silent until the peer speaks, and its access list, empty at first, says who
        may. ``transport="loopback"`` gives this host itself, added with the handle's own id, its
        only link: what is sent to it or to everybody is then delivered here too, and nothing is
        bound to ``src``. The other options are described at LinkConfig.

        Raises InvalidArgumentError for what does not fit, BusyError for a link id in use,
        TransportError if the system refuses the address. Then nothing has changed. Source: man
        knet_link_set_config.
        """
        await trio.lowlevel.checkpoint()
        self._check()
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
        """Take a link down and away: what ``Link.remove`` does.

        Raises UnknownLinkError if there is no such link.
        """
        self._check()
        if self._links.pop(link_id, None) is None:
            raise UnknownLinkError(f"host {self.host_id} has no link {link_id!r}")
        await self._runtime.remove_links(self._state, [self._state.links[link_id]])

    async def remove(self) -> None:
        """Take the host away, with its links. When cancelled, it has done so all the same.

        Source: man knet_host_remove.
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
    """Refuse a name that is too long, empty, or another host's than ``owner``'s."""
    size = len(name.encode())
    if not 0 < size <= MAX_NAME_SIZE:
        raise InvalidArgumentError(
            f"a host's name has 1 to {MAX_NAME_SIZE} bytes; this one has {size}"
        )
    host = runtime.handle.find(name)
    if host is not None and host is not owner:
        raise AlreadyExistsError(f"host {host.host_id} is already called {name!r}")


def check_policy(policy: object) -> LinkPolicy:
    """``policy`` if it is one."""
    if not isinstance(policy, LinkPolicy):
        raise InvalidArgumentError(f"{policy!r} is not a LinkPolicy, such as LinkPolicy.PASSIVE")
    return policy


def _check_destination(dst: Address) -> Address:
    if not dst.port:
        raise InvalidArgumentError(f"{dst} has no port: name the one the peer is bound to")
    if ip_address(dst.host.partition("%")[0]).is_unspecified:
        raise InvalidArgumentError(f"{dst} is no destination: name one address of the peer")
    return dst
