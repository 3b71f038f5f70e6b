"""Parsing of TOML with positions, and mistakes in its syntax."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from knet_trio.cluster._positions import Positions, find_position
from knet_trio.cluster.errors import Mistake

_WHERE: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
# An integer so long that Python refuses it, with an error other than that of the TOML parser.
_LONG_INTEGER: Final = re.compile(r"[0-9](?:_?[0-9]){4300}")


def parse_toml(text: str) -> tuple[dict[str, Any], Positions] | Mistake:
    """Return the document and the positions in it, or the first mistake in the syntax."""
    try:
        return tomllib.loads(text), Positions(text)
    except tomllib.TOMLDecodeError as error:
        return _explain(str(error), text)
    except RecursionError:
        return Mistake("the brackets are nested too deeply", 1, 1)
    except ValueError:
        number = _LONG_INTEGER.search(text)
        if number is None:
            raise
        return Mistake("the number has too many digits", *find_position(text, number.start()))


def _explain(reason: str, text: str) -> Mistake:
    where = _WHERE.search(reason)
    reason = _WHERE.sub("", reason)
    if where is not None and where[1] is not None:
        return Mistake(f"this is not TOML: {reason}", int(where[1]), int(where[2]))
    lines = text.split("\n")
    return Mistake(f"this is not TOML: {reason} at the end", len(lines), len(lines[-1]) + 1)
