"""The network: a namespace for each host, and a hub between them that loses packets.

Host h has an interface ``eth{n}`` on each of the networks, at ``10.8{n}.{h}.2``; its other end is
``h{h}n{n}`` in the hub, which routes. So all that happens to packets happens in the hub, where
iptables counts it, and what comes out at a host's interface is what got through.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import permutations, product
from typing import Final, NamedTuple

from tests.interop.namespaces import Namespaces

HOSTS: Final = (1, 2, 3)
NETWORKS: Final = (0, 1)
PORT: Final = 5405
_HUB: Final = 0


class Way(NamedTuple):
    """One direction of a link: from a host to another over a network."""

    source: int
    destination: int
    network: int


class Passed(NamedTuple):
    """How many packets came into the hub on a way, were lost there by chance, and came out."""

    entered: int
    lost: int
    left: int

    @property
    def cut(self) -> int:
        """How many were lost because the link was cut."""
        return self.entered - self.lost - self.left


WAYS: Final = tuple(Way(a, b, n) for (a, b), n in product(permutations(HOSTS, 2), NETWORKS))


def address(host: int, network: int) -> str:
    """Where a host is on a network."""
    return f"10.8{network}.{host}.2"


class Wires:
    """The namespaces and what joins them; ``loss`` is the share of packets that get lost."""

    def __init__(self, loss: float) -> None:
        # By the numbers of the hosts, which are 1, 2, 3.
        self._namespaces = Namespaces("hub", *map(str, HOSTS))
        self._loss = loss
        self._cut: dict[str, list[Way]] = {}

    def name(self, host: int) -> str:
        """The namespace of a host."""
        return self._namespaces.names[host]

    def build(self) -> None:
        """Make all of it."""
        self._namespaces.make()
        self._in_hub("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for host, network in product(HOSTS, NETWORKS):
            near, far = f"eth{network}", f"h{host}n{network}"
            end = ("type", "veth", "peer", "name", far, "netns", self.name(_HUB))
            self._ip(host, "link", "add", near, "address", _mac(host, network, 2), *end)
            # A packet is lost on its own account, so the kernel has to cut trains before the hub.
            self._ip(host, "link", "set", near, "gso_max_segs", "1")
            self._ip(host, "address", "add", f"{address(host, network)}/24", "dev", near)
            self._ip(_HUB, "link", "set", far, "address", _mac(host, network, 1))
            hub_address = f"10.8{network}.{host}.1/24"
            self._ip(_HUB, "address", "add", hub_address, "dev", far)
            self._ip(_HUB, "link", "set", far, "up")
            self._neighbour(_HUB, far, address(host, network), _mac(host, network, 2))
            self._bring_up(host, network)
        for way in WAYS:
            chain = _chain(way)
            self._iptables("-N", chain)
            self._iptables("-A", "FORWARD", *_match(way), "-j", chain)
            if self._loss:
                chance = ("-m", "statistic", "--mode", "random", "--probability", str(self._loss))
                self._iptables("-A", chain, *chance, "-j", "DROP")
            self._iptables("-A", chain, "-j", "ACCEPT")

    def remove(self) -> None:
        """Delete what ``build`` made, also when it failed halfway."""
        self._namespaces.remove()

    # Cuts.

    def cut(self, a: int, b: int, network: int) -> None:
        """Let nothing pass between two hosts on a network, silently."""
        self._block(f"link {a}-{b}", [Way(a, b, network), Way(b, a, network)])

    def take_down(self, host: int, network: int) -> None:
        """Take an interface of a host down, which its sockets are told of."""
        ways = [way for way in WAYS if way.network == network and host in way[:2]]
        # So that the hub counts what is lost before it.
        self._block(f"interface {host}", ways)
        self._ip(host, "link", "set", f"eth{network}", "down")

    def mend(self) -> None:
        """Undo what ``cut`` and ``take_down`` did."""
        for what, ways in self._cut.items():
            if what.startswith("interface"):
                self._bring_up(int(what.split()[1]), ways[0].network)
            for way in ways:
                self._iptables("-D", _chain(way), "1")
        self._cut.clear()

    def _block(self, what: str, ways: list[Way]) -> None:
        self._cut[what] = ways
        for way in ways:
            self._iptables("-I", _chain(way), "1", "-j", "DROP")

    def _bring_up(self, host: int, network: int) -> None:
        interface, hub = f"eth{network}", f"10.8{network}.{host}.1"
        self._ip(host, "link", "set", interface, "up")
        # Looking for the neighbour would take time, and lose what is sent meanwhile.
        self._neighbour(host, interface, hub, _mac(host, network, 1))
        self._ip(host, "route", "replace", f"10.8{network}.0.0/16", "via", hub, "dev", interface)

    # What is counted.

    def passed(self) -> dict[Way, Passed]:
        """The counters of every way, read at once."""
        said = self._in_hub("iptables-save", "-c", "-t", "filter")
        rules = list(_rules(said))
        counted: dict[Way, Passed] = {}
        for way in WAYS:
            chain = _chain(way)
            entered = sum(count for count, rule in rules if f"-j {chain}" in rule)
            own = [(count, rule) for count, rule in rules if f"-A {chain} " in rule]
            lost = sum(count for count, rule in own if "statistic" in rule)
            left = sum(count for count, rule in own if "-j ACCEPT" in rule)
            counted[way] = Passed(entered, lost, left)
        return counted

    def _neighbour(self, side: int, interface: str, ip_address: str, mac: str) -> None:
        there = (ip_address, "lladdr", mac, "dev", interface, "nud", "permanent")
        self._ip(side, "neighbour", "replace", *there)

    def _ip(self, side: int, *arguments: str) -> None:
        self._namespaces.ip(side, *arguments)

    def _iptables(self, *arguments: str) -> None:
        self._in_hub("iptables", "-w", "5", *arguments)

    def _in_hub(self, *command: str) -> str:
        return self._namespaces.run(_HUB, *command)


def _rules(said: str) -> Iterator[tuple[int, str]]:
    """The rules that iptables-save lists, each with its count of packets."""
    for line in said.splitlines():
        found = re.match(r"\[(\d+):\d+\] (.*)", line)
        if found is not None:
            yield int(found[1]), f"{found[2]} "


def _chain(way: Way) -> str:
    return "W{}-{}-{}".format(*way)


def _match(way: Way) -> tuple[str, ...]:
    source, destination, network = way
    there = address(destination, network)
    return "-s", address(source, network), "-d", there, "-p", "udp"


def _mac(host: int, network: int, end: int) -> str:
    return f"02:00:00:{host:02x}:{network:02x}:{end:02x}"


@contextmanager
def open_wires(loss: float) -> Generator[Wires]:
    """A network that is gone when the block ends."""
    wires = Wires(loss)
    try:
        wires.build()
        yield wires
    finally:
        wires.remove()
