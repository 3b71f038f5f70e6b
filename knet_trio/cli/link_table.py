"""A table of hosts and links, for a screen of any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

import attrs
from rich.text import Text

from knet_trio.cli.key_change import describe_key_change
from knet_trio.cli.names import name_of
from knet_trio.cli.units import NOTHING, format_age, format_latency, format_rate, format_share
from knet_trio.control import HandleReport, HostReport, LinkReport
from knet_trio.errors import count_of

LinkKey: TypeAlias = tuple[int, int]
"""The ids of a host and of a link."""

LinkMood: TypeAlias = Literal["up", "no data", "down", "off"]
"""The state of a link in one word; ``off`` for a disabled link."""

STYLES: Final[dict[LinkMood, str]] = {
    "up": "green",
    "no data": "yellow",
    "down": "bold red",
    "off": "dim",
}
# From this width on the reason has a column of its own.
WIDE: Final = 110
STREAM_LINES: Final = 3
"""The number of lines of streams that are shown where there is little room."""
NO_KEY: Final = (
    "packets are not encrypted: there is no key, so anybody who can send to these ports is a member"
)
# The number of hosts that a line names.
_FEW: Final = 5
_MIN_NAME: Final = 8
_MAX_NAME: Final = 30


@attrs.frozen
class LinkRow:
    """A row of the table.

    Attributes:
        host: The host.
        link: The link to it, None for a host without links.
        tx: The bytes of data sent a second, None if not known.
        rx: The bytes of data received a second, None if not known.
    """

    host: HostReport
    link: LinkReport | None
    tx: float | None = None
    rx: float | None = None

    @property
    def key(self) -> LinkKey:
        """The ids of the host and of the link; -1 for a host without links."""
        return self.host.host_id, -1 if self.link is None else self.link.link_id

    @property
    def mood(self) -> LinkMood:
        """The state of the link."""
        return "down" if self.link is None else mood_of(self.link)

    @property
    def reason(self) -> str:
        """The reason of the state, in words."""
        if self.link is None:
            return "this host has no links"
        if self.mood == "no data":
            return "the path does not even take packets of the smallest MTU"
        return self.link.reason


def mood_of(link: LinkReport) -> LinkMood:
    """Return the state of a link in one word."""
    if not link.enabled:
        return "off"
    if not link.connected:
        return "down"
    return "up" if link.carries_data else "no data"


def _short_name(host: HostReport, width: int) -> str:
    """Return the name of a host in ``width`` characters: the name is cut, never the id."""
    name = name_of(host)
    if len(name) <= width:
        return name
    ending = "" if name == host.name else f" ({host.host_id})"
    return f"{_shorten(host.name, width - len(ending))}{ending}"


def is_all_up(report: HandleReport) -> bool:
    """Return whether all hosts are reachable, and all enabled links carry data."""
    return all(
        host.reachable and all(mood_of(link) in ("up", "off") for link in host.links)
        for host in report.hosts
    )


def is_open_to_anybody(report: HandleReport) -> bool:
    """Return whether there is no key, and other machines can send to a link."""
    return not report.encrypted and any(
        link.transport != "loopback" and not is_loopback(link.src)
        for host in report.hosts
        for link in host.links
    )


def is_loopback(place: str) -> bool:
    """Return whether an address with its port is one that only this machine can send to."""
    host = place.rpartition(":")[0].strip("[]").partition("%")[0]
    return ip_address(host).is_loopback


def make_rows(report: HandleReport, before: HandleReport | None = None) -> list[LinkRow]:
    """Return a row for each link, with the rates since the earlier report ``before``."""
    earlier = (
        {}
        if before is None
        else {(host.host_id, link.link_id): link for host in before.hosts for link in host.links}
    )
    rows: list[LinkRow] = []
    for host in report.hosts:
        if not host.links:
            rows.append(LinkRow(host, None))
        for link in host.links:
            tx, rx = _rates(earlier.get((host.host_id, link.link_id)), link)
            rows.append(LinkRow(host, link, tx, rx))
    return rows


def fit(
    rows: Sequence[LinkRow], room: int, lines_of: Callable[[LinkRow], int]
) -> tuple[list[LinkRow], list[LinkRow]]:
    """Return the rows that fit into ``room`` lines, and those that do not.

    If not all fit, unreachable hosts come first, then hosts with a link that is not up.

    Args:
        rows: All rows.
        room: The number of lines.
        lines_of: Returns the number of lines that a row takes.
    """
    if sum(map(lines_of, rows)) <= room:
        return list(rows), []
    partly = {row.host.host_id for row in rows if row.mood not in ("up", "off")}
    # The sort is stable: the order within a host, and among equals, stays.
    ranked = sorted(
        rows, key=lambda row: 0 if not row.host.reachable else 2 - (row.host.host_id in partly)
    )
    used = 0
    for number, row in enumerate(ranked):
        used += lines_of(row)
        if used > room:
            return ranked[:number], ranked[number:]
    return ranked, []


def _rates(before: LinkReport | None, link: LinkReport) -> tuple[float | None, float | None]:
    seconds = 0.0 if before is None else link.at - before.at
    if before is None or seconds <= 0:
        return None, None
    tx = link.tx_data_bytes - before.tx_data_bytes
    rx = link.rx_data_bytes - before.rx_data_bytes
    # Fewer bytes than before: the counters were reset, or this is another link.
    return (tx / seconds if tx >= 0 else None), (rx / seconds if rx >= 0 else None)


# Columns.


@attrs.frozen
class Column:
    """A column of the table.

    Attributes:
        title: The title.
        width: The width, in characters.
        right: True if the text is aligned to the right.
        text: Returns the text of a row in this column.
    """

    title: str
    width: int
    right: bool
    text: Callable[[LinkRow], str]


def _of_link(text: Callable[[LinkReport], str]) -> Callable[[LinkRow], str]:
    return lambda row: "" if row.link is None else text(row.link)


def _link_text(link: LinkReport) -> str:
    return f"{link.link_id}{'*' if link.in_use else ' '}"


def _mtu_text(link: LinkReport) -> str:
    return str(link.mtu) if link.carries_data else NOTHING


def _latency(link: LinkReport) -> float | None:
    return link.latency if link.connected and link.latency else None


class LinkTable:
    """The layout of a table.

    Args:
        rows: All rows, which the widths of the columns depend on.
        width: The width of the screen in characters, None for no limit.
    """

    def __init__(self, rows: Sequence[LinkRow], width: int | None) -> None:
        longest = max((len(name_of(row.host)) for row in rows), default=0)
        name = min(max(longest, _MIN_NAME), _MAX_NAME)
        columns = [
            Column("HOST", name, False, lambda row: name_of(row.host)),
            Column("LINK", 4, True, _of_link(_link_text)),
            Column("STATE", 7, False, lambda row: row.mood),
            Column("SINCE", 6, True, _of_link(lambda link: format_age(link.at - link.since))),
            Column("LATENCY", 7, True, _of_link(lambda link: format_latency(_latency(link)))),
            Column("LOSS", 4, True, _of_link(lambda link: format_share(link.loss))),
            Column("MTU", 5, True, _of_link(_mtu_text)),
            Column("SENT", 9, True, lambda row: format_rate(row.tx)),
            Column("RECEIVED", 9, True, lambda row: format_rate(row.rx)),
        ]
        self._gap = 1 if width is not None and width < WIDE else 2
        rest = sum(column.width + self._gap for column in columns[1:])
        if width is not None:
            # The names shrink first, down to a width at which they can still be told apart.
            name = max(min(name, width - rest), _MIN_NAME)
            columns[0] = Column(
                columns[0].title, name, False, lambda row: _short_name(row.host, name)
            )
        self._columns = columns
        used = name + rest + self._gap
        self._width = width
        self.has_reasons: bool = width is None or width >= WIDE
        self._reason_width = None if width is None else width - used

    def head(self) -> Text:
        """Return the line of titles."""
        cells = [_fit(column.title, column) for column in self._columns]
        if self.has_reasons:
            cells.append("REASON")
        return self._cut(Text((" " * self._gap).join(cells).rstrip(), "bold"))

    def row(self, row: LinkRow, *, repeats: bool = False) -> Text:
        """Return the line of a row.

        Args:
            row: The row.
            repeats: True if the row above has the same host: its name is left out then.
        """
        line = Text()
        for number, column in enumerate(self._columns):
            text = "" if repeats and number == 0 else column.text(row)
            style = STYLES[row.mood] if column.title == "STATE" else ""
            if column.title == "HOST" and not row.host.reachable:
                style = "bold red"
            line.append(" " * self._gap * bool(number)).append(_fit(text, column), style)
        if self.has_reasons:
            reason = row.reason
            if self._reason_width is not None:
                reason = _shorten(reason, self._reason_width)
            line.append(" " * self._gap).append(
                reason, "" if row.mood == "up" else STYLES[row.mood]
            )
        line.rstrip()
        return self._cut(line)

    def _cut(self, line: Text) -> Text:
        if self._width is not None:
            line.truncate(self._width)
        return line


def _fit(text: str, column: Column) -> str:
    text = _shorten(text, column.width)
    return text.rjust(column.width) if column.right else text.ljust(column.width)


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def summarize(report: HandleReport) -> list[str]:
    """Return lines about the handle as a whole."""
    hosts = report.hosts
    links = [link for host in hosts for link in host.links]
    reachable = sum(host.reachable for host in hosts)
    up = sum(mood_of(link) == "up" for link in links)
    off = sum(mood_of(link) == "off" for link in links)
    line = (
        f"host {report.host_id}: {reachable} of {count_of(len(hosts), 'host')} reachable,"
        f" {up} of {count_of(len(links), 'link')} up{f', {off} off' if off else ''};"
        f" data MTU {report.data_mtu}"
    )
    lines = [line]
    unusual = [
        words
        for is_so, words in (
            (not report.forwarding, "forwarding is off"),
            (not report.access_lists, "access lists are off"),
            (report.mtu is not None, f"the MTU is fixed at {report.mtu}"),
        )
        if is_so
    ]
    if unusual:
        lines.append(", ".join(unusual))
    if is_open_to_anybody(report):
        lines.append(NO_KEY)
    change = describe_key_change(report)
    if change is not None:
        lines.append(f"{change}; knet-trio rekey continues it")
    return [*lines, *_list_unconfirmed(report)]


def _list_unconfirmed(report: HandleReport) -> list[str]:
    """Return a line for each crypto slot of model aead in which hosts have not answered yet."""
    slots: dict[str, list[str]] = {}
    for host in report.hosts:
        for slot, confirmed in host.confirmed.items():
            if host.reachable and not confirmed:
                slots.setdefault(slot, []).append(name_of(host))
    return [
        f"crypto slot {slot}, of model aead: no answer under it yet of {', '.join(hosts[:_FEW])}"
        + (f" and {len(hosts) - _FEW} more" if hosts[_FEW:] else "")
        for slot, hosts in sorted(slots.items())
    ]


def list_drops(report: HandleReport) -> str:
    """Return the numbers of dropped packets by cause, the most frequent first."""
    if not report.drops:
        return "dropped: nothing"
    ranked = sorted(report.drops.items(), key=lambda item: -item[1])
    return "dropped: " + ", ".join(f"{cause} {count}" for cause, count in ranked)


def list_streams(
    report: HandleReport,
    most: int | None = None,
    *,
    first: int | None = None,
    rest: str = "",
    idle: bool = False,
) -> list[str]:
    """Return a line for the streams with each host over each channel.

    Args:
        report: The state of the handle.
        most: The largest number of lines before the one that counts the rest, None for no limit.
        first: The id of the host whose streams come first, None for the order of the ids.
        rest: The end of the line that counts the lines left out.
        idle: True to list also those that have none open and nothing in flight.
    """
    lines = [
        f"streams with {name_of(host)}, channel {one.channel}: {one.open} open,"
        f" round trip {format_latency(one.round_trip)}, window {one.window / 1000:.1f} kB, up to"
        f" {format_rate(one.rate)}, {count_of(one.lost_packets, 'packet')} sent again"
        for host in sorted(report.hosts, key=lambda host: host.host_id != first)
        for one in host.streams
        if idle or one.open or one.in_flight
    ]
    if most is None or len(lines) <= most:
        return lines
    return [*lines[:most], f"… {count_of(len(lines) - most, 'more line')} of streams{rest}"]
