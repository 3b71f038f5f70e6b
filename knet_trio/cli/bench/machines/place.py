"""The hosts of the bench between two machines: from addresses, or from a cluster file."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from knet_trio import (
    CryptoConfig,
    InvalidArgumentError,
    format_address,
    parse_address,
)
from knet_trio.address import Address, parse_address_like, socket_address
from knet_trio.cli.bench.bed import Dressing
from knet_trio.cli.bench.process import BenchError
from knet_trio.cli.ending import describe_error
from knet_trio.cli.free_channels import choose_service_channel, list_free_channels
from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    ClusterHost,
    ClusterLink,
    HostLink,
    find_own_host,
    load_cluster,
    read_key_file,
)

SERVER: Final = 1
# A client takes one of these ids at random, so that a second client gets an answer that the server
# is busy.
CLIENTS: Final = range(2, 18)

# For data, credits, messages beside them, and streams.
_CHANNELS: Final = 4
# The timers of failover on one machine.
_PING_INTERVAL: Final = 0.1
_PONG_TIMEOUT: Final = 0.3
_PONG_COUNT: Final = 2


@attrs.frozen
class Place:
    """The hosts of a measurement.

    Attributes:
        cluster: The hosts and their links.
        me: The host that this machine is.
        service_channel: The channel of the requests with which the client drives the server.
        channels: The channels of the measurement, which nothing else in the cluster uses.
        by_addresses: True if the place was made from addresses, so that the server learns the
            addresses of its clients.
    """

    cluster: Cluster
    me: ClusterHost
    service_channel: int
    channels: tuple[int, ...]
    by_addresses: bool = False

    @property
    def dressing(self) -> Dressing:
        """The encryption and compression, for the names of cases."""
        crypto, compress = self.cluster.crypto, self.cluster.compress
        names = [] if crypto is None else [f"{crypto.cipher}-{crypto.hash}"]
        names += [] if compress is None else [compress.model]
        return Dressing(
            "-".join(names) or "clear", payload="random" if compress is None else "text"
        )

    def describe_host(self, host: ClusterHost) -> str:
        """Return the name of a host with its addresses."""
        ends = [format_address(link.address) for link in host.links if link.address is not None]
        return f"{host.name} ({', '.join(ends)})" if ends else host.name


def read_place(file: Path, host: str | None) -> Place:
    """Return the place of a cluster file.

    Raises:
        BenchError: The file or its key cannot be used, or this machine is not one of its hosts.
    """
    try:
        cluster = load_cluster(file)
        me = find_own_host(cluster, host)
    except ClusterFileError as error:
        raise BenchError(str(error)) from None
    except InvalidArgumentError as error:
        raise BenchError(describe_error(error)) from None
    service = choose_service_channel(cluster)
    free = [channel for channel in list_free_channels(cluster) if channel != service]
    if len(free) < _CHANNELS:
        needed = f"{_CHANNELS} channels that {file} uses for nothing else"
        if cluster.service_channel is None:
            needed += ", and one more for its requests"
        raise BenchError(f"the bench needs {needed}: take some [[channels]] out of a copy of it")
    return Place(cluster, me, service, tuple(free[:_CHANNELS]))


def read_key(file: Path | None) -> CryptoConfig | None:
    """Return the encryption with the key in a file, None without a file."""
    return None if file is None else CryptoConfig(read_key_file(file))


def parse_links(texts: Sequence[str], port: int) -> list[Address]:
    """Return the addresses of the server, the first for link 0.

    Args:
        texts: The addresses or names, with or without ports.
        port: The default port of link 0; link i has this port + i by default.

    Raises:
        BenchError: A name is not known.
    """
    return [_parse(text, port + number) for number, text in enumerate(texts)]


def _parse(text: str, port: int) -> Address:
    with suppress(InvalidArgumentError):
        return Address(*parse_address(text, port))
    with suppress(InvalidArgumentError):
        return parse_address_like(text)
    name, colon, number = text.rpartition(":")
    if not (colon and number.isdecimal()):
        name, number = text, str(port)
    try:
        found = socket.getaddrinfo(name, int(number), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise BenchError(f"{text} is neither an address nor a known name: {error}") from None
    return Address(str(found[0][4][0]), int(number))


def place_server(addresses: Sequence[Address], crypto: CryptoConfig | None) -> Place:
    """Return the place of a server at these addresses, which learns those of its clients."""
    clients = [
        ClusterHost(
            host_id,
            f"client {host_id}",
            tuple(HostLink(link, None) for link in range(len(addresses))),
        )
        for host_id in CLIENTS
    ]
    return _place(addresses, clients, crypto, SERVER)


def place_client(addresses: Sequence[Address], crypto: CryptoConfig | None, host_id: int) -> Place:
    """Return the place of a client of the server at these addresses.

    Args:
        addresses: The addresses of the server, by link ids.
        crypto: The encryption, None for none.
        host_id: The host id of the client.

    Raises:
        BenchError: There is no route to one of the addresses.
    """
    ends = tuple(HostLink(link, _own_end(there)) for link, there in enumerate(addresses))
    return _place(addresses, [ClusterHost(host_id, "client", ends)], crypto, host_id)


def _place(
    addresses: Sequence[Address],
    clients: Sequence[ClusterHost],
    crypto: CryptoConfig | None,
    me: int,
) -> Place:
    ends = tuple(HostLink(link, address) for link, address in enumerate(addresses))
    settings = tuple(
        ClusterLink(
            link,
            address.port,
            priority=len(addresses) - link,
            ping_interval=_PING_INTERVAL,
            pong_timeout=_PONG_TIMEOUT,
            pong_count=_PONG_COUNT,
        )
        for link, address in enumerate(addresses)
    )
    cluster = Cluster((ClusterHost(SERVER, "server", ends), *clients), settings, crypto=crypto)
    service, *channels = list_free_channels(cluster)[: 1 + _CHANNELS]
    return Place(cluster, cluster.get_host(me), service, tuple(channels), True)


def _own_end(there: Address) -> Address:
    """Return the address from which this machine sends to another one, with port 0."""
    family = socket.AF_INET6 if there.is_ipv6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(socket_address(there))
            return Address(str(probe.getsockname()[0]), 0)
    except OSError as error:
        raise BenchError(
            f"no route to {format_address(there)}: {error.strerror or error}"
        ) from None
