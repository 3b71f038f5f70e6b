"""A registry of cases for public calls on streams, which are cancelled at each of their steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import knet_trio.streams
from tests.public_calls import STREAMS, Spied, public_calls

CALLS: Final = public_calls((knet_trio.streams,), STREAMS)
Case = Callable[[Spied], Awaitable[None]]
CASES: Final[dict[str, Case]] = {}
# More than the first credit of a stream, and than may wait to be sent in these tests.
LARGE: Final = bytes(range(256)) * 100


def of(*names: str) -> Callable[[Case], Case]:
    """Have a case be that of these public calls."""

    def add(case: Case) -> Case:
        for name in names:
            assert name not in CASES
            CASES[name] = case
        return case

    return add


def nothing_wrong(call: Spied) -> list[None]:
    """What ``__aexit__`` is given at the normal end of a block."""
    return [None] * 3 if call.name.endswith("__aexit__") else []
