"""Calling the user's filter, with a check of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from knet_trio._core.onwire import MAX_CHANNELS
from knet_trio.config import check_integer
from knet_trio.errors import FilterError, shown
from knet_trio.message import Drop, Filter, FilterPacket, FilterResult


def ask_filter(decide: Filter, packet: FilterPacket) -> FilterResult:
    """Return the answer of the user's filter.

    Raises:
        FilterError: The filter raised an exception, or its answer is not valid.
    """
    try:
        answer = cast("Callable[[FilterPacket], object]", decide)(packet)
        if not isinstance(answer, FilterResult):
            raise TypeError(f"a filter returns Broadcast, Unicast or Drop, not {shown(answer)}")
        if not isinstance(answer, Drop) and answer.channel is not None:
            check_integer("channel", answer.channel, 0, MAX_CHANNELS - 1)
    except Exception as error:
        raise FilterError(f"the filter failed: {error!r}") from error
    return answer
