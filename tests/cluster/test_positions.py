"""Where keys and values stand in a TOML text."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.cluster._positions import KeyPath, Position, Positions

TEXT = '''\
# [no] = "table"
title = "a # in it" # and one behind
[owner]
name = """
[not a header]
"""
born = 1979-05-27 07:32:00
"quoted key" = { x = 1, y.z = [ 1, "]" ] }
list = [ # of addresses
  "10.0.0.1", # the first
  [ 1, 2 ],
  { deep = true },
]
[owner.more]
a.b.'c d' = \'\'\'x\'\'\'

[[hosts]]
id = 1
[[hosts]]
id = 2
[[hosts.links]]
address = "x"
[[hosts.links]]
address = "y\\""
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("title",), 2, 1),
        (("owner",), 3, 1),
        (("owner", "name"), 4, 1),
        (("owner", "born"), 7, 1),
        (("owner", "quoted key"), 8, 1),
        (("owner", "quoted key", "x"), 8, 18),
        (("owner", "quoted key", "y", "z"), 8, 27),
        (("owner", "list"), 9, 1),
        (("owner", "list", 2, "deep"), 12, 5),
        (("owner", "more"), 14, 1),
        (("owner", "more", "a", "b", "c d"), 15, 5),
        (("hosts", 0), 17, 1),
        (("hosts", 1), 19, 1),
        (("hosts", 1, "id"), 20, 1),
        (("hosts", 1, "links", 0), 21, 1),
        (("hosts", 1, "links", 1, "address"), 24, 1),
        # What is not there is where what should have it is.
        (("hosts", 1, "name"), 19, 1),
        (("nothing",), 1, 1),
    ],
)
def test_a_key_is_found(path: KeyPath, line: int, column: int) -> None:
    assert Positions(TEXT).find_key(path) == Position(line, column)


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("title",), 2, 9),
        (("owner", "list", 0), 10, 3),
        (("owner", "list", 1, 1), 11, 8),
        (("owner", "quoted key", "y", "z", 1), 8, 36),
        (("hosts", 1, "links", 1, "address"), 24, 11),
    ],
)
def test_a_value_is_found(path: KeyPath, line: int, column: int) -> None:
    assert Positions(TEXT).find_value(path) == Position(line, column)


def paths(value: dict[str, Any] | list[Any] | str, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    inner: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for name, each in inner:
        yield from paths(each, (*path, name))


PIECES = st.sampled_from(
    [
        "a = 1",
        "b.c = 'x'",
        "d = { e = [ { f = 1 }, ], g.h = '' }",
        '"i j" = """\n[k]\nl = 1 \\""" """',
        "m = [\n 1, # ]\n '#',\n]",
        "n = 1979-05-27 07:32:00 # then",
        "[o]",
        "[o.p]",
        "[[q]]",
        "[[q.r]]",
        "[q.s]",
        "[ 't' . u ]",
        "# [v]",
        "",
        "w = '''\n'''''",
        "x = ''",
    ]
)


@given(st.lists(PIECES, max_size=12))
def test_every_key_of_a_valid_text_has_a_place_of_its_own(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    positions = Positions(text)
    expected = set(paths(document))
    assert positions.keys.keys() | positions.values.keys() == expected
    for path in positions.keys:
        place = positions.find_key(path)
        line = text.split("\n")[place.line - 1][place.column - 1 :]
        assert line.startswith(("[", f"{path[-1]}", f'"{path[-1]}"', f"'{path[-1]}'"))
