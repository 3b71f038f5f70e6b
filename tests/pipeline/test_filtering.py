from __future__ import annotations

import errno
from typing import Any

import pytest
import trio

from knet_trio._pipeline.ask_filter import ask_filter
from knet_trio.errors import FilterError
from knet_trio.message import (
    Broadcast,
    Direction,
    Drop,
    Filter,
    FilterPacket,
    FilterResult,
    Unicast,
)

PACKET = FilterPacket(b"data", Direction.TX, 1, 1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Broadcast(),
        Broadcast(0),
        Broadcast(31),
        Unicast([2]),
        Unicast([]),
        Unicast([2, 3], 31),
        Drop(),
    ],
)
def test_takes_what_a_filter_may_answer(answer: FilterResult) -> None:
    asked: list[FilterPacket] = []

    def decide(packet: FilterPacket) -> FilterResult:
        asked.append(packet)
        return answer

    assert ask_filter(decide, PACKET) is answer
    assert asked == [PACKET]


@pytest.mark.parametrize("answer", [None, True, 2, [2], "broadcast", Broadcast, Drop])
def test_refuses_another_type_and_says_what_there_is(answer: Any) -> None:
    with pytest.raises(FilterError, match="returns Broadcast, Unicast or Drop") as caught:
        ask_filter(answering(answer), PACKET)
    assert repr(answer) in str(caught.value)
    assert isinstance(caught.value.__cause__, TypeError)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("channel", [-1, 32, 1.5, "0", True])
def test_refuses_a_channel_that_is_none(channel: Any) -> None:
    for answer in (Broadcast(channel), Unicast([2], channel)):
        with pytest.raises(FilterError, match=r"channel .* from 0 to 31"):
            ask_filter(answering(answer), PACKET)


def answering(answer: Any) -> Filter:
    def decide(_: FilterPacket) -> FilterResult:
        return answer  # type: ignore[no-any-return]

    return decide


def test_an_exception_is_the_cause() -> None:
    error = ZeroDivisionError("oops")

    def decide(_: FilterPacket) -> FilterResult:
        raise error

    with pytest.raises(FilterError, match="oops") as caught:
        ask_filter(decide, PACKET)
    assert caught.value.__cause__ is error


async def test_it_may_not_swallow_the_end_of_the_program() -> None:
    def decide(_: FilterPacket) -> FilterResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_filter(decide, PACKET)
    await trio.lowlevel.checkpoint()
