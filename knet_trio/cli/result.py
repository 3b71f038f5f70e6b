"""The settings of a demo, the state that it shows while it runs, and its result."""

from __future__ import annotations

from typing import Any, Final

import attrs

from knet_trio import LinkPolicy

LINKS: Final = 2
CIPHER: Final = "aes256"
HASH: Final = "sha256"

# Packets and pings a second that one process, which all nodes share, carries without queueing.
_COMFORTABLE_PACKETS: Final = 1200
_COMFORTABLE_PINGS: Final = 600
_MOST_MESSAGES: Final = 100


@attrs.frozen
class Settings:
    """The settings of a demo.

    Attributes:
        nodes: The number of nodes.
        policy: The policy of the links to each host.
        seconds: How long to stream, in seconds.
        rate: The messages a second of each node.
        hedge: The argument of ``open_handle``: send over a second link too while there is doubt
            about the first. The C library does not do so.
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
        """The pong timeout in seconds: short enough to show cuts, long enough for busy machines."""
        wanted = min(max(self.seconds / 40, 0.2), 0.5)
        return max(wanted, 3 * self.link_ends / _COMFORTABLE_PINGS)

    @property
    def ping_interval(self) -> float:
        """The ping interval in seconds: three pings in a pong timeout."""
        return self.pong_timeout / 3


def default_rate(nodes: int) -> float:
    """Return the messages a second of each node that one process carries with ease."""
    return min(_MOST_MESSAGES, _COMFORTABLE_PACKETS // (nodes * (nodes - 1) * LINKS))


@attrs.frozen
class LinkCell:
    """The links of one id at a node.

    Attributes:
        up: The number of other nodes to which the link is up.
        others: The number of other nodes.
        packets: The data packets sent a second.
    """

    up: int
    others: int
    packets: float


@attrs.frozen
class NodeRow:
    """The current state of a node.

    Attributes:
        node: The host id.
        links: The links, by their ids.
        sent: The number of messages it has sent.
        delivered: The number of messages that it got.
        lost: The number of messages to it that are overdue.
        latency: The mean of the last latencies in seconds, NaN before the first message.
        mtu: The data MTU, in bytes.
    """

    node: int
    links: tuple[LinkCell, ...]
    sent: int
    delivered: int
    lost: int
    latency: float
    mtu: int


@attrs.frozen
class View:
    """The current state of the demo.

    Attributes:
        elapsed: The seconds since the start.
        phase: The current phase, in words.
        done: The share of the streaming time that is over, 0 to 1.
        cut: The ids of the links that are cut.
        rows: The nodes.
    """

    elapsed: float
    phase: str
    done: float
    cut: frozenset[int]
    rows: tuple[NodeRow, ...]


@attrs.frozen
class Check:
    """A condition that should hold.

    Attributes:
        name: The condition, in words.
        ok: True if it held.
        detail: The figures.
    """

    name: str
    ok: bool
    detail: str


@attrs.frozen
class CutResult:
    """The effect of a cut. Times are in seconds.

    Attributes:
        link: The id of the link.
        seconds: From the cut to the mending.
        known_dead: From the cut until the link was down on every node, None if it was not.
        back: From the mending until the link was up on every node, None if it was not.
        lost: The number of messages lost that were sent during the cut.
        failover: How long the slowest flow took to get over the cut.
    """

    link: int
    seconds: float
    known_dead: float | None
    back: float | None
    lost: int
    failover: float


@attrs.frozen(kw_only=True)
class Result:
    """The result of a demo. Numbers of messages count each one once for every receiver.

    Attributes:
        settings: The settings of the demo.
        messages: The number of messages sent, each counted once.
        sent: The number of messages sent.
        delivered: The number of messages that arrived.
        duplicates: The number of repeated arrivals.
        corrupted: The number of arrivals that no node sent so.
        unexplained: The number of lost messages that no cut excuses.
        latency_median: The median latency, in seconds.
        latency_p99: The 99th percentile of the latencies, in seconds.
        latency_max: The longest latency, in seconds.
        mtu: The smallest data MTU, in bytes.
        overhead: The bytes that a packet has beside its payload, IP and UDP headers included.
        cuts: The cuts.
        drops: The number of dropped packets, by cause.
        late: The longest delay of this process, with all nodes in it, in seconds.
        checks: The conditions that should hold.
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
        """The number of messages that never arrived."""
        return self.sent - self.delivered

    @property
    def failover(self) -> float:
        """The seconds that the slowest flow took to get over the worse cut."""
        return max((cut.failover for cut in self.cuts), default=0.0)

    @property
    def ok(self) -> bool:
        """True if all conditions held."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object, with times in seconds."""
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
