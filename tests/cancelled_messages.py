"""Sending and receiving, cancelled at any step: cases of tests/test_cancellation.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from knet_trio import Channel, Message
from tests.cancelling import at_every_step, cancelled_at
from tests.cluster import Pair, open_pair, receive, wait_for
from tests.holding import held
from tests.public_calls import Spied, of

# Sending.

# More than go together.
MANY = 100


def sent(pair: Pair) -> int:
    return pair.a.get_host(2).links[0].status.stats.tx_data_packets


def arrived(pair: Pair) -> int:
    return pair.b.get_host(1).links[0].status.stats.rx_data_packets


@of("Channel.send", "Channel.send_sync")
async def sending_one(call: Spied) -> None:
    async def send(channel: Channel, data: bytes) -> list[bytes]:
        # Long enough to be compressed.
        data = data.ljust(200, b".")
        await call(channel, data, to=[2])
        return [data]

    await sending(send)
    await sending_behind(send)


@of("Channel.send_many")
async def sending_many(call: Spied) -> None:
    async def send(channel: Channel, data: bytes) -> list[bytes]:
        datas = [b"%b of %d" % (data, number) for number in range(MANY)]
        await call(channel, datas)
        return datas

    await sending(send)
    await sending_behind(send)


Send = Callable[[Channel, bytes], Awaitable[list[bytes]]]


async def sending(send: Send) -> None:
    """What was not cancelled arrives once; of what was cancelled a beginning does, at most.

    Of a single message that is nothing.
    """
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        whole: list[bytes] = []

        async def one(step: int) -> None:
            whole.extend(await send(sender, b"%d" % step))

        async def check(step: int, cancelled: bool) -> None:
            # It goes behind all that the call has handed over.
            await sender.send(b"end")
            got: list[bytes] = []
            while (data := (await receive(receiver, 1))[0]) != b"end":
                got.append(data)
            if not cancelled:
                assert got == whole
            elif got:
                assert len(got) < MANY
                assert got == [b"%d of %d" % (step, number) for number in range(len(got))]
            whole.clear()

        await at_every_step(one, check)


async def sending_behind(send: Send) -> None:
    """So it is where the call has to wait, for room or for a thread that compresses."""
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        receiver = pair.b.open_channel(0, receive_buffer=1_000_000)
        expected: list[bytes] = []
        cancelled = 0

        async def keep(data: bytes) -> None:
            expected.extend(await send(sender, data))

        for step in range(12):
            with held(pair.a):
                with pytest.raises(trio.WouldBlock):
                    while True:
                        data = b"fill %d" % len(expected)
                        sender.send_nowait(data)
                        expected.append(data)

                async def one(step: int = step) -> None:
                    async with trio.open_nursery() as nursery:
                        for number in range(3):
                            nursery.start_soon(keep, b"wait %d of %d" % (number, step))

                cancelled += await cancelled_at(step, one)
            await wait_for(lambda: sent(pair) == len(expected))
        # Not only the one from before the call.
        assert cancelled > 1
        # The synchronous ones overtake the others, which is what they are for.
        assert sorted(await receive(receiver, len(expected))) == sorted(expected)
        await sender.send(b"end")
        assert await receive(receiver, 1) == [b"end"]


# Receiving.


@of("Channel.receive", "Channel.receive_many", "Channel.__anext__")
async def receiving(call: Spied) -> None:
    await receiving_what_is_there(call)
    await receiving_what_comes(call)


async def take(call: Spied, receiver: Channel) -> list[bytes]:
    taken: Message | list[Message] = await call(receiver)
    return [message.data for message in ([taken] if isinstance(taken, Message) else taken)]


async def receiving_what_is_there(call: Spied) -> None:
    """A call that was cancelled has taken nothing."""
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        gone: list[bytes] = []
        got: list[bytes] = []

        async def one(step: int) -> None:
            del step
            got.extend(await take(call, receiver))

        async def check(step: int, cancelled: bool) -> None:
            del step
            assert cancelled == (len(got) < len(gone))
            got.extend(await receive(receiver, len(gone) - len(got)))
            assert got == gone
            gone.append(b"%d" % len(gone))
            await sender.send(gone[-1])
            await wait_for(lambda: arrived(pair) == len(gone))

        await check(0, cancelled=False)
        await at_every_step(one, check)


async def receiving_what_comes(call: Spied) -> None:
    """So it is with one that has to wait, while the message goes through both handles."""
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        gone: list[bytes] = []
        got: list[bytes] = []

        async def one(step: int) -> None:
            gone.append(b"%d" % step)
            sender.send_nowait(gone[-1])
            got.extend(await take(call, receiver))

        async def check(step: int, cancelled: bool) -> None:
            del step, cancelled
            got.extend(await receive(receiver, len(gone) - len(got)))
            assert got == gone

        assert await at_every_step(one, check) > 4
