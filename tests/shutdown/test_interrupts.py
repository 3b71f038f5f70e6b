"""A KeyboardInterrupt in the main task comes between two messages, not in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Generator

import pytest
import trio

from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.turns import Turns
from knet_trio.message import Message
from tests.pipeline.sending import make, running


@pytest.fixture(autouse=True)
def sigint() -> Generator[None]:
    """Have SIGINT do what it does, also where whoever started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> float:
    signal.raise_signal(signal.SIGINT)
    return 0.0


async def take(queue: ChannelQueue) -> Message:
    return await queue.take()


async def take_many(queue: ChannelQueue) -> Message:
    (message,) = await queue.take_many(1)
    return message


@pytest.mark.parametrize("taking", [take, take_many])
def test_what_is_taken_is_returned(
    taking: Callable[[ChannelQueue], Awaitable[Message]],
) -> None:
    messages = [Message(b"%d" % number, 2, 0) for number in range(3)]

    async def main() -> None:
        turns = Turns()
        queue = ChannelQueue(10, turns)
        queue.put(2, messages)
        # Read in the middle of taking.
        turns._clock = interrupt  # pyright: ignore[reportPrivateUsage]
        assert await taking(queue) == messages[0]
        assert len(queue) == 2
        turns._clock = lambda: 0.0  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(KeyboardInterrupt):
            await taking(queue)
        assert len(queue) == 2
        assert await taking(queue) == messages[1]

    trio.run(main)


def test_a_message_is_handed_over_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world = make(2)
        async with running(world) as transmitter:
            protected: list[bool] = []

            def enter(*args: object) -> bool:
                protected.append(trio.lowlevel.currently_ki_protected())
                return True

            monkeypatch.setattr(transmitter._lanes, "enter", enter)  # pyright: ignore[reportPrivateUsage]
            assert not trio.lowlevel.currently_ki_protected()
            await transmitter.send((b"x",), 0)
            assert protected == [True]

    trio.run(main)
