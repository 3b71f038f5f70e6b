"""What comes out of the block of ``open_handle``, as the table in docs/programs.md has it."""

from __future__ import annotations

import signal
import sys
import zlib
from typing import Any, cast

import pytest
import trio

from knet_trio import CompressConfig, InvalidArgumentError, open_handle
from knet_trio._core.liveness import Liveness
from knet_trio.testing import SimulatedNetwork, run
from tests.cluster import PATIENCE

Shape = Any
"""A type for an error, and for a group a list with those of its errors."""


def shape(error: BaseException) -> Shape:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return sorted((shape(one) for one in group.exceptions), key=str)
    return type(error)


async def test_an_error_of_the_block_is_in_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_handle(1):
            raise ValueError
    assert shape(caught.value) == [ValueError]


async def test_two_handles_make_a_group_in_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_handle(1), open_handle(2):
            raise ValueError
    assert shape(caught.value) == [[ValueError]]


def test_an_interrupt_is_in_a_group() -> None:
    async def main() -> None:
        async with open_handle(1):
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    # Who starts the tests in the background has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(BaseExceptionGroup) as caught:
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(caught.value, ExceptionGroup)
    assert shape(caught.value) == [KeyboardInterrupt]


async def test_an_exit_is_in_a_group() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_handle(1):
            sys.exit(3)
    assert shape(caught.value) == [SystemExit]


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("a bug")


async def test_a_bug_is_in_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "poll", fail)
    with trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_handle(1) as handle:
            await handle.add_host(2).add_link(0, ("127.0.0.1", 0), ("127.0.0.2", 5405))
            await trio.sleep_forever()
    assert shape(caught.value) == [RuntimeError]


async def test_a_bug_and_an_error_of_the_block_are_in_one_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Liveness, "poll", fail)
    with trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_handle(1) as handle:
            await handle.add_host(2).add_link(0, ("127.0.0.1", 0), ("127.0.0.2", 5405))
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError
    assert shape(caught.value) == [RuntimeError, ValueError]


def test_a_call_that_comes_upon_a_bug_says_that_the_handle_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = ("10.0.0.1", 5405), ("10.0.0.2", 5405)

    async def main(_: SimulatedNetwork) -> None:
        async with open_handle(1, compress=CompressConfig("zlib")) as a, open_handle(2) as b:
            await a.add_host(2).add_link(0, here, there)
            await b.add_host(1).add_link(0, there, here)
            await a.get_host(2).wait_reachable()
            await a.open_channel(0).send(bytes(1000))

    monkeypatch.setattr(zlib, "compress", fail)
    # On a busy machine the message may wait for its turn, and the bug for a task of the handle's:
    # there, it does not.
    with pytest.raises(ExceptionGroup) as caught:
        run(main, seed=1)
    # The inner handle has no bug, and passes on what its block raised. The network has a group too.
    assert shape(caught.value) == [[RuntimeError, [trio.ClosedResourceError]]]


async def test_what_is_cancelled_raises_nothing() -> None:
    with trio.move_on_after(0) as scope:
        async with open_handle(1):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_too_slow_is_in_a_group_if_it_was_raised_inside() -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0):
            async with open_handle(1):
                await trio.sleep_forever()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_handle(1):
            with trio.fail_after(0):
                await trio.sleep_forever()
    assert shape(caught.value) == [trio.TooSlowError]


async def test_a_wrong_argument_is_in_no_group() -> None:
    with pytest.raises(InvalidArgumentError):
        async with open_handle(70000):
            pass
