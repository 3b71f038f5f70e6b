"""The settings of a demo, the state that it shows while it runs, and its result."""

from __future__ import annotations

from typing import Any, Final

import attrs

from knet_trio import LinkPolicy

LINKS: Final = 2
CIPHER: Final = "aes256"
HASH: Final = "sha256"

# All nodes share one process: what it can carry without queueing bounds messages and pings.
_COMFORTABLE_PACKETS: Final = 1200
_COMFORTABLE_PINGS: Final = 600
_MOST_MESSAGES: Final = 100


@attrs.frozen
class Settings:
    """What to do: ``seconds`` is how long to stream, ``rate`` messages a second of each node.

    ``hedge`` is that of ``open_handle``, which the C library does not have.
    """

    nodes: int
    policy: LinkPolicy
    seconds: float
    rate: float
    hedge: bool = True

    @property
    def link_ends(self) -> int:
        """The number of link ends."""
        return self.nodes * (self.nodes - 1) * LINKS

    @property
    def pong_timeout(self) -> float:
        """Short enough for a cut to show in the time there is, long enough for a busy machine."""
        wanted = min(max(self.seconds / 40, 0.2), 0.5)
        return max(wanted, 3 * self.link_ends / _COMFORTABLE_PINGS)

    @property
    def ping_interval(self) -> float:
        """Three pings in a pong timeout."""
        return self.pong_timeout / 3


def default_rate(nodes: int) -> float:
    """Messages a second of each of ``nodes`` nodes that one process carries with ease."""
    return min(_MOST_MESSAGES, _COMFORTABLE_PACKETS // (nodes * (nodes - 1) * LINKS))


@attrs.frozen
class LinkCell:
    """A link id at a node: to how many of the others it is up, and its data packets a second."""

    up: int
    others: int
    packets: float


@attrs.frozen
class NodeRow:
    """The current state of a node. ``latency`` is seconds, NaN before the first message."""

    node: int
    links: tuple[LinkCell, ...]
    sent: int
    delivered: int
    lost: int
    latency: float
    mtu: int


@attrs.frozen
class View:
    """The current state of the demo; ``done`` is the share of streaming time that is over."""

    elapsed: float
    phase: str
    done: float
    cut: frozenset[int]
    rows: tuple[NodeRow, ...]


@attrs.frozen
class Check:
    """A condition that should hold, and whether it did."""

    name: str
    ok: bool
    detail: str


@attrs.frozen
class CutResult:
    """What a cut did. Times are seconds; None is for what did not happen.

    ``known_dead`` and ``back``: from the cut until every node knew, from mending until the link
    was up again on every node.
    """

    link: int
    seconds: float
    known_dead: float | None
    back: float | None
    lost: int
    failover: float


@attrs.frozen(kw_only=True)
class Result:
    """The result of a demo. Messages count once for every node that is to get them.

    ``late`` is by how many seconds this process, with all nodes in it, was late at worst.
    """

    settings: Settings
    messages: int
    sent: int
    delivered: int
    duplicates: int
    corrupted: int
    unexplained: int
    latency_median: float
    latency_p99: float
    latency_max: float
    mtu: int
    overhead: int
    cuts: tuple[CutResult, ...]
    drops: dict[str, int]
    late: float
    checks: tuple[Check, ...]

    @property
    def lost(self) -> int:
        """Messages that never arrived."""
        return self.sent - self.delivered

    @property
    def failover(self) -> float:
        """Seconds it took the slowest flow to get over the worse of the cuts."""
        return max((cut.failover for cut in self.cuts), default=0.0)

    @property
    def ok(self) -> bool:
        """Whether everything that should hold held."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the result with plain values for JSON, times in seconds."""
        settings = self.settings
        return {
            "ok": self.ok,
            "nodes": settings.nodes,
            "links": LINKS,
            "policy": settings.policy.value,
            "hedge": settings.hedge,
            "cipher": CIPHER,
            "hash": HASH,
            "seconds": settings.seconds,
            "rate": settings.rate,
            "messages": self.messages,
            "sent": self.sent,
            "delivered": self.delivered,
            "lost": self.lost,
            "lost_unexplained": self.unexplained,
            "duplicates": self.duplicates,
            "corrupted": self.corrupted,
            "failover_seconds": _rounded(self.failover),
            "latency_seconds": {
                "median": _rounded(self.latency_median),
                "p99": _rounded(self.latency_p99),
                "max": _rounded(self.latency_max),
            },
            "mtu": self.mtu,
            "overhead": self.overhead,
            "cuts": [
                {
                    "link": cut.link,
                    "seconds": _rounded(cut.seconds),
                    "known_dead_seconds": _rounded(cut.known_dead),
                    "back_seconds": _rounded(cut.back),
                    "lost": cut.lost,
                    "failover_seconds": _rounded(cut.failover),
                }
                for cut in self.cuts
            ],
            "drops": self.drops,
            "late_seconds": _rounded(self.late),
            "checks": [attrs.asdict(check) for check in self.checks],
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
