"""The syntax of a corosync.conf(5): sections in braces, with keys and values."""

from __future__ import annotations

import re
from typing import Final

import attrs

from knet_trio.cluster._draft import MistakeReport
from knet_trio.cluster._positions import Position

_OPENING: Final = re.compile(r"(\S[^{]*?)?\s*\{(.*)")
_PAIR: Final = re.compile(r"([^:]*?)\s*:\s*(.*)")


@attrs.frozen
class Entry:
    """A key with its value.

    Attributes:
        key: The key.
        value: The value, without surrounding blanks.
        place: The position of the key.
    """

    key: str
    value: str
    place: Position


@attrs.frozen
class Section:
    """A section with its contents.

    Attributes:
        name: The name of the section.
        place: The position of its first line.
        entries: The keys and values in the section.
        sections: The sections inside the section.
    """

    name: str
    place: Position
    entries: list[Entry] = attrs.field(factory=list[Entry])
    sections: list[Section] = attrs.field(factory=list["Section"])

    def find(self, key: str) -> Entry | None:
        """Return the last entry with that key, which overrides the others; None without any."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def get_sections(self, name: str) -> list[Section]:
        """Return the inner sections of that name."""
        return [section for section in self.sections if section.name == name]

    def merge(self, name: str) -> Section:
        """Return all inner sections of that name, merged into one."""
        found = self.get_sections(name)
        merged = Section(name, found[0].place if found else self.place)
        for section in found:
            merged.entries.extend(section.entries)
            merged.sections.extend(section.sections)
        return merged


def parse_corosync(text: str, report: MistakeReport) -> Section:
    """Return a section without name that contains all sections of the file."""
    root = Section("", Position(1, 1))
    open_sections = [root]
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        place = Position(number, len(raw) - len(raw.lstrip()) + 1)
        if line.startswith("}"):
            if len(open_sections) == 1:
                report("this brace closes no section: remove it", place)
            else:
                open_sections.pop()
            if line != "}":
                report("the line must end after the closing brace: begin a new line", place)
        elif (opening := _OPENING.fullmatch(line)) and ":" not in line.partition("{")[0]:
            section = Section((opening[1] or "").strip(), place)
            open_sections[-1].sections.append(section)
            open_sections.append(section)
            if not section.name:
                report("the section has no name: write it before the brace", place)
            if opening[2]:
                report("the line must end after the opening brace: begin a new line", place)
        elif pair := _PAIR.fullmatch(line):
            open_sections[-1].entries.append(Entry(pair[1], pair[2], place))
        else:
            report("the line is not valid: write 'section {', '}' or 'key: value'", place)
    for section in open_sections[1:]:
        report(f"the section {section.name} has no closing brace: add it", section.place)
    return root
