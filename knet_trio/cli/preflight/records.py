"""What the hosts tell each other, as records. ``knet_trio.control.codec`` makes JSON of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

VERSION = 1
"""Of these records. Hosts with another one cannot be understood."""


class PreflightPhase(enum.StrEnum):
    """How far a host is. ``LEFT`` is one that was ended before its verdict."""

    WAITING = "waiting"
    MEASURING = "measuring"
    MEASURED = "measured"
    DONE = "done"
    LEFT = "left"


@attrs.frozen(kw_only=True)
class WayReport:
    """What a host has found of a link to another host. Times are seconds, sizes bytes.

    Attributes:
        host_id: The other host.
        link_id: The link.
        src: The own address.
        dst: The address of the other host, empty if it is learnt and has not been.
        has_address: Whether this machine has the own address.
        connected: Whether the link was up when it was measured.
        enabled: Whether the file says that it is used.
        sent: How many pings were sent to measure it.
        lost: How many of them were not answered.
        latency: The median round trip, null without one.
        latency_p99: What 99 % of the round trips did not exceed, null without one.
        timeout: The pong timeout of the file.
        path_mtu: The largest IP packet that passes, 0 if that is not known.
        own_mtu: The largest that this machine sends that way, 0 if that is not known.
        told_mtu: The size that the network has told, 0 if it has told none.
        step: In which steps ``path_mtu`` is found.
        pings_sent: Pings sent since the beginning, those of the heartbeat included.
        pings_heard: Pings of the other host that came from where they have to come from.
        pongs_heard: Answers of the other host.
        late: Answers that came too late to count.
        unopened: Packets of the other host that no key here opens.
        opened: Packets of the other host that were opened.
        differs: Why, in the words of ``CryptoFault.differs``; empty if there are none.
        sealed_by: With which cipher and hash a key of this host opens them; empty for none.
        elsewhere: From where packets of the other host came instead, for this link.
        astray: Packets of the other host that came to an address or port of another link here: the
            number of that link, -1 for none.
        arrived_on: The number of another link on whose network card packets of this link arrive,
            -1 for none.
        other_id: Packets that came with an id that is none of the file's.
        other_link: Packets that came for a link that there is not.
        trouble: What this machine or the network said last, in words.
        errno: The number of that, 0 for none.
        local: Whether this machine said so.
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
    """What a host says of itself.

    Attributes:
        version: ``VERSION``.
        host_id: Its id.
        started: When it was started, in nanoseconds; a later life takes the place of an earlier.
        number: How often it has said something.
        phase: How far it is, the value of a ``PreflightPhase``.
        settings: What its file says that has to be the same everywhere, as text.
        counted: Of which hosts it has counted the reports.
        filtered: How many packets its machine dropped since their addresses were not expected where
            they came in (the kernel's reverse path filter).
        interval: Seconds from one ping to the next as it was measured.
        ways: What it has found.
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
        """What is compared to tell which of two is newer."""
        return self.started, self.number

    @property
    def has_measured(self) -> bool:
        """Whether its ways have been measured."""
        return self.phase in (PreflightPhase.MEASURED, PreflightPhase.DONE)


@attrs.frozen(kw_only=True)
class NewsQuestion:
    """What a host asks another one for.

    Attributes:
        version: ``VERSION``.
        known: The ages of what it knows, by host ids: ``started`` and ``number``.
        wanted: The ids of the hosts whose news it wants; those of the host that is asked always.
        hold: For how many seconds the answer may wait for news.
        bye: Whether it has its verdict, and leaves.
        news: What it says of itself, null if the other one has been told.
    """

    version: int
    known: Mapping[str, tuple[int, ...]]
    wanted: tuple[int, ...]
    hold: float
    bye: bool
    news: HostNews | None


@attrs.frozen(kw_only=True)
class NewsAnswer:
    """What the other one answers.

    Attributes:
        news: What is newer than what was known.
    """

    news: tuple[HostNews, ...]
