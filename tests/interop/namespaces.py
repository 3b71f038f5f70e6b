"""Two network namespaces joined by veth pairs: a small network that a test may break.

Everything here is synchronous and takes milliseconds. Each command is bounded, and what was
made is removed whatever happens in the block.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Final

import trio

COMMAND_LIMIT: Final = 10.0
CLONE_NEWNET: Final = 0x40000000
_numbers = itertools.count()


def namespaces_missing() -> str | None:
    """None when namespaces can be made here, else why not and what to do."""
    if os.geteuid() != 0:
        return "network namespaces need root: run the tests as root"
    packages = {"ip": "iproute2", "iptables": "iptables", "ip6tables": "iptables"}
    lacking = {package for tool, package in packages.items() if shutil.which(tool) is None}
    if lacking:
        return f"network namespaces need: apt-get install {' '.join(sorted(lacking))}"
    name = f"knet-{os.getpid()}-probe"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "delete", name)
    except NamespaceError as error:
        return f"network namespaces are refused here ({error}): allow CAP_SYS_ADMIN"
    return None


class NamespaceError(RuntimeError):
    """A command for a namespace failed; the message carries it and what it said."""


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NamespaceError(f"{' '.join(command)}: not done in {COMMAND_LIMIT} s") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise NamespaceError(f"{' '.join(command)}: {said}")
    return done.stdout


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


class NamespacePair:
    """Namespaces 0 and 1, joined by `links` veth pairs; pair i is `veth{i}` on both sides.

    A side's addresses on pair i are `v4(side, i)`, `v6(side, i)` and `link_local(side, i)`.
    """

    DEVICE: ClassVar[str] = "veth"

    # What its namespaces are called at the end. There may be more between the first two.
    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b")

    def __init__(self, links: int) -> None:
        prefix = f"knet-{os.getpid()}-{next(_numbers)}"
        self.names: Final = tuple(f"{prefix}-{suffix}" for suffix in self.SUFFIXES)
        self.links: Final = links
        self._dropped: set[tuple[int, int]] = set()

    @staticmethod
    def v4(side: int, i: int) -> str:
        return f"10.77.{i}.{side + 1}"

    @staticmethod
    def v6(side: int, i: int) -> str:
        return f"fd77:{i:x}::{side + 1}"

    @classmethod
    def link_local(cls, side: int, i: int, *, scope: bool = True) -> str:
        """fe80:: with the interface as its scope, which only means something inside."""
        return f"fe80::{side + 1}" + (f"%{cls.device(i)}" if scope else "")

    @classmethod
    def device(cls, i: int) -> str:
        """What the interfaces of pair i are called, on both sides."""
        return f"{cls.DEVICE}{i}"

    def inside(self, side: int) -> AbstractContextManager[None]:
        """The calling thread is in the namespace of that side; see `inside`."""
        return inside(self.names[side])

    def set_link(self, i: int, *, up: bool, side: int = 0) -> None:
        """Take one side's interface up or down; the other side's carrier follows it.

        Down loses the IPv6 addresses, so up gives them again.
        """
        self._ip(side, "link", "set", self.device(i), "up" if up else "down")
        if up:
            self._add_v6(side, i)

    def rename(self, i: int, name: str, *, side: int) -> None:
        """Give one side's interface another name, up as it is."""
        self._ip(side, "link", "set", self.device(i), "name", name)

    def take_away(self, i: int) -> None:
        """Delete the interfaces of pair i."""
        self._ip(0, "link", "delete", self.device(i))

    def bring_back(self, i: int, *, mtu: int) -> None:
        """Make them anew, with the same names and addresses."""
        self._join(i)
        for side in (0, 1):
            self._dress(side, i, mtu)

    def set_mtu(self, i: int, mtu: int, *, side: int | None = None) -> None:
        """Set the MTU of pair i, on one side or (None) on both."""
        for each in (0, 1) if side is None else (side,):
            self._ip(each, "link", "set", self.device(i), "mtu", str(mtu))

    def drop(self, i: int, *, toward: int | None = None) -> None:
        """Lose every packet on pair i, toward one side or (None) both ways.

        It is lost on arrival: a rule at the sender would make its send fail, as no network does.
        """
        for side in (0, 1) if toward is None else (toward,):
            if (side, i) not in self._dropped:
                self._filter(side, "-A", i)
                self._dropped.add((side, i))

    def undrop(self, i: int) -> None:
        """Take back every `drop` of pair i."""
        for side in (0, 1):
            if (side, i) in self._dropped:
                self._filter(side, "-D", i)
                self._dropped.discard((side, i))

    def _filter(self, side: int, action: str, i: int) -> None:
        for tool in ("iptables", "ip6tables"):
            rule = (action, "INPUT", "-i", self.device(i), "-j", "DROP")
            self.run(side, tool, "-w", "5", *rule)

    def run(self, side: int, *command: str) -> str:
        """Run a command in the namespace of that side; what it says. NamespaceError if it fails."""
        return _run("ip", "netns", "exec", self.names[side], *command)

    def _ip(self, side: int, *arguments: str) -> None:
        _run("ip", "-netns", self.names[side], *arguments)

    def _add_v6(self, side: int, i: int) -> None:
        # Duplicate address detection would keep them from use for a second or two.
        for address in (f"{self.v6(side, i)}/64", f"{self.link_local(side, i, scope=False)}/64"):
            self._ip(side, "-6", "address", "replace", address, "dev", self.device(i), "nodad")

    def build(self, mtu: int) -> None:
        """Make the namespaces and what joins them; `namespace_pair` does it."""
        for name in self.names:
            _run("ip", "netns", "add", name)
        for side in range(len(self.names)):
            self._ip(side, "link", "set", "lo", "up")
        for i in range(self.links):
            self._join(i)
            for side in (0, 1):
                self._dress(side, i, mtu)

    def _join(self, i: int) -> None:
        """Make the devices of pair i."""
        end = ("type", "veth", "peer", "name", self.device(i), "netns", self.names[1])
        self._ip(0, "link", "add", self.device(i), *end)

    def _dress(self, side: int, i: int, mtu: int) -> None:
        """Give a new device its addresses and its MTU, and take it up."""
        # No generated link-local address: ours is known beforehand.
        self._ip(side, "link", "set", self.device(i), "addrgenmode", "none")
        self._ip(side, "address", "add", f"{self.v4(side, i)}/24", "dev", self.device(i))
        self.set_mtu(i, mtu, side=side)
        self.set_link(i, up=True, side=side)

    def remove(self) -> None:
        """Delete what `build` made, also when it failed halfway."""
        for name in self.names:
            if os.path.exists(f"/run/netns/{name}"):
                _run("ip", "netns", "delete", name)


@contextmanager
def namespace_pair(links: int = 2, *, mtu: int = 1500) -> Generator[NamespacePair, None, None]:
    """Two namespaces joined by that many veth pairs of that MTU; gone when the block ends."""
    pair = NamespacePair(links)
    try:
        pair.build(mtu)
        yield pair
    finally:
        pair.remove()
