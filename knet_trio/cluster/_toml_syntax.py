"""The text of a TOML file to its document, or what is wrong with its syntax."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from knet_trio.cluster._positions import Positions, find_position
from knet_trio.cluster.errors import Mistake

_WHERE: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
# One that Python refuses to read, by an error that is none of the TOML reader's.
_LONG_INTEGER: Final = re.compile(r"[0-9](?:_?[0-9]){4300}")


def parse_toml(text: str) -> tuple[dict[str, Any], Positions] | Mistake:
    """Return what ``text`` has, and where, or the mistake that ends the reading of it."""
    try:
        return tomllib.loads(text), Positions(text)
    except tomllib.TOMLDecodeError as error:
        return _explain(str(error), text)
    except RecursionError:
        return Mistake("brackets are nested too deep", 1, 1)
    except ValueError:
        number = _LONG_INTEGER.search(text)
        if number is None:
            raise
        return Mistake("this number has too many digits", *find_position(text, number.start()))


def _explain(said: str, text: str) -> Mistake:
    where = _WHERE.search(said)
    said = _WHERE.sub("", said)
    if where is not None and where[1] is not None:
        return Mistake(f"this is no TOML: {said}", int(where[1]), int(where[2]))
    lines = text.split("\n")
    return Mistake(f"this is no TOML: {said} at the end", len(lines), len(lines[-1]) + 1)
