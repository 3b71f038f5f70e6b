"""Conversion of records to JSON and back.

A record is an object with a member for each field. The decoder ignores unknown members, so that a
later release can add some.
"""

from __future__ import annotations

import enum
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

T = TypeVar("T")

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that ``json`` can read and write."""

_NAMES: Final[Mapping[object, str]] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


class MisfitError(ValueError):
    """A value does not have the expected type; the message says which value and why."""


# To JSON.


def to_json(value: object) -> Json:
    """Return a record, or a value in one, as ``json.dumps`` takes it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {str(key): to_json(item) for key, item in mapping.items()}
    if isinstance(value, Sequence):
        return [to_json(item) for item in cast("Sequence[object]", value)]
    return {name: to_json(getattr(value, name)) for name in _field_names(cast(Any, type(value)))}


def dump(value: Json) -> str:
    """Return JSON text in one line."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))


# From JSON.


def load(line: bytes) -> Json:
    """Return the value in a line of JSON.

    Raises:
        MisfitError: The line is not JSON.
    """
    try:
        return cast(Json, json.loads(line, parse_constant=_refuse_constant))
    except RecursionError:
        raise MisfitError("it is nested too deeply") from None
    except ValueError as error:
        raise MisfitError(str(error)) from None


def _refuse_constant(name: str) -> None:
    raise MisfitError(f"{name} is not a number in JSON")


def from_json(kind: type[T], value: Json, where: str = "") -> T:
    """Return the record of type ``kind`` that ``value`` describes.

    Args:
        kind: A class made by attrs.
        value: An object. Members that ``kind`` does not have are ignored.
        where: The name of the value in an error message.

    Returns:
        The record.

    Raises:
        MisfitError: A field is missing or of another type.
    """
    hint: Any = kind
    return cast(T, _decoder(hint)(value, where))


_Decode = Callable[[Json, str], object]


@cache
def _decoder(hint: Any) -> _Decode:
    """Return the function that decodes values of a type."""
    if attrs.has(hint):
        return _record_decoder(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return _optional_decoder(arguments)
    if origin is tuple:
        return _tuple_decoder(_decoder(arguments[0]))
    if origin is not None:
        return _mapping_decoder(*arguments)
    return _plain_decoder(hint)


def _plain_decoder(hint: type) -> _Decode:
    def decode(value: Json, where: str) -> object:
        if hint is float and type(value) in (int, float):
            return _decode_number(cast("int | float", value), where)
        if issubclass(hint, enum.StrEnum) and isinstance(value, str) and value in set(hint):
            return hint(value)
        if hint is not object and type(value) is not hint:
            raise MisfitError(f"{where} {_shown(value)} is not {describe_type(hint)}")
        return value

    return decode


def _decode_number(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        # JSON has no infinity, but it has numbers that are too large for a float.
        raise MisfitError(f"{where} is too large a number")
    return number


def _optional_decoder(arguments: tuple[Any, ...]) -> _Decode:
    kinds = [kind for kind in arguments if kind is not type(None)]
    optional = len(kinds) < len(arguments)
    decoders = [_decoder(kind) for kind in kinds]

    def decode(value: Json, where: str) -> object:
        if value is None and optional:
            return None
        for decoder in decoders[:-1]:
            try:
                return decoder(value, where)
            except MisfitError:
                continue
        if len(decoders) == 1:
            return decoders[0](value, where)
        try:
            return decoders[-1](value, where)
        except MisfitError:
            wanted = " or ".join(describe_type(kind) for kind in kinds)
            raise MisfitError(f"{where} {_shown(value)} is not {wanted}") from None

    return decode


def _tuple_decoder(item: _Decode) -> _Decode:
    def decode(value: Json, where: str) -> object:
        if not isinstance(value, list):
            raise MisfitError(f"{where} {_shown(value)} is not a list")
        return tuple([item(one, where) for one in value])

    return decode


def _mapping_decoder(key: Any, item_type: Any) -> _Decode:
    item = _decoder(item_type)

    def decode(value: Json, where: str) -> object:
        if not isinstance(value, Mapping):
            raise MisfitError(f"{where} {_shown(value)} is not an object")
        if key is str:
            return {name: item(one, where) for name, one in value.items()}
        # An enum: members that a later release has added are left out.
        known = {member.value: member for member in key}
        return {known[name]: item(one, where) for name, one in value.items() if name in known}

    return decode


def _record_decoder(kind: type) -> _Decode:
    hints = get_type_hints(kind)
    fields: list[tuple[str, bool, _Decode]] = [
        (field.name, field.default is attrs.NOTHING, _decoder(hints[field.name]))
        for field in attrs.fields(kind)
    ]

    def decode(value: Json, where: str) -> object:
        if not isinstance(value, Mapping):
            raise MisfitError(f"{where or 'the value'} {_shown(value)} is not an object")
        arguments: dict[str, object] = {}
        for name, needed, decoder in fields:
            if name in value:
                arguments[name] = decoder(value[name], name)
            elif needed:
                raise MisfitError(f"{name} is missing")
        return kind(**arguments)

    return decode


# For people.


def describe_type(hint: Any) -> str:
    """Return a description of a type in JSON, in words."""
    if hint in _NAMES:
        return _NAMES[hint]
    if attrs.has(hint):
        return f"`{hint.__name__}`"
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return f"one of {', '.join(hint)}"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return " or ".join(describe_type(kind) for kind in arguments)
    if origin is tuple:
        return f"list of {describe_type(arguments[0])}"
    if origin is not None:
        return f"object of {describe_type(arguments[1])}"
    return "any value"


def _shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
