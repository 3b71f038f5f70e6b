"""A host of the cluster, as programs see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final, TypeAlias, final

import trio

from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._core.liveness import (
    DEFAULT_LATENCY_SAMPLES,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_COUNT,
    DEFAULT_PONG_TIMEOUT,
)
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.aead import PacketSealer
from knet_trio._facade import Facade
from knet_trio._logs.names import LogSubsystem
from knet_trio._runtime import Runtime
from knet_trio._state.explain_host import explain_host
from knet_trio._state.host import HostState
from knet_trio._transport import LOOPBACK
from knet_trio.address import Address, AddressLike, parse_address_like
from knet_trio.config import MAX_NAME_SIZE, LinkConfig, check_boolean
from knet_trio.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    UnknownHostError,
    UnknownLinkError,
    shown,
)
from knet_trio.link import Link
from knet_trio.status import HostStatus

_BROADCAST: Final = IPv4Address("255.255.255.255")
_POLICIES: Final = ", ".join(f"LinkPolicy.{policy.name}" for policy in LinkPolicy)


@final
class Host(Facade, metaclass=NoPublicConstructor):
    """A host of the cluster and the links to it.

    Returned by ``Handle.add_host``.
    """

    _MADE_BY = "Handle.add_host()"
    __slots__ = ("_hosts", "_links", "_runtime", "_state")
    _SET_OTHERWISE = MappingProxyType(
        {
            "host_id": "remove the host and add another one",
            "priority": "each link has its own: write `link.priority = ...`",
            "links": "`await host.add_link(...)` and `await link.remove()` change them",
        }
    )

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
        """The state behind this object, for the package itself."""
        return self._state

    @property
    def host_id(self) -> int:
        """The id of the host, 0 to 65535, unique in the cluster."""
        return self._state.host_id

    @property
    def name(self) -> str:
        """The name of the host, 1 to 255 bytes in UTF-8, unique. See knet_host_set_name(3)."""
        return self._state.name

    @name.setter
    def name(self, name: str) -> None:
        self._check()
        check_name(self._runtime, name, self._state)
        self._runtime.handle.rename(self._state, name)

    @property
    def policy(self) -> LinkPolicy:
        """How the links to the host share its messages. See knet_host_set_policy(3)."""
        return self._state.policy

    @policy.setter
    def policy(self, policy: LinkPolicy) -> None:
        self._check()
        self._state.set_policy(check_policy(policy))

    @property
    def links(self) -> Mapping[int, Link]:
        """The links to the host, by link id."""
        return MappingProxyType(self._links)

    @property
    def status(self) -> HostStatus:
        """The state of the host. See knet_host_get_status(3)."""
        return HostStatus(reachable=self._state.reachable.is_on)

    async def wait_reachable(self) -> None:
        """Wait until a link to the host can carry data.

        Raises:
            trio.ClosedResourceError: The host was removed, or the handle has ended.
        """
        self._runtime.check_here()
        await self._state.reachable.wait(True)

    async def wait_unreachable(self) -> None:
        """Wait until no link to the host can carry data.

        Raises:
            trio.ClosedResourceError: The host was removed, or the handle has ended.
        """
        self._runtime.check_here()
        await self._state.reachable.wait(False)

    def confirmed(self, slot: int) -> bool:
        """Return whether the host has answered with the crypto configuration in ``slot``.

        Only for model ``aead``: packets of the host are accepted from its answer on. Before a
        handle uses a slot of this model, all its hosts should be confirmed here, and this host by
        them.

        Args:
            slot: The crypto slot, 1 or 2.

        Returns:
            True if it has answered since contact was lost last, and always for this host itself.
            False if not, or if the slot is empty or of another model.

        Raises:
            InvalidArgumentError: The slot is not 1 or 2.
        """
        self._runtime.check_here()
        sealer = self._runtime.context.crypto.find(slot)
        if not isinstance(sealer, PacketSealer):
            return False
        if self._state.loopback is not None:
            return True
        return self._state.trust.of(sealer).confirmation.life is not None

    def explain(self) -> str:
        """Return a text for people: why the host is reachable or not, and over which links."""
        self._runtime.check_here()
        return explain_host(self._state)

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
        """Add a link to the host. The peer adds one with ``src`` and ``dst`` exchanged.

        With ``transport="loopback"``, for a host with the handle's own id, the link delivers
        messages to this host itself. On an error or cancellation, nothing has changed.

        Args:
            link_id: The id, 0 to 7, the same on both sides.
            src: The local address and port, a pair or text: ``("10.0.0.1", 5405)`` or
                ``"10.0.0.1:5405"``. Port 0 takes a free port, shown in ``link.config.src``. A
                loopback link binds no socket.
            dst: The address and port of the peer. None makes a dynamic link, which sends nothing
                until the peer has. Its access list is empty at first: add the peer's addresses.
            transport: ``"udp"``, ``"sctp"`` if the kernel supports it, or ``"loopback"``; the same
                on both sides.
            priority: The priority, 0 to 255. The passive policy uses the link with the highest.
            ping_interval: Seconds between pings.
            pong_timeout: Seconds without a pong after which the link is down, at least
                ``ping_interval``.
            latency_samples: The number of round trips that the average latency is calculated from.
            pong_count: The link comes up with the pong after this many.
            high_priority: Mark its packets with a DSCP, see ``Handle.dscp``.
            enabled: False keeps the link silent until ``Link.enabled`` is set.

        Returns:
            The new link, which is down until the peer answers.

        Raises:
            InvalidArgumentError: An argument is out of range, or does not fit the others.
            BusyError: The host has a link with this id.
            TransportError: The system refuses the address, or does not support SCTP
                (EPROTONOSUPPORT).

        See knet_link_set_config(3).
        """
        self._check()
        await trio.lowlevel.checkpoint()
        self._check()
        check_boolean("enabled", enabled)
        config = LinkConfig(
            link_id=link_id,
            src=parse_address_like(src),
            dst=None if dst is None else parse_address_like(dst),
            transport=transport,
            priority=priority,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            latency_samples=latency_samples,
            pong_count=pong_count,
            high_priority=high_priority,
        )
        _check_addresses(config)
        self._warn_of_equal_link(config)
        state = self._runtime.add_link(self._state, config)
        link = self._links[link_id] = construct(Link, self._runtime, self, state)
        state.set_enabled(enabled)
        return link

    async def remove_link(self, link_id: int) -> None:
        """Remove a link, as ``Link.remove`` does. It is removed even if the call is cancelled.

        Args:
            link_id: The id of the link.

        Raises:
            UnknownLinkError: The host has no link with this id.
        """
        self._check()
        if type(link_id) is not int or link_id not in self._links:
            there = ", ".join(map(str, self._links)) or "none"
            raise UnknownLinkError(
                f"host {self.host_id} has no link {shown(link_id)}; of those it has: {there}"
            )
        del self._links[link_id]
        await self._runtime.remove_links(self._state, [self._state.links[link_id]])

    async def remove(self) -> None:
        """Remove the host and its links. They are removed even if the call is cancelled.

        Messages that wait to be sent to it are dropped, and counted as ``host_down``.

        See knet_host_remove(3).
        """
        self._check()
        # Hidden first, so that no further message is sent to it.
        links = list(self._state.links.values())
        self._links.clear()
        del self._hosts[self.host_id]
        self._runtime.handle.remove(self._state)
        await self._runtime.remove_links(self._state, links)

    def _warn_of_equal_link(self, config: LinkConfig) -> None:
        """Warn of a second link with the same addresses: both fail together."""
        way = config.src, config.dst
        for link_id, other in self._state.network_links.items():
            if link_id != config.link_id and (other.config.src, other.config.dst) == way:
                self._runtime.context.log.warning(
                    LogSubsystem.LINK,
                    "link %d to host %d has the same addresses as link %d, and fails with it:"
                    " use another network for it",
                    config.link_id,
                    self.host_id,
                    link_id,
                )
                return

    def _check(self) -> None:
        self._runtime.check_running()
        if self._hosts.get(self.host_id) is not self:
            raise UnknownHostError(f"host {self.host_id} was removed: add it again")


def check_name(runtime: Runtime, name: str, owner: HostState | None = None) -> None:
    """Check the name of a host.

    Args:
        runtime: The handle, among whose hosts the name has to be unique.
        name: The name.
        owner: The host that is renamed, which may keep its name; None for a new one.

    Raises:
        InvalidArgumentError: The name is not text, or has a wrong size.
        AlreadyExistsError: Another host has this name.
    """
    _check_text(name)
    host = runtime.handle.find(name)
    if host is not None and host is not owner:
        raise AlreadyExistsError(
            f"host {host.host_id} is already named {shown(name)}: names are unique, choose another"
        )


def _check_text(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidArgumentError(f"the name of a host is text, and {shown(name)} is not")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"the name {shown(name)} cannot be encoded as UTF-8: it has surrogate characters"
        ) from None
    if not 0 < size <= MAX_NAME_SIZE:
        raise InvalidArgumentError(
            f"the name of a host has 1 to {MAX_NAME_SIZE} bytes in UTF-8; this one has {size}"
        )
    if "\0" in name:
        raise InvalidArgumentError(
            f"the name {shown(name)} has a zero byte, where it would end for libknet: leave it out"
        )


def check_policy(policy: object) -> LinkPolicy:
    """Return ``policy`` if it is a LinkPolicy, else raise InvalidArgumentError."""
    if not isinstance(policy, LinkPolicy):
        raise InvalidArgumentError(f"{shown(policy)} is not a LinkPolicy: use one of {_POLICIES}")
    return policy


def _check_addresses(config: LinkConfig) -> None:
    """Raise InvalidArgumentError if a link cannot lead from ``src`` to ``dst``."""
    src, dst = config.src, config.dst
    if _is_of_many(src):
        raise InvalidArgumentError(
            f"src {src} is a multicast or broadcast address: give an address of this machine"
        )
    if dst is None:
        return
    if dst.is_ipv6 != src.is_ipv6:
        raise InvalidArgumentError(
            f"{src} and {dst} are of different IP versions: give both as IPv4, or both as IPv6"
        )
    if not dst.port:
        raise InvalidArgumentError(f"dst {dst} has no port: give the one the peer is bound to")
    if _is_of_many(dst) or _ip(dst).is_unspecified:
        raise InvalidArgumentError(f"dst {dst} is not one host: give an address of the peer")
    if (dst == src or _reaches_itself(src, dst)) and config.transport.lower() != LOOPBACK:
        raise InvalidArgumentError(
            f"a link from {src} to {dst} leads to itself: give the peer's address as dst, or"
            " transport='loopback' for messages to this host itself"
        )


def _reaches_itself(src: Address, dst: Address) -> bool:
    """Return whether ``src`` is the wildcard address, and ``dst`` a loopback address."""
    return _ip(src).is_unspecified and _ip(dst).is_loopback and dst.port == src.port


def _ip(address: Address) -> IPv4Address | IPv6Address:
    return ip_address(address.host.partition("%")[0])


def _is_of_many(address: Address) -> bool:
    """Return whether ``address`` is a multicast address, or the broadcast address."""
    ip = _ip(address)
    return ip.is_multicast or ip == _BROADCAST


Destination: TypeAlias = int | str | Host
"""A host: its id, its name, or what ``Handle.add_host`` returned."""

Destinations: TypeAlias = Destination | Iterable[Destination]
"""One host, or several."""
