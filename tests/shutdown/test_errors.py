"""What goes wrong in the user's own code ends what it has to, and nothing hangs for it."""

from __future__ import annotations

import lzma
import os
import signal
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import (
    Broadcast,
    Channel,
    CompressConfig,
    CryptoConfig,
    Direction,
    DropCause,
    FilterError,
    FilterPacket,
    FilterResult,
    InvalidArgumentError,
    Unicast,
    open_handle,
)
from knet_trio._state.turns import counted_turns
from tests.cancelling import kinds, leaves, nothing_left
from tests.cluster import KEY, PATIENCE, open_pair, receive, wait_dropped
from tests.drops import counted
from tests.threads import no_new_threads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Filters.


def raises(_: FilterPacket) -> FilterResult:
    raise ValueError("no idea")


def raises_a_stop(_: FilterPacket) -> FilterResult:
    raise StopIteration


def never_returns_from_itself(packet: FilterPacket) -> FilterResult:
    return never_returns_from_itself(packet)


def raises_a_group(_: FilterPacket) -> FilterResult:
    raise ExceptionGroup("of errors", [ValueError(), TypeError()])


def answers(answer: object) -> Callable[[FilterPacket], Any]:
    def decide(_: FilterPacket) -> object:
        return answer

    return decide


def names_no_host(_: FilterPacket) -> FilterResult:
    return Unicast([None])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


NONSENSE: list[Callable[[FilterPacket], FilterResult]] = [
    raises,
    raises_a_stop,
    raises_a_group,
    never_returns_from_itself,
    names_no_host,
    answers(None),
    answers(True),
    answers(Broadcast),
    answers(Broadcast(channel=99)),
    answers([2]),
]


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_filter_that_fails_loses_its_message_and_no_other(direction: Direction) -> None:
    def decide(packet: FilterPacket) -> FilterResult:
        index = packet.data[0] if packet.direction is direction else len(NONSENSE)
        return NONSENSE[index](packet) if index < len(NONSENSE) else Broadcast()

    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair(filter=decide) as pair:
            out = direction is Direction.TX
            to, sender = (pair.b, pair.a) if out else (pair.a, pair.b)
            channel, receiver = sender.open_channel(0), to.open_channel(0)
            good = bytes([len(NONSENSE)])
            for index in range(len(NONSENSE)):
                await channel.send_many([bytes([index]), good])
                assert await receive(receiver, 1) == [good]
                if out:
                    with pytest.raises(FilterError):
                        await channel.send_sync(bytes([index]))
            await wait_dropped(pair.a, DropCause.FILTER_ERROR, len(NONSENSE))
            assert counted(pair.a.statistics().drops) == {DropCause.FILTER_ERROR: len(NONSENSE)}


async def test_an_asynchronous_function_is_no_filter() -> None:
    async def decide(packet: FilterPacket) -> FilterResult:
        del packet
        return Broadcast()

    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="async function"):
            handle.set_filter(decide)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class EndOfTheProgram(BaseException):
    """As KeyboardInterrupt is, nothing for a handle to deal with."""


@pytest.mark.parametrize("direction", list(Direction))
async def test_what_is_no_exception_ends_the_handle_and_comes_out(direction: Direction) -> None:
    """On the way out it is raised by the send, on the way in by a task of the handle."""

    def decide(packet: FilterPacket) -> FilterResult:
        if packet.direction is direction:
            raise EndOfTheProgram
        return Broadcast()

    with nothing_left(), trio.fail_after(PATIENCE), pytest.raises(BaseExceptionGroup) as caught:
        async with open_pair(filter=decide) as pair:
            sender = pair.a if direction is Direction.TX else pair.b
            await sender.open_channel(0).send(b"x")
            await trio.sleep_forever()
    assert kinds(caught.value) == [EndOfTheProgram]


# What the handle's own parts may run into.


def failing(error: Exception) -> Callable[..., bytes]:
    """Return what takes the place of a function of a library, and raises ``error``."""

    def fail(*_: object, **__: object) -> bytes:
        raise error

    return fail


