"""The positions of keys and values in a TOML text, which the standard library does not report.

The text must be valid TOML: it has to be parsed before.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""The names of keys and the indexes of array elements that lead to a value."""

_BLANK: Final = re.compile(r"[ \t]*")
_BLANK_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY: Final = re.compile(r"[^\s.=\]\"']+")
_TEXT: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?!")'
    r"|'''.*?'''(?!')"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
# A date may contain a blank, so a plain value ends only at one of these characters.
_PLAIN: Final = re.compile(r"[^,\]}\n#]+")


class Position(NamedTuple):
    """A line and a column, both counted from 1."""

    line: int
    column: int


def find_position(text: str, at: int) -> Position:
    """Return the position of the character at ``at``."""
    return Position(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


class Positions:
    """The positions of all keys and values of a TOML text."""

    def __init__(self, text: str) -> None:
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        scanner = _Scanner(text)
        scanner.read_document()
        self.keys: Final[Mapping[KeyPath, int]] = scanner.keys
        self.values: Final[Mapping[KeyPath, int]] = scanner.values

    def find_key(self, path: KeyPath) -> Position:
        """Return the position of the key at ``path``, or of the innermost known part around it."""
        return self._find(path, self.keys, self.values)

    def find_value(self, path: KeyPath) -> Position:
        """Return the position of the value at ``path``, or of the innermost known part around."""
        return self._find(path, self.values, self.keys)

    def _find(
        self, path: KeyPath, first: Mapping[KeyPath, int], then: Mapping[KeyPath, int]
    ) -> Position:
        for size in range(len(path), 0, -1):
            for places in (first, then):
                at = places.get(path[:size])
                if at is not None:
                    return self._position(at)
        return Position(1, 1)

    def _position(self, at: int) -> Position:
        line = bisect_right(self._line_starts, at)
        return Position(line, at - self._line_starts[line - 1] + 1)


class _Scanner:
    """A scanner that goes through a text once and notes the offsets of keys and values."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        # The number of elements in each array of tables so far.
        self._tables: dict[KeyPath, int] = {}
        self.keys: dict[KeyPath, int] = {}
        self.values: dict[KeyPath, int] = {}

    def read_document(self) -> None:
        """Note the offsets of all keys and values."""
        table: KeyPath = ()
        self._skip(_BLANK_LINES)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._read_header()
            else:
                self._read_pair(table)
            self._skip(_BLANK_LINES)

    def _read_header(self) -> KeyPath:
        """Read ``[a.b]`` or ``[[a.b]]``; return the path of the table."""
        start = self._at
        is_element = self._text.startswith("[[", start)
        self._at += 2 if is_element else 1
        names = [name for name, _ in self._read_key()]
        self._at = self._text.index("]", self._at) + (2 if is_element else 1)
        path: KeyPath = ()
        for number, name in enumerate(names, 1):
            path = (*path, name)
            self.keys.setdefault(path, start)
            count = self._tables.get(path, 0)
            if is_element and number == len(names):
                self._tables[path] = count + 1
                path = (*path, count)
            elif count:
                path = (*path, count - 1)
        self.keys.setdefault(path, start)
        return path

    def _read_key(self) -> list[tuple[str, int]]:
        """Read a dotted key; return its parts and their offsets."""
        parts: list[tuple[str, int]] = []
        while True:
            self._skip(_BLANK)
            start = self._at
            if self._text[start] in "\"'":
                quoted = self._take(_TEXT)
                name = str(tomllib.loads(f"key = {quoted}")["key"])
            else:
                name = self._take(_BARE_KEY)
            parts.append((name, start))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _read_pair(self, table: KeyPath) -> None:
        path = table
        for name, place in self._read_key():
            path = (*path, name)
            self.keys.setdefault(path, place)
        self._at = self._text.index("=", self._at) + 1
        self._skip(_BLANK)
        self._read_value(path)

    def _read_value(self, path: KeyPath) -> None:
        self.values[path] = self._at
        begins = self._text[self._at]
        if begins == "[":
            self._read_array(path)
        elif begins == "{":
            self._read_inline_table(path)
        elif begins in "\"'":
            self._take(_TEXT)
        else:
            self._take(_PLAIN)

    def _read_array(self, path: KeyPath) -> None:
        self._at += 1
        number = 0
        while not self._ends("]"):
            self._read_value((*path, number))
            number += 1

    def _read_inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._ends("}"):
            self._read_pair(path)

    def _ends(self, bracket: str) -> bool:
        """Skip a comma or ``bracket``; return whether the array or table ends."""
        self._skip(_BLANK_LINES)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK_LINES)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        return False

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"the TOML is not valid at character {self._at}")
        self._at = match.end()
        return match.group()
