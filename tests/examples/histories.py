"""Histories of one register, and whether they are linearizable."""

from __future__ import annotations

import math
from typing import Literal

import attrs


@attrs.frozen
class Operation:
    """What somebody did, and when, in seconds.

    Attributes:
        kind: Whether the value was set or got.
        value: The value. No two operations set the same one.
        began: When the call began.
        ended: When it returned; ``math.inf`` if it is not known whether it was done.
    """

    kind: Literal["set", "get"]
    value: str | None
    began: float
    ended: float = math.inf


def is_linearizable(history: list[Operation]) -> bool:
    """Whether there is an order in which each ``get`` returns what was set last.

    An operation that ended before another began comes before that one. One whose outcome is unknown
    may be left out.
    """
    history = sorted(history, key=lambda operation: operation.began)
    required = sum(1 << n for n, one in enumerate(history) if one.ended < math.inf)
    tried = set[tuple[int, str | None]]()
    # What has been done, as bits, and what the register has then.
    ahead: list[tuple[int, str | None]] = [(0, None)]
    while ahead:
        state = done, value = ahead.pop()
        if done & required == required:
            return True
        if state in tried:
            continue
        tried.add(state)
        left = [(n, one) for n, one in enumerate(history) if not done >> n & 1]
        first_end = min(one.ended for _, one in left)
        for n, one in left:
            if one.began <= first_end and (one.kind == "set" or one.value == value):
                ahead.append((done | 1 << n, one.value))
    return False
