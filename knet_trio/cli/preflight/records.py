"""The records that hosts exchange. ``knet_trio.control.codec`` turns them into JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

VERSION = 1
"""The version of these records. A host with another version is refused."""


class PreflightPhase(enum.StrEnum):
    """The phase of a host. ``LEFT``: it was ended before its verdict."""

    WAITING = "waiting"
    MEASURING = "measuring"
    MEASURED = "measured"
    DONE = "done"
    LEFT = "left"


@attrs.frozen(kw_only=True)
class WayReport:
    """The report of a host on a link to another host. Times are seconds, sizes bytes.

    Attributes:
        host_id: The id of the other host.
        link_id: The id of the link.
        src: The own address.
        dst: The address of the other host, empty if it is learnt and not yet known.
        has_address: True if this machine has the own address.
        connected: True if the link was up when it was measured.
        enabled: True if the link is enabled in the file.
        sent: The number of pings sent to measure the link.
        lost: The number of these pings that were not answered.
        latency: The median round trip, null if no ping was answered.
        latency_p99: The 99th percentile of the round trips, null if no ping was answered.
        timeout: The pong timeout of the file.
        path_mtu: The largest IP packet that passes, 0 if not known.
        own_mtu: The largest IP packet that this machine sends to that address, 0 if not known.
        told_mtu: The MTU that the network has reported, 0 if it has reported none.
        step: The size of the steps in which ``path_mtu`` is found.
        pings_sent: The number of pings sent since the beginning, with those of the heartbeat.
        pings_heard: The number of pings of the other host that came from the expected address.
        pongs_heard: The number of pongs of the other host.
        late: The number of pongs that came too late to count.
        unopened: The number of packets of the other host that no key here opens.
        opened: The number of packets of the other host that were opened.
        differs: Why packets were not opened, in the words of ``CryptoFault.differs``; empty if all
            were.
        sealed_by: The cipher and the hash with which a key of this host opens these packets; empty
            for none.
        elsewhere: The address that packets of the other host for this link came from instead.
        astray: The id of the other link here to whose address or port packets of this link came,
            -1 for none.
        arrived_on: The id of the other link on whose network card packets of this link arrive, -1
            for none.
        other_id: The number of packets that came with an id of no host in the file.
        other_link: The number of packets that came for a link that does not exist.
        trouble: The last error of this machine or the network, in words.
        errno: The errno of this error, 0 for none.
        local: True if this machine reported the error, not the network.
    """

    host_id: int
    link_id: int
    src: str
    dst: str
    has_address: bool = True
    connected: bool = False
    enabled: bool = True
    sent: int = 0
    lost: int = 0
    latency: float | None = None
    latency_p99: float | None = None
    timeout: float = 0.0
    path_mtu: int = 0
    own_mtu: int = 0
    told_mtu: int = 0
    step: int = 1
    pings_sent: int = 0
    pings_heard: int = 0
    pongs_heard: int = 0
    late: int = 0
    unopened: int = 0
    opened: int = 0
    differs: str = ""
    sealed_by: str = ""
    elsewhere: str = ""
    astray: int = -1
    arrived_on: int = -1
    other_id: int = 0
    other_link: int = 0
    trouble: str = ""
    errno: int = 0
    local: bool = False


@attrs.frozen(kw_only=True)
class HostNews:
    """The news of a host: its state, its settings, and its report.

    Attributes:
        version: ``VERSION``.
        host_id: The id of the host.
        started: When the preflight was started there, in nanoseconds since the epoch; news of a
            later start replaces news of an earlier one.
        number: How often the host has published news.
        phase: The phase of the host, the value of a ``PreflightPhase``.
        settings: The settings of its file that have to be the same on all hosts, as text.
        counted: The ids of the hosts whose reports it counts.
        filtered: The number of packets that the kernel's reverse path filter dropped there, since
            their source addresses belong to another network card.
        interval: The seconds from one ping to the next, in the measurement.
        ways: The report: each link to each other host.
    """

    version: int
    host_id: int
    started: int
    number: int = 0
    phase: str = PreflightPhase.WAITING.value
    settings: Mapping[str, str] = attrs.field(factory=dict[str, str])
    counted: tuple[int, ...] = ()
    filtered: int = 0
    interval: float = 0.0
    ways: tuple[WayReport, ...] = ()

    @property
    def age(self) -> tuple[int, int]:
        """The start and the number, which order the news of a host."""
        return self.started, self.number

    @property
    def has_measured(self) -> bool:
        """True if the report is there."""
        return self.phase in (PreflightPhase.MEASURED, PreflightPhase.DONE)


@attrs.frozen(kw_only=True)
class NewsQuestion:
    """A question for news.

    Attributes:
        version: ``VERSION``.
        known: The ages of the news that the asking host knows, by host ids: ``started`` and
            ``number``.
        wanted: The ids of the hosts whose news it wants, beside the host that it asks.
        hold: The seconds for which the answer may wait for news.
        bye: True if the asking host has its verdict and leaves.
        news: Its own news, null if the other host has them already.
    """

    version: int
    known: Mapping[str, tuple[int, ...]]
    wanted: tuple[int, ...]
    hold: float
    bye: bool
    news: HostNews | None


@attrs.frozen(kw_only=True)
class NewsAnswer:
    """An answer to a question for news.

    Attributes:
        news: The news that the asking host did not know.
    """

    news: tuple[HostNews, ...]
