"""Two network namespaces joined by veth pairs: a small network that a test may break.

What makes them is in the package, for the bench has such a network too. Here are IPv6, changes of
devices, and being inside.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeVar

import trio

from knet_trio.cli.bench.namespaces import (
    COMMAND_LIMIT,
    Namespaces,
    VethPair,
    namespaces_missing,
    within,
)

__all__ = [
    "NamespacePair",
    "Namespaces",
    "built",
    "inside",
    "namespace_pair",
    "namespaces_missing",
    "within",
]

CLONE_NEWNET: Final = 0x40000000
AnyPair = TypeVar("AnyPair", bound=VethPair)


def _setns(fd: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


@contextmanager
def inside(name: str) -> Generator[None, None, None]:
    """The calling thread is in the namespace of that name: sockets made in the block belong to it.

    Only this thread, and for Trio every task that runs before the block ends. Processes
    started in the block are inside too.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
            _bring_threads(home)
    finally:
        os.close(home)


def _bring_threads(home: int) -> None:
    """Have Trio's idle threads leave the namespace too, if they were begun in it.

    Trio keeps them for ten seconds, and starts the processes of later tests in them.
    """
    idle = [each for each in threading.enumerate() if each.name.startswith("Trio thread")]
    # Each waits for all others, so that no two of the jobs have the same thread.
    together = threading.Barrier(len(idle) + 1)

    def go_home() -> None:
        _setns(home)
        together.wait(COMMAND_LIMIT)

    for _ in idle:
        trio.lowlevel.start_thread_soon(go_home, lambda _: None)
    together.wait(COMMAND_LIMIT)


class NamespacePair(VethPair):
    """Namespaces 0 and 1, joined by `links` veth pairs; pair i is `veth{i}` on both sides.

    A side's addresses on pair i are `v4(side, i)`, `v6(side, i)` and `link_local(side, i)`.
    """

    def __init__(self, links: int) -> None:
        super().__init__(links)
        self._dropped: set[tuple[int, int]] = set()

    @staticmethod
    def v6(side: int, i: int) -> str:
        return f"fd77:{i:x}::{side + 1}"

    @classmethod
    def link_local(cls, side: int, i: int, *, scope: bool = True) -> str:
        """fe80:: with the interface as its scope, which only means something inside."""
        return f"fe80::{side + 1}" + (f"%{cls.device(i)}" if scope else "")

    def inside(self, side: int) -> AbstractContextManager[None]:
        """The calling thread is in the namespace of that side; see `inside`."""
        return inside(self.names[side])

    def set_link(self, i: int, *, up: bool, side: int = 0) -> None:
        """Take one side's interface up or down; the other side's carrier follows it.

        Down loses the IPv6 addresses, so up gives them again.
        """
        super().set_link(i, up=up, side=side)
        if up:
            self._add_v6(side, i)

    def rename(self, i: int, name: str, *, side: int) -> None:
        """Give one side's interface another name, up as it is."""
        self.ip(side, "link", "set", self.device(i), "name", name)

    def take_away(self, i: int) -> None:
        """Delete the interfaces of pair i."""
        self.ip(0, "link", "delete", self.device(i))

    def bring_back(self, i: int, *, mtu: int) -> None:
        """Make them anew, with the same names and addresses."""
        self._join(i)
        for side in (0, 1):
            self._dress(side, i, mtu)

    def drop(self, i: int, *, toward: int | None = None) -> None:
        """Lose every packet on pair i on arrival, toward one side or (None) both ways."""
        for side in (0, 1) if toward is None else (toward,):
            if (side, i) not in self._dropped:
                for tool in ("iptables", "ip6tables"):
                    self.add_rule(side, *self.losing(i), tool=tool)
                self._dropped.add((side, i))

    def undrop(self, i: int) -> None:
        """Take back every `drop` of pair i."""
        for side in (0, 1):
            if (side, i) in self._dropped:
                for tool in ("iptables", "ip6tables"):
                    self.delete_rule(side, *self.losing(i), tool=tool)
                self._dropped.discard((side, i))

    @contextmanager
    def rules(self, side: int, *rules: str) -> Generator[None, None, None]:
        """Rules of that side's firewall, such as `INPUT -i veth1 -j DROP`, while the block runs."""
        for rule in rules:
            self.add_rule(side, *rule.split())
        try:
            yield
        finally:
            for rule in rules:
                self.delete_rule(side, *rule.split())

    def _add_v6(self, side: int, i: int) -> None:
        # Duplicate address detection would keep them from use for a second or two.
        for address in (f"{self.v6(side, i)}/64", f"{self.link_local(side, i, scope=False)}/64"):
            self.ip(side, "-6", "address", "replace", address, "dev", self.device(i), "nodad")


@contextmanager
def built(pair: AnyPair, mtu: int = 1500) -> Generator[AnyPair, None, None]:
    """Namespaces of any kind with all that joins them; gone when the block ends."""
    try:
        pair.build(mtu)
        yield pair
    finally:
        pair.remove()


def namespace_pair(links: int = 2, *, mtu: int = 1500) -> AbstractContextManager[NamespacePair]:
    """Two namespaces joined by that many veth pairs of that MTU; gone when the block ends."""
    return built(NamespacePair(links), mtu)
