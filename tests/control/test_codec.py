from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio import DropCause
from knet_trio.control.codec import MisfitError, describe_type, dump, from_json, load, to_json
from knet_trio.control.records import LinkHistory


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@attrs.frozen
class Inner:
    number: int
    share: float | None


@attrs.frozen
class Outer:
    name: str
    on: bool
    inner: Inner
    several: tuple[Inner, ...]
    causes: Mapping[DropCause, int]
    either: int | str
    value: object = None
    colour: Colour = Colour.RED


OUTER = Outer(
    "ä\n", True, Inner(1, None), (Inner(2, 0.5), Inner(3, 1.0)), {DropCause.MALFORMED: 7}, "x"
)


def test_a_record_goes_there_and_back_in_one_line() -> None:
    text = dump(to_json(OUTER))
    assert "\n" not in text
    assert text.isascii()
    assert json.loads(text)["causes"] == {"malformed": 7}
    assert from_json(Outer, load(text.encode())) == OUTER


def changed(**changes: object) -> dict[str, object]:
    members = json.loads(dump(to_json(OUTER)))
    assert isinstance(members, dict)
    return {**members, **changes}


def test_what_a_later_release_adds_is_ignored() -> None:
    later = changed(news=1, causes={"malformed": 7, "later_cause": 1})
    assert from_json(Outer, later) == OUTER  # type: ignore[arg-type]


def test_an_integer_is_a_number_too() -> None:
    inner = from_json(Inner, {"number": 1, "share": 1})
    assert type(inner.share) is float


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"on": 1}, "on 1 is not true or false"),
        ({"name": 5}, "name 5 is not text"),
        ({"name": None}, "name null is not text"),
        ({"inner": []}, r"inner \[\] is not an object"),
        ({"inner": {"number": True, "share": None}}, "number true is not integer"),
        ({"inner": {"share": None}}, "number is missing"),
        ({"inner": {"number": 1, "share": 10**400}}, "share is too large a number"),
        ({"inner": {"number": 1, "share": float("1e999")}}, "share is too large a number"),
        ({"colour": []}, r"colour \[\] is not one of red, green"),
        ({"several": {}}, "several {} is not a list"),
        ({"causes": 1}, "causes 1 is not an object"),
        ({"either": 1.5}, "either 1.5 is not integer or text"),
        ({"name": ["x" * 100]}, r"^name .{77}\.\.\. is not text"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(MisfitError, match=said):
        from_json(Outer, changed(**change))  # type: ignore[arg-type]


def test_no_object_is_no_record() -> None:
    with pytest.raises(MisfitError, match="the answer 5 is not an object"):
        from_json(Inner, 5, "the answer")


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"NaN", b"[1, Infinity]", b"\xff", b"[" * 60000, b"1" * 5000, b'{"a":1}}'],
    ids=lambda line: str(line[:10]),
)
def test_what_is_no_json_is_refused(line: bytes) -> None:
    with pytest.raises(MisfitError):
        load(line)


@given(st.binary(max_size=64))
def test_bytes_are_json_or_refused(line: bytes) -> None:
    try:
        value = load(line)
    except MisfitError:
        return
    assert load(dump(value).encode()) == value


def test_types_have_words() -> None:
    assert describe_type(int | None) == "integer or null"
    assert describe_type(tuple[Inner, ...]) == "list of `Inner`"
    assert describe_type(Mapping[str, int]) == "object of integer"
    assert describe_type(LinkHistory) == "`LinkHistory`"
    assert describe_type(object) == "any value"
