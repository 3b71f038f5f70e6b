"""Two namespaces and a router between them, which is one too.

A path whose far half may become narrow: our kernel cannot know, and the router says so.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar, Final

from tests.interop.namespaces import NamespacePair, built

ROUTER: Final = 2


class RoutedPair(NamespacePair):
    """Namespaces 0 and 1, each joined by its `veth0` to the router, which has `veth{side}`."""

    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b", "router")

    @staticmethod
    def v4(side: int, i: int) -> str:
        return f"10.77.{side}.{i + 1}"

    @staticmethod
    def gateway(side: int) -> str:
        """The router's address on that side."""
        return f"10.77.{side}.254"

    def _join(self, i: int) -> None:
        for side in (0, 1):
            there = f"veth{side}"
            end = ("type", "veth", "peer", "name", there, "netns", self.names[ROUTER])
            self.ip(side, "link", "add", self.device(i), *end)
            self.ip(ROUTER, "address", "add", f"{self.gateway(side)}/24", "dev", there)
            self.ip(ROUTER, "link", "set", there, "up")

    def build(self, mtu: int) -> None:
        """Make the namespaces and what joins them; `routed_pair` does it."""
        super().build(mtu)
        for side in (0, 1):
            self.ip(side, "route", "add", "default", "via", self.gateway(side))
        self.run(ROUTER, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def set_far_mtu(self, mtu: int) -> None:
        """Set the MTU of the far half, at both of its ends."""
        self.ip(ROUTER, "link", "set", "veth1", "mtu", str(mtu))
        self.set_mtu(0, mtu, side=1)


def routed_pair() -> AbstractContextManager[RoutedPair]:
    """Two namespaces joined by way of a router, with an MTU of 1500; gone when the block ends."""
    return built(RoutedPair(1))
