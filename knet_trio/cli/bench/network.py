"""Where the peers are: on loopback, or in two network namespaces joined by veth pairs."""

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
    """A network could not be made or changed; the message says why."""


class Network(ABC):
    """Two sides, 0 and 1, with a number of links between them."""

    name: ClassVar[str]
    # The user bytes of a packet that discovery finds at the least, once it has ended.
    least_mtu: ClassVar[int]

    @abstractmethod
    def namespace(self, side: int) -> str | None:
        """Return the network namespace of a side, None for that of this process."""

    @abstractmethod
    def address(self, side: int, link: int) -> str:
        """Return a side's address on a link."""

    @abstractmethod
    def take_port(self, side: int, link: int) -> int:
        """Return a free UDP and TCP port there, another at each call."""


class Loopback(Network):
    """Everything on 127.0.0.1, where a packet has room for 65 kB."""

    name = "loopback"
    least_mtu = 60000

    def namespace(self, side: int) -> str | None:
        """None, for the namespace of this process."""
        return None

    def address(self, side: int, link: int) -> str:
        """127.0.0.1."""
        return _LOOPBACK

    def take_port(self, side: int, link: int) -> int:
        """Return a port that could be bound just now."""
        for number in _numbers:
            port = _FREE_PORTS[(os.getpid() * 97 + number) % len(_FREE_PORTS)]
            if all(map(_is_free, (socket.SOCK_DGRAM, socket.SOCK_STREAM), (port, port))):
                return port
        raise AssertionError("counting does not end")


class Veth(Network):
    """Two namespaces of their own, joined by a veth pair of MTU 1500 for each link.

    Its links can be taken down, or made to lose everything.
    """

    name = "veth"
    least_mtu = 1300

    def __init__(self, pair: VethPair) -> None:
        self._pair = pair
        self._ports = count(_FIRST_PORT)

    def namespace(self, side: int) -> str | None:
        """Return the name that ``ip netns`` has for it."""
        return self._pair.names[side]

    def address(self, side: int, link: int) -> str:
        """Return the IPv4 address of the side's device."""
        return self._pair.v4(side, link)

    def take_port(self, side: int, link: int) -> int:
        """Return the next port; nobody else uses any."""
        return next(self._ports)

    async def take_down(self, side: int, link: int) -> None:
        """Set a side's interface down."""
        await _in_thread(partial(self._pair.set_link, link, up=False, side=side))

    async def lose_all(self, link: int) -> None:
        """Lose every packet of a link on arrival, both ways: its senders notice nothing."""
        for side in (0, 1):
            await self._add_rule(side, *self._pair.losing(link))

    async def lose_some(self, share: float) -> None:
        """Lose that share of what arrives, both ways and on all links, at random."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.4f}")
        for side in (0, 1):
            await self._add_rule(side, "INPUT", "-i", "veth+", *chance, "-j", "DROP")

    async def _add_rule(self, side: int, *rule: str) -> None:
        await _in_thread(partial(self._pair.add_rule, side, *rule))

    async def send_singly(self) -> None:
        """Cut trains into packets before they leave, so that what is lost is single packets.

        Otherwise they go through as a whole, up to 64 kB of them.
        """
        for side in (0, 1):
            for link in range(self._pair.links):
                await self._ip(side, "link", "set", f"veth{link}", "gso_max_segs", "1")

    async def share_address(self, address: str) -> None:
        """Give side 0 an address that is on no link; side 1 answers it over link 0."""
        await self._ip(0, "address", "add", f"{address}/32", "dev", "lo")
        await self._ip(1, "route", "add", address, "via", self.address(0, 0))

    async def _ip(self, side: int, *arguments: str) -> None:
        await _in_thread(partial(self._pair.ip, side, *arguments))

    async def narrow(self, link: int) -> None:
        """Limit what side 0 sends over a link to 100 Mbit/s, with a queue of 40 MB."""
        await self._tbf("add", link, "100mbit", "100k")

    async def stand_still(self, link: int) -> None:
        """Stop sending from the queue that ``narrow`` made; what comes fills it."""
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

    Raises NetworkError if that is not possible.
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
    """Have a thread change the network; when cancelled, it ends what it is at first."""
    try:
        await trio.to_thread.run_sync(change)
    except NamespaceError as error:
        raise NetworkError(str(error)) from error
