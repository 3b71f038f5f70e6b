"""The lines of a corosync.conf(5): sections in braces, and keys with values in them."""

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
        value: Its value, without blanks around it.
        place: Where the key stands.
    """

    key: str
    value: str
    place: Position


@attrs.frozen
class Section:
    """A section with what is in it.

    Attributes:
        name: Its name.
        place: Where it begins.
        entries: Its keys and values.
        sections: The sections in it.
    """

    name: str
    place: Position
    entries: list[Entry] = attrs.field(factory=list[Entry])
    sections: list[Section] = attrs.field(factory=list["Section"])

    def find(self, key: str) -> Entry | None:
        """Return the last entry of that key, the one that counts; None if there is none."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def get_sections(self, name: str) -> list[Section]:
        """Return the sections in it that are called so."""
        return [section for section in self.sections if section.name == name]

    def merge(self, name: str) -> Section:
        """Return all sections of that name as one."""
        found = self.get_sections(name)
        merged = Section(name, found[0].place if found else self.place)
        for section in found:
            merged.entries.extend(section.entries)
            merged.sections.extend(section.sections)
        return merged


def parse_corosync(text: str, report: MistakeReport) -> Section:
    """Return the sections of a file as those of one that has them all."""
    root = Section("", Position(1, 1))
    open_sections = [root]
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        place = Position(number, len(raw) - len(raw.lstrip()) + 1)
        if line.startswith("}"):
            if len(open_sections) == 1:
                report("there is no section that this brace could close", place)
            else:
                open_sections.pop()
            if line != "}":
                report("after a closing brace the line has to end", place)
        elif (opening := _OPENING.fullmatch(line)) and ":" not in line.partition("{")[0]:
            section = Section((opening[1] or "").strip(), place)
            open_sections[-1].sections.append(section)
            open_sections.append(section)
            if not section.name:
                report("a section has a name before its brace", place)
            if opening[2]:
                report("after an opening brace the line has to end", place)
        elif pair := _PAIR.fullmatch(line):
            open_sections[-1].entries.append(Entry(pair[1], pair[2], place))
        else:
            report("this is neither 'section {', nor '}', nor 'key: value'", place)
    for section in open_sections[1:]:
        report(f"the section {section.name} has no closing brace", section.place)
    return root
