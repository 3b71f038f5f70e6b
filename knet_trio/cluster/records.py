"""What a cluster file says, as frozen records."""

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
    """The settings that a link has between any two hosts.

    Attributes:
        link_id: 0 to 7.
        port: The port of every host whose address names none.
        transport: The name of the transport, ``udp`` or ``sctp``.
        priority: 0 to 255; the passive policy prefers the highest.
        ping_interval: Seconds between pings.
        pong_timeout: Seconds without a pong after which the link is down.
        latency_samples: How many round trips the average latency is made of.
        pong_count: After this many pongs, one more takes the link up.
        high_priority: Whether its packets are marked for the network.
        enabled: Whether it is in use.
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
        link_id: 0 to 7.
        address: The address of the host on that link; None if the others learn it from what the
            host sends.
    """

    link_id: int
    address: Address | None


@attrs.frozen
class ClusterHost:
    """A host of the file.

    Attributes:
        host_id: 0 to 65535.
        name: Its name; the id in decimal if the file has none.
        links: Its ends of the links that it has, in the order of their ids.
        allow: From where it may speak on the links on which its address is learnt.
    """

    host_id: int
    name: str
    links: tuple[HostLink, ...] = ()
    allow: tuple[AclEntry, ...] = EVERYWHERE

    def find_link(self, link_id: int) -> HostLink | None:
        """Return its end of that link, None if it has none."""
        return next((link for link in self.links if link.link_id == link_id), None)


@attrs.frozen
class ClusterTap:
    """An Ethernet between the hosts.

    In ``address`` and ``mac``, ``{id}`` is the id of the host, ``{high}`` and ``{low}`` are its two
    bytes; ``{id:x}`` and ``{low:02x}`` are hexadecimal.

    Attributes:
        name: The name of the network device.
        channel: The channel that the frames go over.
        address: The address of a host's device, with a prefix length; None for none.
        mac: The Ethernet address of a host's device; None for what the system gives it.
        addresses: Host ids and the addresses of their devices, where ``address`` cannot say it: a
            corosync.conf puts the id into the bits behind the prefix.
    """

    name: str
    channel: int
    address: str | None = None
    mac: str | None = None
    addresses: tuple[tuple[int, str], ...] = ()

    def get_address(self, host_id: int) -> str | None:
        """Return the address of that host's device, such as ``10.99.0.1/24``."""
        for known, address in self.addresses:
            if known == host_id:
                return address
        return None if self.address is None else fill_in(self.address, host_id)

    def get_mac(self, host_id: int) -> str | None:
        """Return the Ethernet address of that host's device, such as ``02:00:00:00:00:01``."""
        return None if self.mac is None else fill_in(self.mac, host_id)


PLACES: Final = re.compile(r"\{(id|high|low)(:0?[1-9]?[dxX]?)?\}")
"""What stands for the id of a host, or a part of it."""


def fill_in(template: str, host_id: int) -> str:
    """Return an address, or a path, with the id of a host in its place.

    Other braces stay: the directory of the file, which is part of a path, may have some.
    """
    high, low = divmod(host_id, 256)
    parts = {"id": host_id, "high": high, "low": low}
    return PLACES.sub(lambda place: place[0].format_map(parts), template)


@attrs.frozen
class ClusterChannel:
    """A channel for local programs.

    Attributes:
        channel: 0 to 31.
        socket: The Unix socket (SOCK_SEQPACKET) at which programs send and receive its messages;
            ``{id}`` in it is the id of the host, as in the addresses of a tap.
        receive_buffer: How many messages wait in the channel at most.
        mode: Who may connect: the mode of the socket's file, in octal digits.
        group: The group of the socket's file, by name or number; None for that of the program.
    """

    channel: int
    socket: Path
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    mode: str = DEFAULT_SOCKET_MODE
    group: str | None = None

    def get_socket(self, host_id: int) -> Path:
        """Return the path of the socket on that host."""
        return Path(fill_in(str(self.socket), host_id))


@attrs.frozen
class ClusterControl:
    """Where a running host can be looked into.

    Attributes:
        socket: The Unix socket; None for the place where commands look for it. ``{id}`` in it is
            the id of the host.
    """

    socket: Path | None = None

    def get_socket(self, host_id: int) -> Path | None:
        """Return the path of the socket on that host, None if the file has none."""
        return None if self.socket is None else Path(fill_in(str(self.socket), host_id))


@attrs.frozen
class ClusterMetrics:
    """Where the metrics of a running host are served.

    Attributes:
        listen: The address and TCP port.
    """

    listen: Address


@attrs.frozen
class Cluster:
    """A cluster file, read and checked: what all its hosts have in common, and the hosts.

    Attributes:
        hosts: All hosts, in the order of the file.
        links: The settings of every link that a host has, in the order of their ids.
        path: The file.
        name: The name of the cluster, "" if it has none.
        crypto: The envelope of all packets, None for none. The key is never shown.
        accept_crypto: Another one that is accepted too, while the key or the cipher changes.
        key_file: The key file; None if the key stands in the file itself, or there is none.
        key_change: The change of the key that is under way (``knet_trio.rekeying``), None for none.
            ``accept_crypto`` has the other key then.
        policy: How the links to a host share its messages.
        loopback: Whether this host gets what it sends to itself, or to everybody.
        service_channel: The channel of the hosts' own requests to each other, None for none.
        compress: How messages are compressed before they are sent, None for not at all.
        accept_compression: The algorithms whose messages are opened, None for all.
        allow_clear_traffic: Whether packets without envelope are accepted. None: only while no key
            is in use.
        filter: ``module:function``, the function that decides where messages go.
        forwarding: Whether messages are sent and received.
        access_lists: Whether access lists decide which addresses may speak on a link.
        privileged: Whether socket buffers of full size are insisted on: 8 MiB, for SCTP 1 MiB to
            receive and 512 KiB to send.
        mtu: The interface MTU to go by, in bytes; None discovers the MTU of each path.
        pmtud_interval: Seconds between such discoveries.
        reconnect_interval: Seconds from one attempt to connect to the next, of links over SCTP.
        hedge: Whether messages go over a second link too while there is doubt about the first.
        dscp: The DSCP that marks the packets of high-priority links.
        log_fd: The descriptor that libknet's log records go to, None for none.
        log_level: What is logged, None for ``info``.
        tap: The Ethernet between the hosts, None for none.
        channels: The channels for local programs.
        control: Where a running host can be looked into.
        metrics: Where metrics are served, None for nowhere.
        is_corosync: Whether the file is a corosync.conf, whose hosts find themselves by name first.
        warnings: What can be used but is odd.
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
        """Return the host of that id or name; a name in digits is an id, if no host has it.

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
            f"there is no host {shown(host_id_or_name)} in it; there are {known}"
        )

    def get_link(self, link_id: int) -> ClusterLink:
        """Return the settings of that link.

        Raises:
            InvalidArgumentError: No host has it.
        """
        for link in self.links:
            if link.link_id == link_id:
                return link
        raise InvalidArgumentError(f"no host in it has a link {shown(link_id)}")
