"""Sockets beside those of the links, which find links that lead to a wrong address.

Where two links are mistaken for each other, packets come to an address of this host, but to the
port of another link, where no link listens. So for each pair of an own address and the port of
another link there is a socket that notes who sends there; if all links have the same port, there is
a socket at the next port. Over the same sockets each host says which link an address belongs to,
and sees on which network card such datagrams arrive. They are not authenticated: they explain
faults, and prove nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final, NamedTuple

import attrs
import trio

from knet_trio.address import Address, socket_address
from knet_trio.cli.preflight.machine import list_cards
from knet_trio.cluster import Cluster, ClusterHost

SAY_EVERY: Final = 0.25
"""Seconds from one announcement to the next."""
_MAGIC: Final = b"knet-trio preflight\0"
_WORD: Final = struct.Struct("!HB")
_LARGEST: Final = 65536
# Control messages with the number of the network card of a packet. See ip(7), ipv6(7).
_PKTINFO: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 8, struct.Struct("=i8x")),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.Struct("=16xi")),
}
_IPV6_RECVPKTINFO: Final = 49
# Errors on which a socket is left out: the others still help to explain faults.
_NOT_TO_BE_HAD: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


@attrs.define
class Astray:
    """The signs that a link to a host leads to a wrong address.

    Attributes:
        astray: The id of the other link whose address or port its packets came to, or whose address
            the other host announces from there; -1 for none.
        arrived_on: The id of the other link on whose network card its packets arrived; -1 for none.
    """

    astray: int = -1
    arrived_on: int = -1


@attrs.frozen(eq=False)
class Ear:
    """A socket at an own address, with the port of another link.

    Attributes:
        sock: The socket.
        link_id: The id of the link that has the address.
        port_of: The id of the link that has the port, -1 for a port that no link has.
    """

    sock: socket.socket
    link_id: int
    port_of: int


class Ears:
    """The sockets of one host.

    Args:
        cluster: The cluster file.
        me: This host.
    """

    def __init__(self, cluster: Cluster, me: ClusterHost) -> None:
        self._me = me
        self._others = [host for host in cluster.hosts if host.host_id != me.host_id]
        self._ears: list[Ear] = []
        ports = {link.address.port for host in cluster.hosts for link in host.links if link.address}
        self._spare_port = max(ports, default=0) + 1
        self._heard: dict[tuple[int, int], Astray] = {}
        # The ids of the links whose addresses a network card has, by its number.
        self._cards: dict[int, set[int]] = {}
        # The host and the link of each address.
        self._owners = {
            link.address.host.partition("%")[0]: (host.host_id, link.link_id)
            for host in self._others
            for link in host.links
            if link.address is not None
        }

    def get(self, host_id: int, link_id: int) -> Astray:
        """Return the signs for a link to a host."""
        return self._heard.get((host_id, link_id), Astray())

    @contextmanager
    def opened(self) -> Generator[None]:
        """Open the sockets while the block runs; the links have to be open already."""
        with contextlib.ExitStack() as stack:
            own = [link for link in self._me.links if link.address is not None]
            taken = {link.address for link in own}
            cards = list_cards()
            for link in own:
                assert link.address is not None
                host = link.address.host
                for card in cards.get(host.partition("%")[0], ()):
                    self._cards.setdefault(card, set()).add(link.link_id)
                ports = {each.address.port: each.link_id for each in own if each.address}
                if len(own) > 1 == len(ports):
                    ports[self._spare_port] = -1
                for port, port_of in ports.items():
                    place = Address(host, port)
                    if place in taken:
                        continue
                    taken.add(place)
                    sock = _open(place)
                    if sock is not None:
                        stack.enter_context(sock)
                        self._ears.append(Ear(sock, link.link_id, port_of))
            yield

    async def run(self) -> None:
        """Listen, and announce the links of the own addresses, until cancelled."""
        async with trio.open_nursery() as nursery:
            for ear in self._ears:
                nursery.start_soon(self._listen, ear)
            while True:
                await self._say()
                await trio.sleep(SAY_EVERY)

    async def _say(self) -> None:
        """Announce each link to each other host, from a socket at the address of the link."""
        speakers = {ear.link_id: ear for ear in reversed(self._ears)}
        for host in self._others:
            await trio.lowlevel.checkpoint()
            for link in host.links:
                ear = speakers.get(link.link_id)
                port = None if ear is None else self._find_port(host, ear)
                if ear is None or link.address is None or port is None:
                    continue
                word = write_word(Word(self._me.host_id, link.link_id))
                place = Address(link.address.host, port)
                with contextlib.suppress(OSError):
                    ear.sock.sendto(word, socket_address(place))

    def _find_port(self, host: ClusterHost, ear: Ear) -> int | None:
        """Return the port of the same kind of socket at another host, None if it has none."""
        if ear.port_of < 0:
            return self._spare_port
        there = host.find_link(ear.port_of)
        return None if there is None or there.address is None else there.address.port

    async def _listen(self, ear: Ear) -> None:
        level, kind, layout = _PKTINFO[ear.sock.family]
        while True:
            await trio.lowlevel.wait_readable(ear.sock)
            try:
                data, ancillary, _, source = ear.sock.recvmsg(_LARGEST, 256)
            except OSError:
                # A network error for an earlier datagram, which the links get too.
                continue
            card = next(
                (
                    layout.unpack_from(content)[0]
                    for at, number, content in ancillary
                    if (at, number) == (level, kind) and len(content) >= layout.size
                ),
                0,
            )
            self._receive(ear, data, str(source[0]).partition("%")[0], card)

    def _receive(self, ear: Ear, data: bytes, source: str, card: int) -> None:
        owner = self._owners.get(source)
        if owner is None:
            return
        host_id, link_id = owner
        heard = self._heard.setdefault(owner, Astray())
        if not data.startswith(_MAGIC):
            # A packet of a link, at the address or the port of another link.
            heard.astray = ear.link_id if ear.link_id != link_id else ear.port_of
            return
        word = read_word(data)
        if word is None or word.host_id != host_id:
            return
        if word.link_id != link_id:
            heard.astray = word.link_id
        elif ear.link_id != link_id:
            heard.astray = ear.link_id
        links = self._cards.get(card, {link_id})
        if link_id not in links:
            heard.arrived_on = min(links)


class Word(NamedTuple):
    """An announcement: the host and the link of the address that it is sent from.

    Attributes:
        host_id: The id of the host.
        link_id: The id of the link.
    """

    host_id: int
    link_id: int


def write_word(word: Word) -> bytes:
    """Return an announcement as a datagram."""
    return _MAGIC + _WORD.pack(*word)


def read_word(data: bytes) -> Word | None:
    """Return the announcement in a datagram, None if the datagram is something else."""
    if len(data) != len(_MAGIC) + _WORD.size or not data.startswith(_MAGIC):
        return None
    return Word(*_WORD.unpack_from(data, len(_MAGIC)))


def _open(place: Address) -> socket.socket | None:
    """Return a socket bound to an address, None if it cannot be bound."""
    if ip_address(place.host.partition("%")[0]).is_unspecified:
        return None
    family = socket.AF_INET6 if place.is_ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if place.is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(*_PKTINFO[family][:2], 1)
        sock.bind(socket_address(place))
    except OSError as error:
        sock.close()
        if error.errno in _NOT_TO_BE_HAD:
            return None
        raise
    return sock
