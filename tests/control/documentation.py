"""The tables of docs/control-protocol.md, as the code has them."""

from __future__ import annotations

import inspect
import re
from typing import get_type_hints

import attrs

from knet_trio import Handle, HandleStatistics, Host, LinkStatistics
from knet_trio.control import lines, protocol, records
from knet_trio.control.codec import describe_type
from knet_trio.control.errors import ERROR_MEANINGS
from knet_trio.control.protocol import METHODS, result_types
from knet_trio.control.records import EVENT_TYPES
from knet_trio.control.settings import SETTINGS

BOUNDS = {
    "MAX_REQUEST": "bytes of a request's line, its end included",
    "MAX_ID": "characters of a request's id, if it is text",
    "MAX_AT_ONCE": "requests of one client that are worked on at once; the next is not read before",
    "MAX_CLIENTS": "clients at once",
    "EVENT_QUEUE": "events that a client may be behind before it misses the oldest",
    "STUCK": "seconds without reading after which a client has to make room when others come",
}


def table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, tuple("---" for _ in head), *body)
    )


def meanings(kind: type) -> dict[str, str]:
    """What the docstring of a record says of its fields."""
    text = inspect.cleandoc(kind.__doc__ or "")
    _, _, attributes = text.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", said).replace("``", "`") for name, said in found}


def summary(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].replace("``", "`")


def fields(kind: type) -> str:
    hints, said = get_type_hints(kind), meanings(kind)
    return table(
        ("member", "value", "meaning"),
        *(
            (f"`{field.name}`", describe_type(hints[field.name]), said[field.name])
            for field in attrs.fields(kind)
        ),
    )


def shown_records() -> list[type]:
    """The records that the tables of fields are of: the library's have their own documentation."""
    return [
        kind
        for _, kind in inspect.getmembers(records, inspect.isclass)
        if attrs.has(kind) and kind.__module__ == records.__name__
    ]


def parameters(kind: type | None) -> str:
    if kind is None:
        return "any"
    return (
        ", ".join(
            f"`{field.name}`" + ("" if field.default is attrs.NOTHING else "?")
            for field in attrs.fields(kind)
        )
        or "none"
    )


def whose(kind: type) -> str:
    if kind is Handle:
        return "handle"
    return "host" if kind is Host else "link"


def find_bound(name: str) -> float:
    """The value of a bound, which is of both sides or of the one that serves."""
    module = lines if hasattr(lines, name) else protocol
    return float(getattr(module, name))


def tables() -> dict[str, str]:
    """The tables by the headings that they stand under."""
    taken = dict.fromkeys(method.parameters for method in METHODS.values())
    found = {
        "Bounds": table(
            ("bound", "value", "of what"),
            *((f"`{name}`", f"{find_bound(name):g}", said) for name, said in BOUNDS.items()),
        ),
        "Methods": table(
            ("method", "parameters", "result", "what it does"),
            *(
                (f"`{name}`", parameters(one.parameters), result_types(one), one.summary)
                for name, one in METHODS.items()
            ),
        ),
        "Settings": table(
            ("name", "of", "value"),
            *((f"`{name}`", whose(one.of), one.values) for name, one in SETTINGS.items()),
        ),
        "Events": table(
            ("event", "members", "when"),
            *(
                (f"`{name}`", f"`{kind.__name__}`", summary(kind))
                for name, kind in EVENT_TYPES.items()
            ),
        ),
        "Errors": table(
            ("code", "when"), *((f"`{code}`", said) for code, said in ERROR_MEANINGS.items())
        ),
    }
    for kind in taken:
        if kind is not None and attrs.fields(kind):
            found[kind.__name__] = fields(kind)
    for kind in shown_records():
        found[kind.__name__] = fields(kind)
    assert not {HandleStatistics.__name__, LinkStatistics.__name__} & set(found)
    return found
