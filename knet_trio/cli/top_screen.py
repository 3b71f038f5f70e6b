"""The screen of ``knet-trio top`` and its keys, without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap
from typing import Any, Final, TypeAlias

import attrs
from rich.text import Text

from knet_trio.cli.link_table import (
    STREAM_LINES,
    LinkKey,
    LinkRow,
    LinkTable,
    list_drops,
    list_streams,
    make_rows,
    summarize,
)
from knet_trio.cli.names import name_of
from knet_trio.cli.units import format_age, format_time
from knet_trio.control import HandleReport, LinkHistory

_MOODS: Final = {"down": 0, "no data": 1, "off": 2, "up": 3}


def _biggest(value: float | None) -> float:
    return -1.0 if value is None else value


SortKey: TypeAlias = Callable[[LinkRow], Any]

SORTS: Final[dict[str, SortKey]] = {
    "host": lambda row: 0,
    "state": lambda row: (row.host.reachable, _MOODS[row.mood]),
    "since": lambda row: 0 if row.link is None else row.link.at - row.link.since,
    "latency": lambda row: 0 if row.link is None else -row.link.latency,
    "loss": lambda row: 0 if row.link is None else -_biggest(row.link.loss),
    "sent": lambda row: -_biggest(row.tx),
    "received": lambda row: -_biggest(row.rx),
}
"""The orders of the rows, by name: the worst, the newest or the largest comes first."""

_HELP: Final = "q quit  s sort  r reverse  d disable  e enable  h history  ↑↓ PgUp PgDn"
# One line in this number may be used for streams.
_STREAM_SHARE: Final = 5
_HISTORY_HELP: Final = "q back to the table"


@attrs.frozen
class SetEnabled:
    """An order given by a key: disable or enable a link.

    Attributes:
        key: The ids of the link.
        enabled: True to enable it.
    """

    key: LinkKey
    enabled: bool


@attrs.frozen
class ShowHistory:
    """An order given by a key: fetch the history of a link.

    Attributes:
        key: The ids of the link.
    """

    key: LinkKey


Order: TypeAlias = SetEnabled | ShowHistory | None


@attrs.define
class TopScreen:
    """The state of the screen.

    Attributes:
        done: True after the key that quits.
        history: The link whose history is shown instead of the table, None for the table.
    """

    done: bool = False
    history: LinkKey | None = None
    _report: HandleReport | None = None
    _rows: list[LinkRow] = attrs.field(factory=list[LinkRow])
    _sort: str = "host"
    _reverse: bool = False
    _selected: LinkKey | None = None
    _top: int = 0
    _page: int = 10
    _asked: SetEnabled | None = None
    _message: str = ""
    _changes: LinkHistory | None = None
    _explanation: str = ""

    # Input.

    def update(self, report: HandleReport) -> None:
        """Show a new report, with the rates since the last one."""
        self._rows = make_rows(report, self._report)
        self._report = report
        self._order()

    def show_message(self, message: str) -> None:
        """Show a message until the next key."""
        self._message = message

    def update_history(self, changes: LinkHistory, explanation: str) -> None:
        """Show the history of a link, and the explanation of its state."""
        self._changes, self._explanation = changes, explanation

    def press(self, key: str) -> Order:
        """Process a key, and return the order to carry out, None if there is none."""
        self._message = ""
        asked, self._asked = self._asked, None
        if asked is not None:
            return asked if key == "y" else None
        if self.history is not None:
            self._press_in_history(key)
            return None
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -self._page, " ": self._page}
        moves |= {"page down": self._page, "home": -len(self._rows), "end": len(self._rows)}
        if key in moves:
            self._move(moves[key])
        elif key in ("q", "escape"):
            self.done = True
        elif key == "s":
            names = list(SORTS)
            self._sort = names[(names.index(self._sort) + 1) % len(names)]
            self._order()
        elif key == "r":
            self._reverse = not self._reverse
            self._order()
        else:
            return self._press_on_link(key)
        return None

    def _press_on_link(self, key: str) -> Order:
        row = self._selected_row()
        if row is None or row.link is None:
            return None
        if key == "e":
            return SetEnabled(row.key, True)
        if key == "d":
            # This terminal itself may work over the link.
            self._asked = SetEnabled(row.key, False)
            if row.link.in_use:
                self._message = "messages go over it: "
            self._message += f"disable link {row.link.link_id} to {name_of(row.host)}? y/n"
        elif key in ("h", "enter"):
            self.history = row.key
            self._changes, self._explanation = None, ""
            return ShowHistory(row.key)
        return None

    def _press_in_history(self, key: str) -> None:
        if key in ("q", "escape", "h", "enter"):
            self.history = None

    def _move(self, by: int) -> None:
        keys = [row.key for row in self._rows]
        if not keys:
            return
        at = keys.index(self._selected) if self._selected in keys else 0
        self._selected = keys[min(max(at + by, 0), len(keys) - 1)]

    def _selected_row(self) -> LinkRow | None:
        return next((row for row in self._rows if row.key == self._selected), None)

    def _order(self) -> None:
        self._rows.sort(key=lambda row: row.key)
        self._rows.sort(key=SORTS[self._sort])
        if self._reverse:
            self._rows.reverse()
        keys = {row.key for row in self._rows}
        if self._selected not in keys:
            self._selected = self._rows[0].key if self._rows else None

    # Output.

    def render(self, width: int, height: int) -> Text:
        """Return the screen: at most ``height`` lines of ``width`` characters."""
        report = self._report
        if report is None:
            return Text("waiting for the host to answer")
        lines = [Text(line) for line in summarize(report)]
        lines.append(Text(list_drops(report), "dim"))
        lines += [Text(line, "dim") for line in self._streams(report, height - len(lines))]
        keys = _HELP if self.history is None else _HISTORY_HELP
        footer = Text(self._message, "bold yellow") if self._message else Text(keys, "dim")
        room = height - len(lines) - 1
        if self.history is None:
            lines += self._table(width, room)
        else:
            lines += self._history_lines(self.history, width, room)
        lines = [*lines[: height - 1], *[Text()] * (height - 1 - len(lines)), footer]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)

    def _streams(self, report: HandleReport, room: int) -> list[str]:
        """Return lines of streams, the selected host's first, where ``room`` lines are free."""
        most = min(STREAM_LINES, room // _STREAM_SHARE)
        first = None if self._selected is None else self._selected[0]
        return list_streams(report, most, first=first) if most > 0 else []

    def _table(self, width: int, height: int) -> list[Text]:
        table = LinkTable(self._rows, width)
        # One line above for the titles, and one below for the position.
        self._page = page = max(height - 2, 1)
        self._scroll(page)
        shown = self._rows[self._top : self._top + page]
        lines = [table.head()]
        above: int | None = None
        for row in shown:
            line = table.row(row, repeats=row.host.host_id == above)
            above = row.host.host_id
            if row.key == self._selected:
                line.pad_right(max(width - line.cell_len, 0))
                line.stylize("reverse")
            lines.append(line)
        lines += [Text()] * (page - len(shown))
        return [*lines, Text(self._where(len(shown)), "dim")]

    def _scroll(self, page: int) -> None:
        """Scroll so that the selected row is shown."""
        keys = [row.key for row in self._rows]
        at = keys.index(self._selected) if self._selected in keys else 0
        self._top = min(max(self._top, at - page + 1), at)
        self._top = max(min(self._top, len(keys) - page), 0)

    def _where(self, shown: int) -> str:
        by = f"by {self._sort}{', reversed' if self._reverse else ''}"
        row = self._selected_row()
        reason = ""
        if row is not None and row.link is not None:
            reason = f"; link {row.link.link_id} to {name_of(row.host)}: {row.reason}"
        first = self._top + 1 if shown else 0
        return f"{first}-{self._top + shown} of {len(self._rows)} {by}{reason}"

    def _history_lines(self, key: LinkKey, width: int, height: int) -> list[Text]:
        report = self._report
        assert report is not None
        host_id, link_id = key
        name = next((name_of(host) for host in report.hosts if host.host_id == host_id), host_id)
        lines = [Text(f"link {link_id} to {name}: when it went up and down", "bold")]
        if self._changes is None:
            return [*lines, Text("waiting for the answer")]
        changes = self._changes.changes
        explained = [
            Text(part)
            for line in self._explanation.splitlines()
            for part in wrap(line, width, subsequent_indent="    ")
        ]
        # The latest change first, since it matters most.
        room = max(height - len(lines) - len(explained) - 1, 1)
        for change in changes[::-1][:room]:
            state, style = ("up", "green") if change.connected else ("down", "bold red")
            ago = format_age(report.at - change.at)
            line = Text(f"{format_time(change.time)}  {ago:>6} ago  ")
            lines.append(line.append(f"{state:5}", style).append(change.reason))
        if not changes:
            lines.append(Text("the link has not been up yet"))
        return [*lines, Text(), *explained]
