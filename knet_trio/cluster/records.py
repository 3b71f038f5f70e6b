"""The contents of a cluster file, as frozen records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

from knet_trio._core.acl import AclEntry
from knet_trio._core.liveness import (
    DEFAULT_LATENCY_SAMPLES,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_COUNT,
    DEFAULT_PONG_TIMEOUT,
)
from knet_trio._core.pmtud import DEFAULT_INTERVAL
from knet_trio._core.policy import LinkPolicy
from knet_trio.address import Address
from knet_trio.cluster._key_change import KeyChange
from knet_trio.cluster.errors import Mistake
from knet_trio.config import (
    DEFAULT_RECEIVE_BUFFER,
    DEFAULT_RECONNECT_INTERVAL,
    CompressConfig,
    CryptoConfig,
)
from knet_trio.errors import InvalidArgumentError, UnknownHostError, shown

DEFAULT_PORT: Final = 5405
DEFAULT_SOCKET_MODE: Final = "0600"
EVERYWHERE: Final = (AclEntry.network("0.0.0.0/0"), AclEntry.network("::/0"))


@attrs.frozen
class ClusterLink:
    """The settings of a link, the same between all hosts.

    Attributes:
        link_id: The id of the link, 0 to 7.
        port: The port of every host whose address has none.
        transport: The name of the transport, ``udp`` or ``sctp``.
        priority: The priority, 0 to 255. The passive policy uses the link with the highest.
        ping_interval: Seconds between pings.
        pong_timeout: Seconds without a pong after which the link is down.
        latency_samples: The number of round trips that the average latency is calculated from.
        pong_count: The link comes up with the pong after this many.
        high_priority: True if its packets are marked with a DSCP.
        enabled: True if the link may be used.
    """

    link_id: int
    port: int
    transport: str = "udp"
    priority: int = 0
    ping_interval: float = DEFAULT_PING_INTERVAL
    pong_timeout: float = DEFAULT_PONG_TIMEOUT
    latency_samples: int = DEFAULT_LATENCY_SAMPLES
    pong_count: int = DEFAULT_PONG_COUNT
    high_priority: bool = False
    enabled: bool = True


@attrs.frozen
class HostLink:
    """The end of a link at one host.

    Attributes:
        link_id: The id of the link, 0 to 7.
        address: The address of the host on that link; None if the others learn it from the packets
            of the host.
    """

    link_id: int
    address: Address | None


@attrs.frozen
class ClusterHost:
    """A host of the file.

    Attributes:
        host_id: The id of the host, 0 to 65535.
        name: The name of the host; the id in decimal if the file has none.
        links: The ends of links at the host, in the order of their ids.
        allow: The addresses that are accepted on links where its address is learnt.
    """

    host_id: int
    name: str
    links: tuple[HostLink, ...] = ()
    allow: tuple[AclEntry, ...] = EVERYWHERE

    def find_link(self, link_id: int) -> HostLink | None:
        """Return the end of a link at the host, None if it does not have the link.

        Args:
            link_id: The id of the link.
        """
        return next((link for link in self.links if link.link_id == link_id), None)


@attrs.frozen
class ClusterTap:
    """An Ethernet between the hosts.

    In ``address`` and ``mac``, ``{id}`` stands for the id of the host, ``{high}`` and ``{low}`` for
    its two bytes; ``{id:x}`` and ``{low:02x}`` are hexadecimal.

    Attributes:
        name: The name of the network device.
        channel: The channel that carries the frames.
        address: The address of a host's device, with a prefix length; None for none.
        mac: The Ethernet address of a host's device; None for one that the system chooses.
        addresses: Host ids and the addresses of their devices, which override ``address``: a
            corosync.conf puts the id into the bits after the prefix.
    """

    name: str
    channel: int
    address: str | None = None
    mac: str | None = None
    addresses: tuple[tuple[int, str], ...] = ()

    def get_address(self, host_id: int) -> str | None:
        """Return the address of a host's device, such as ``10.99.0.1/24``; None for none.

        Args:
            host_id: The id of the host.
        """
        for known, address in self.addresses:
            if known == host_id:
                return address
        return None if self.address is None else fill_in(self.address, host_id)

    def get_mac(self, host_id: int) -> str | None:
        """Return the Ethernet address of a host's device, such as ``02:00:00:00:00:01``.

        Args:
            host_id: The id of the host.

        Returns:
            The address, None for one that the system chooses.
        """
        return None if self.mac is None else fill_in(self.mac, host_id)


PLACES: Final = re.compile(r"\{(id|high|low)(:0?[1-9]?[dxX]?)?\}")
"""Matches a placeholder for the id of a host, or for one of its bytes."""


def fill_in(template: str, host_id: int) -> str:
    """Return an address or a path with the placeholders replaced by the id of a host.

    Other braces are kept, since the directory of the file, part of a path, may contain some.
    """
    high, low = divmod(host_id, 256)
    parts = {"id": host_id, "high": high, "low": low}
    return PLACES.sub(lambda place: place[0].format_map(parts), template)


@attrs.frozen
class ClusterChannel:
    """A channel for local programs.

    Attributes:
        channel: The channel, 0 to 31.
        socket: The Unix socket (SOCK_SEQPACKET) at which programs send and receive the messages of
            the channel; ``{id}`` in it is the id of the host, as in the addresses of a tap.
        receive_buffer: The most messages that wait in the channel.
        mode: The mode of the socket's file, in octal digits, which decides who may connect.
        group: The group of the socket's file, by name or number; None for that of the program.
    """

    channel: int
    socket: Path
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    mode: str = DEFAULT_SOCKET_MODE
    group: str | None = None

    def get_socket(self, host_id: int) -> Path:
        """Return the path of the socket on a host.

        Args:
            host_id: The id of the host.
        """
        return Path(fill_in(str(self.socket), host_id))


@attrs.frozen
class ClusterControl:
    """The control socket of a running host.

    Attributes:
        socket: The path of the Unix socket, in which ``{id}`` is the id of the host; None for the
            default, where commands look for it.
    """

    socket: Path | None = None

    def get_socket(self, host_id: int) -> Path | None:
        """Return the path of the socket on a host, None if the file has none.

        Args:
            host_id: The id of the host.
        """
        return None if self.socket is None else Path(fill_in(str(self.socket), host_id))


@attrs.frozen
class ClusterMetrics:
    """The metrics server of a running host.

    Attributes:
        listen: The address and TCP port of the server.
    """

    listen: Address


@attrs.frozen
class Cluster:
    """A cluster file, read and checked: the hosts, and the settings that all hosts share.

    Attributes:
        hosts: All hosts, in the order of the file.
        links: The settings of all links that a host has, in the order of their ids.
        path: The path of the file.
        name: The name of the cluster, "" for none.
        crypto: The crypto configuration of all packets, None for none. The key is never shown.
        accept_crypto: A second configuration that is accepted, while the key or the cipher changes.
        key_file: The key file; None if the key is in the file itself, or there is none.
        key_change: The change of the key in progress (``knet_trio.rekeying``), None for none.
            ``accept_crypto`` then has the other key.
        policy: How the links to a host share its messages.
        loopback: True if this host receives its own messages to itself and to all hosts.
        service_channel: The channel for requests between the hosts themselves, None for none.
        compress: How messages are compressed before they are sent. None: not at all.
        accept_compression: The algorithms of which messages are decompressed. None: all that are
            installed.
        allow_clear_traffic: True if packets without envelope are accepted. None: only while no key
            is in use.
        filter: The function that chooses the destinations of messages, as ``module:function``.
        forwarding: True if messages are sent and received.
        access_lists: True if access lists are enforced.
        privileged: True if opening fails when the system does not grant socket buffers of 8 MiB
            (SCTP: 1 MiB to receive and 512 KiB to send).
        mtu: The MTU of all paths, in bytes. None discovers the MTU of each path.
        pmtud_interval: Seconds between these discoveries.
        reconnect_interval: Seconds between two attempts to connect a link over SCTP.
        hedge: True if messages are also sent over a second link while the first is in doubt.
        dscp: The DSCP of packets of high-priority links.
        log_fd: The file descriptor for libknet's log records, None for none.
        log_level: The lowest level that is logged, None for ``info``.
        tap: The Ethernet between the hosts, None for none.
        channels: The channels for local programs.
        control: The control socket.
        metrics: The metrics server, None for none.
        is_corosync: True if the file is a corosync.conf. Its hosts are found by name first.
        warnings: Warnings about settings that are valid but unusual.
    """

    hosts: tuple[ClusterHost, ...]
    links: tuple[ClusterLink, ...] = ()
    path: Path | None = attrs.field(default=None, eq=False)
    name: str = ""
    crypto: CryptoConfig | None = None
    accept_crypto: CryptoConfig | None = None
    key_file: Path | None = None
    key_change: KeyChange | None = None
    policy: LinkPolicy = LinkPolicy.PASSIVE
    loopback: bool = False
    service_channel: int | None = None
    compress: CompressConfig | None = None
    accept_compression: tuple[str, ...] | None = None
    allow_clear_traffic: bool | None = None
    filter: str | None = None
    forwarding: bool = True
    access_lists: bool = True
    privileged: bool = False
    mtu: int | None = None
    pmtud_interval: float = DEFAULT_INTERVAL
    reconnect_interval: float = DEFAULT_RECONNECT_INTERVAL
    hedge: bool = True
    dscp: int = 0
    log_fd: int | None = None
    log_level: str | None = None
    tap: ClusterTap | None = None
    channels: tuple[ClusterChannel, ...] = ()
    control: ClusterControl = ClusterControl()
    metrics: ClusterMetrics | None = None
    is_corosync: bool = False
    warnings: tuple[Mistake, ...] = attrs.field(default=(), eq=False)

    def get_host(self, host_id_or_name: int | str) -> ClusterHost:
        """Return a host by id or name.

        Args:
            host_id_or_name: The id or the name. Text of digits that is not the name of a host is
                an id.

        Raises:
            UnknownHostError: The file has no such host.
        """
        for host in self.hosts:
            if host_id_or_name in (host.host_id, host.name):
                return host
        if isinstance(host_id_or_name, str) and host_id_or_name.isdecimal():
            return self.get_host(int(host_id_or_name))
        known = ", ".join(f"{host.name} ({host.host_id})" for host in self.hosts)
        raise UnknownHostError(
            f"the file has no host {shown(host_id_or_name)}; its hosts are {known}"
        )

    def get_link(self, link_id: int) -> ClusterLink:
        """Return the settings of a link.

        Args:
            link_id: The id of the link.

        Raises:
            InvalidArgumentError: No host has this link.
        """
        for link in self.links:
            if link.link_id == link_id:
                return link
        raise InvalidArgumentError(f"no host of the file has a link {shown(link_id)}")
