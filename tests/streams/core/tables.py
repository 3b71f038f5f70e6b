"""Tables of the protocol, as they are in the documentation."""

from __future__ import annotations

import ast
import enum
import inspect
import struct
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import ModuleType
from typing import TypeVar

from knet_trio.streams._core import limits, wire


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


Stage = TypeVar("Stage", bound=enum.Enum)
Cue = TypeVar("Cue", bound=enum.Enum)


def transitions(stages: Mapping[tuple[Stage, Cue], Stage], kind: type[Stage]) -> str:
    """The transitions of a state machine, and what its states mean."""
    meaning = table(["state", "meaning"], [[one.name, str(one.value)] for one in kind])
    changes = table(
        ["in", "when", "becomes"],
        [[before.name, str(cue.value), after.name] for (before, cue), after in stages.items()],
    )
    return f"{meaning}\n\n{changes}"


def described(module: ModuleType) -> dict[str, str]:
    """What stands below each constant of a module."""
    found: dict[str, str] = {}
    body = ast.parse(inspect.getsource(module)).body
    for statement, after in pairwise(body):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def constants() -> str:
    """The numbers of the protocol."""
    texts = described(limits)
    return table(
        ["name", "value", "meaning"],
        [[f"`{name}`", f"{getattr(limits, name):,}", text] for name, text in texts.items()],
    )


def numbers(kind: type[enum.IntEnum]) -> str:
    """The values of an enum."""
    return table(["number", "name"], [[str(one.value), one.name] for one in kind])


SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8}

FIELDS = {
    "header": (
        wire.HEADER_LAYOUT,
        "checksum, version, kind, 0, sender's id, receiver's id, packet number",
    ),
    "ACK": (wire.ACK_LAYOUT, "type 2, count, 0, delay, largest, first"),
    "DATA": (wire.DATA_LAYOUT, "type 3, kind, last, asks, length, stream, offset"),
    "CREDIT": (wire.CREDIT_LAYOUT, "type 4, 0, 0, 0, stream, limit"),
    "STREAMS": (wire.STREAMS_LAYOUT, "type 5, 0, 0, 0, limit"),
    "ACCEPT": (wire.ACCEPT_LAYOUT, "type 6, 0, 0, 0, stream"),
    "RESET": (wire.RESET_LAYOUT, "type 7, halves, code, 0, length, stream"),
    "CLOSE": (wire.CLOSE_LAYOUT, "code, 0, length"),
}


def layout(name: str) -> str:
    """The bytes of a header or a frame."""
    shape, fields = FIELDS[name]
    names = fields.split(", ")
    codes = shape.format.removeprefix(">")
    assert len(names) == len(codes)
    rows: list[list[str]] = []
    start = 0
    for field, code in zip(names, codes, strict=True):
        size = SIZES[code]
        rows.append([str(start), str(size), field])
        start += size
    assert start == struct.calcsize(shape.format)
    return table(["at", "bytes", f"{name}"], rows)