@pytest.mark.parametrize("model", ["zlib", "lzma"])
async def test_a_compressor_without_memory_loses_no_message_and_says_so(
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a thread or not, alone or among others, and past the lane too."""

    fail = failing(MemoryError("no room"))

    monkeypatch.setattr(zlib, "compress", fail)
    monkeypatch.setattr(lzma, "compress", fail)
    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair() as pair:
            pair.a.set_compress(CompressConfig(model))
            channel, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            await channel.send(b"1" * 1000)
            await channel.send_many([b"2" * 1000, b"3" * 1000])
            assert await receive(receiver, 3) == [b"1" * 1000, b"2" * 1000, b"3" * 1000]
            await channel.send_sync(b"4" * 1000, to=[2])
            assert await receive(receiver, 1) == [b"4" * 1000]
            assert pair.a.statistics().tx_uncompressed_packets == 4
            assert pair.a.statistics().tx_failed_to_compress == 4
            assert pair.a.statistics().tx_unable_to_compress == 0
            assert pair.a.statistics().tx_compressed_packets == 0
    failures = [one for one in caplog.records if "the compressor failed" in one.message]
    # One, and how many there were when the handle ends.
    assert "MemoryError('no room')" in failures[0].message
    assert failures[0].levelname == "ERROR"
    assert failures[0].exc_info is not None


async def _sends(channel: Channel) -> None:
    await channel.send(b"1" * 1000)


async def _sends_in_thousands(channel: Channel) -> None:
    await channel.send_many([b"1" * 1000] * 1000)


async def _sends_without_waiting(channel: Channel) -> None:
    channel.send_nowait(b"1" * 1000)


async def _sends_past_the_lane(channel: Channel) -> None:
    await channel.send_sync(b"1" * 1000, to=[2])


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
@pytest.mark.parametrize("model", ["zlib", "lzma"])
@pytest.mark.parametrize(
    "send", [_sends, _sends_in_thousands, _sends_without_waiting, _sends_past_the_lane]
)
async def test_a_bug_in_a_compressor_ends_the_handle_and_only_there(
    send: Callable[[Channel], Awaitable[None]],
    model: str,
    idle: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever sends is told that the handle has ended, and nothing else."""

    fail = failing(RuntimeError("a bug"))

    monkeypatch.setattr(zlib, "compress", fail)
    monkeypatch.setattr(lzma, "compress", fail)
    with nothing_left(), trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_pair() as pair:
            channel = pair.a.open_channel(0)
            pair.a.set_compress(CompressConfig(model))
            with suppress(trio.ClosedResourceError):
                for _ in range(1 if idle else 3):
                    await send(channel)
            await trio.sleep_forever()
    # One for each place that came upon it in the same turn: a call, and a task of the handle.
    assert set(kinds(caught.value)) == {RuntimeError}


@pytest.mark.parametrize("model", ["zlib", "lzma"])
async def test_a_bug_in_a_decompressor_ends_the_handle(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = failing(RuntimeError("a bug"))

    monkeypatch.setattr(zlib, "decompressobj", fail)
    monkeypatch.setattr(lzma, "LZMADecompressor", fail)
    with nothing_left(), trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_pair() as pair:
            pair.a.set_compress(CompressConfig(model))
            await pair.a.open_channel(0).send(b"1" * 1000)
            await trio.sleep_forever()
    assert kinds(caught.value) == [RuntimeError]


async def test_a_bug_in_the_last_call_of_the_block_comes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail = failing(RuntimeError("a bug"))

    monkeypatch.setattr(zlib, "compress", fail)
    with (
        nothing_left(),
        trio.fail_after(PATIENCE),
        # However slow the machine is, the call itself compresses.
        counted_turns(0),
        pytest.raises(ExceptionGroup) as caught,
    ):
        async with open_pair() as pair:
            pair.a.set_compress(CompressConfig("zlib"))
            with pytest.raises(trio.ClosedResourceError):
                await pair.a.open_channel(0).send(b"1" * 1000)
    assert kinds(caught.value) == [RuntimeError]


async def test_a_decompressor_without_memory_loses_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail = failing(MemoryError("no room"))

    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair() as pair:
            channel, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            pair.a.set_compress(CompressConfig("zlib"))
            with monkeypatch.context() as patch:
                patch.setattr(zlib, "decompressobj", fail)
                await channel.send(b"1" * 1000)
                await wait_dropped(pair.b, DropCause.BAD_COMPRESSION)
            await channel.send(b"2" * 1000)
            assert await receive(receiver, 1) == [b"2" * 1000]


async def test_without_a_thread_a_message_is_sent_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair() as pair:
            pair.a.set_compress(CompressConfig("lzma"))
            channel, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            with no_new_threads():
                await channel.send_many([b"1" * 1000, b"2" * 1000])
                assert await receive(receiver, 2) == [b"1" * 1000, b"2" * 1000]
                await channel.send_sync(b"3" * 1000, to=[2])
                assert await receive(receiver, 1) == [b"3" * 1000]
            assert pair.a.statistics().tx_uncompressed_packets == 3
            await channel.send(b"4" * 1000)
            assert await receive(receiver, 1) == [b"4" * 1000]
            assert pair.a.statistics().tx_compressed_packets == 1
    lines = [one for one in caplog.records if "sent uncompressed" in one.message]
    assert "can't start new thread" in lines[0].message


async def test_without_a_thread_a_message_that_needs_one_to_be_decompressed_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair() as pair:
            pair.a.set_compress(CompressConfig("lzma"))
            channel, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            # Both handles are in this process, and the sender needs no thread.
            pair.a._context.worker = call_at_once  # pyright: ignore[reportPrivateUsage]
            with no_new_threads():
                await channel.send(b"1" * 1000)
                await wait_dropped(pair.b, DropCause.BAD_COMPRESSION)
                await channel.send(b"short")
                assert await receive(receiver, 1) == [b"short"]
            await channel.send(b"2" * 1000)
            assert await receive(receiver, 1) == [b"2" * 1000]
            assert counted(pair.b.statistics().drops) == {DropCause.BAD_COMPRESSION: 1}
            assert pair.b.statistics().rx_failed_to_decompress == 1
    assert any("can't start new thread" in one.message for one in caplog.records)


async def call_at_once(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    await trio.lowlevel.checkpoint()
    return work(*args)


async def test_a_cipher_that_breaks_loses_messages_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(size: int) -> bytes:
        raise OSError(f"no {size} bytes")

    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair(crypto=CryptoConfig(key=KEY)) as pair:
            channel, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            with monkeypatch.context() as patch:
                patch.setattr(os, "urandom", fail)
                await channel.send(b"lost")
                await wait_dropped(pair.a, DropCause.SEAL_FAILED)
            await channel.send(b"sent")
            assert await receive(receiver, 1) == [b"sent"]


# The block.


async def test_errors_of_the_block_and_of_its_tasks_come_out_in_groups() -> None:
    async def fail() -> None:
        raise OSError

    with nothing_left(), trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_pair() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(pair.a.get_host(2).wait_unreachable)
            nursery.start_soon(fail)
            nursery.start_soon(fail)
            await trio.sleep_forever()
    assert kinds(caught.value) == [OSError, OSError]


async def test_errors_that_come_while_it_ends_come_out_too() -> None:
    with nothing_left(), trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
        async with open_pair():
            try:
                raise ZeroDivisionError
            finally:
                raise OSError
    assert kinds(caught.value) == [OSError]
    (error,) = leaves(caught.value)
    assert isinstance(error.__context__, ZeroDivisionError)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


async def interrupted_in_the_block() -> None:
    with nothing_left():
        async with open_pair() as pair:
            await pair.a.open_channel(0).send(b"x")
            interrupt()
            await trio.sleep_forever()


async def interrupted_while_all_sleep() -> None:
    """As a user does it: the signal comes when nothing of the program runs."""
    with nothing_left():
        async with open_pair() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(pair.a.open_channel(0).receive)
            await wait_all_tasks_blocked()
            trio.lowlevel.current_trio_token().run_sync_soon(interrupt)
            await trio.sleep_forever()


async def interrupted_in_a_filter() -> None:
    def decide(packet: FilterPacket) -> FilterResult:
        if packet.direction is Direction.RX:
            interrupt()
        return Broadcast()

    with nothing_left():
        async with open_pair(filter=decide) as pair:
            await pair.b.open_channel(0).send(b"x")
            await trio.sleep_forever()


@pytest.mark.parametrize(
    "program", [interrupted_in_the_block, interrupted_while_all_sleep, interrupted_in_a_filter]
)
def test_an_interrupt_ends_it(program: Callable[[], Any]) -> None:
    # A process that was started with the signal ignored, as many in the background are, ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
            trio.run(program)
    finally:
        signal.signal(signal.SIGINT, before)
    assert kinds(caught.value) == [KeyboardInterrupt]
