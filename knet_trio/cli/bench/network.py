"""The networks of the peers: loopback, or two network namespaces joined by veth pairs."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count
from typing import ClassVar, Final

import trio

from knet_trio.cli.bench.namespaces import NamespaceError, VethPair
from knet_trio.cli.bench.process import BenchError

_LOOPBACK: Final = "127.0.0.1"
_MTU: Final = 1500
_FIRST_PORT: Final = 5405
# Below what the system gives to sockets that ask for any port.
_FREE_PORTS: Final = range(10000, 30000)
_numbers = count()


class NetworkError(BenchError):
    """A network could not be made or changed. The message says why."""


class Network(ABC):
    """Two sides, 0 and 1, with a number of links between them.

    Attributes:
        name: The name of the kind of network.
        least_mtu: A lower limit of the data MTU that PMTUd finds, in bytes.
    """

    name: ClassVar[str]
    least_mtu: ClassVar[int]

    @abstractmethod
    def namespace(self, side: int) -> str | None:
        """Return the network namespace of a side, None for that of this process."""

    @abstractmethod
    def address(self, side: int, link: int) -> str:
        """Return a side's address on a link."""

    @abstractmethod
    def take_port(self, side: int, link: int) -> int:
        """Return a port of a side that is free for UDP and TCP, a new one at each call."""


class Loopback(Network):
    """Everything on 127.0.0.1, where a packet has room for 65 kB."""

    name = "loopback"
    least_mtu = 60000

    def namespace(self, side: int) -> str | None:
        """Return None, for the namespace of this process."""
        return None

    def address(self, side: int, link: int) -> str:
        """Return 127.0.0.1."""
        return _LOOPBACK

    def take_port(self, side: int, link: int) -> int:
        """Return a port that could be bound a moment ago."""
        for number in _numbers:
            port = _FREE_PORTS[(os.getpid() * 97 + number) % len(_FREE_PORTS)]
            if all(map(_is_free, (socket.SOCK_DGRAM, socket.SOCK_STREAM), (port, port))):
                return port
        raise AssertionError("counting does not end")


class Veth(Network):
    """Two new namespaces, joined by a veth pair of MTU 1500 for each link.

    Its links can be set down, or made to lose all packets.
    """

    name = "veth"
    least_mtu = 1300

    def __init__(self, pair: VethPair) -> None:
        self._pair = pair
        self._ports = count(_FIRST_PORT)

    def namespace(self, side: int) -> str | None:
        """Return the name of the side's namespace in ``ip netns``."""
        return self._pair.names[side]

    def address(self, side: int, link: int) -> str:
        """Return the IPv4 address of the side's device."""
        return self._pair.v4(side, link)

    def take_port(self, side: int, link: int) -> int:
        """Return the next port; no other program uses ports here."""
        return next(self._ports)

    async def take_down(self, side: int, link: int) -> None:
        """Set a side's interface down."""
        await _in_thread(partial(self._pair.set_link, link, up=False, side=side))

    async def lose_all(self, link: int) -> None:
        """Drop every packet of a link on arrival, both ways: the senders get no error."""
        for side in (0, 1):
            await self._add_rule(side, *self._pair.losing(link))

    async def lose_some(self, share: float) -> None:
        """Drop this share of packets on arrival, both ways and on all links, at random."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.4f}")
        for side in (0, 1):
            await self._add_rule(side, "INPUT", "-i", "veth+", *chance, "-j", "DROP")

    async def _add_rule(self, side: int, *rule: str) -> None:
        await _in_thread(partial(self._pair.add_rule, side, *rule))

    async def send_singly(self) -> None:
        """Split trains into packets before they leave, so that single packets are lost.

        Otherwise trains of up to 64 kB pass, or are lost, as a whole.
        """
        for side in (0, 1):
            for link in range(self._pair.links):
                await self._ip(side, "link", "set", f"veth{link}", "gso_max_segs", "1")

    async def share_address(self, address: str) -> None:
        """Add an address to side 0 that is not on a link; side 1 answers it over link 0."""
        await self._ip(0, "address", "add", f"{address}/32", "dev", "lo")
        await self._ip(1, "route", "add", address, "via", self.address(0, 0))

    async def _ip(self, side: int, *arguments: str) -> None:
        await _in_thread(partial(self._pair.ip, side, *arguments))

    async def narrow(self, link: int) -> None:
        """Limit side 0 to sending 100 Mbit/s over a link, with a queue of 40 MB."""
        await self._tbf("add", link, "100mbit", "100k")

    async def stand_still(self, link: int) -> None:
        """Stop the queue that ``narrow`` made: further packets fill it."""
        await self._tbf("change", link, "8bit", "2k")

    async def _tbf(self, action: str, link: int, rate: str, burst: str) -> None:
        words = ("qdisc", action, "dev", f"veth{link}", "root", "tbf", "rate", rate)
        await _in_thread(partial(self._pair.tc, 0, *words, "burst", burst, "limit", "40m"))


def open_network(name: str, links: int = 1) -> AbstractAsyncContextManager[Network]:
    """Open the network of that name; it is removed after the block."""
    return _open_loopback() if name == Loopback.name else open_veth(links)


@asynccontextmanager
async def _open_loopback() -> AsyncGenerator[Network]:
    yield Loopback()


@asynccontextmanager
async def open_veth(links: int = 1) -> AsyncGenerator[Veth]:
    """Open two namespaces with ``links`` veth pairs; they are removed after the block.

    Raises:
        NetworkError: They cannot be made.
    """
    pair = VethPair(links)
    try:
        await _in_thread(partial(pair.build, _MTU))
        yield Veth(pair)
    finally:
        with trio.CancelScope(shield=True):
            await _in_thread(pair.remove)


def _is_free(kind: socket.SocketKind, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


async def _in_thread(change: Callable[[], object]) -> None:
    """Change the network in a thread; a change is completed even if this is cancelled."""
    try:
        await trio.to_thread.run_sync(change)
    except NamespaceError as error:
        raise NetworkError(str(error)) from error
