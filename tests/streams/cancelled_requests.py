"""Requests, messages, and what takes them, cancelled at each of their steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from knet_trio.streams import (
    HandlerError,
    HostRequest,
    MessageReceiver,
    RefusedError,
    RequestReceiver,
    open_streams,
)
from tests.cancelling import at_every_step
from tests.public_calls import Spied
from tests.streams.cancelled_calls import nothing_wrong, of
from tests.streams.pairs import CHANNEL, StreamPair, open_handles, open_stream_pair


@asynccontextmanager
async def open_answering() -> AsyncGenerator[tuple[StreamPair, list[bytes]]]:
    """A pair whose second side answers requests, and notes what it has done."""
    done: list[bytes] = []

    async def answer(requests: RequestReceiver) -> None:
        async for request in requests:
            done.append(request.data)
            try:
                await request.answer(request.data[::-1])
            except trio.BrokenResourceError:
                assert request.cancelled

    async with (
        open_stream_pair() as pair,
        pair.beta.requests() as requests,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(answer, requests)
        yield pair, done
        nursery.cancel_scope.cancel()


@of("Streams.request")
async def requesting(call: Spied) -> None:
    async with open_answering() as (pair, done):

        async def one(step: int) -> None:
            question = b"%d" % step
            assert await call(pair.alpha, 2, question) == question[::-1]

        async def check(step: int, cancelled: bool) -> None:
            await trio.sleep(1)
            assert done.count(b"%d" % step) == 1 or cancelled
            assert len(set(done)) == len(done)
            assert await pair.alpha.request(2, b"after %d" % step) == (b"after %d" % step)[::-1]

        assert await at_every_step(one, check) > 4


@of("Streams.send")
async def sending_messages(call: Spied) -> None:
    async with open_stream_pair() as pair, pair.beta.messages() as messages:

        async def one(step: int) -> None:
            await call(pair.alpha, 2, b"%d" % step)

        async def check(step: int, cancelled: bool) -> None:
            await pair.alpha.send(2, b"after")
            got: list[bytes] = []
            while b"after" not in got:
                got.append((await messages.receive()).data)
            assert got in ([b"%d" % step, b"after"], [b"after"])
            assert cancelled or len(got) == 2

        assert await at_every_step(one, check) > 4


@of("MessageReceiver.receive", "MessageReceiver.__anext__")
async def receiving_messages(call: Spied) -> None:
    async with open_stream_pair() as pair, pair.beta.messages() as messages:
        got: list[bytes] = []

        async def one(step: int) -> None:
            got.append((await call(messages)).data)

        async def check(step: int, cancelled: bool) -> None:
            assert bool(got) is not cancelled
            if not got:
                with trio.fail_after(1):
                    got.append((await messages.receive()).data)
            assert got == [b"%d" % step]
            got.clear()
            await pair.alpha.send(2, b"%d" % (step + 1))

        await pair.alpha.send(2, b"0")
        assert await at_every_step(one, check) > 1
        # Nor while it waits.
        await messages.receive()
        with trio.move_on_after(1) as scope:
            await call(messages)
        assert scope.cancelled_caught
        await pair.alpha.send(2, b"after")
        assert (await messages.receive()).data == b"after"


@of("RequestReceiver.receive", "RequestReceiver.__anext__")
async def receiving_requests(call: Spied) -> None:
    async with open_stream_pair() as pair, pair.beta.requests() as requests:
        got: list[HostRequest] = []

        async def one(step: int) -> None:
            got.append(await call(requests))

        async def check(step: int, cancelled: bool) -> None:
            if not got:
                with trio.fail_after(1):
                    got.append(await requests.receive())
            await got.pop().answer(b"yes")
            await trio.sleep(1)
            assert answers == [b"yes"] * (step + 1)
            nursery.start_soon(ask)
            await trio.sleep(1)

        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await pair.alpha.request(2, b"well?"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            assert await at_every_step(one, check) > 1
            nursery.cancel_scope.cancel()


@of(
    "HostRequest.answer",
    "HostRequest.refuse",
    "HostRequest.__aexit__",
    "HostRequest.__aenter__",
    "HostRequest.wait_cancelled",
)
async def answering(call: Spied) -> None:
    """Who asks gets an answer, a refusal or an error, one of them and once."""
    async with open_stream_pair() as pair, pair.beta.requests() as requests:
        outcomes: list[object] = []

        async def ask() -> None:
            try:
                outcomes.append(await pair.alpha.request(2, b"well?"))
            except trio.BrokenResourceError as error:
                outcomes.append(type(error))

        async def one(step: int) -> None:
            if call.name.endswith("answer"):
                await call(taken[-1], b"yes")
            elif call.name.endswith("wait_cancelled"):
                await taken[-1].answer(b"yes")
                await call(taken[-1])
            else:
                await call(taken[-1], *nothing_wrong(call))

        async def check(step: int, cancelled: bool) -> None:
            await trio.sleep(1)
            if not outcomes:
                # It has not happened.
                await taken[-1].answer(b"yes")
                await trio.sleep(1)
            assert len(outcomes) == 1
            if not cancelled:
                expected = {"refuse": RefusedError, "__aexit__": HandlerError}
                assert outcomes == [expected.get(call.name.rpartition(".")[2], b"yes")]
            outcomes.clear()
            await begin()

        taken: list[HostRequest] = []

        async def begin() -> None:
            nursery.start_soon(ask)
            taken.append(await requests.receive())

        async with trio.open_nursery() as nursery:
            await begin()
            assert await at_every_step(one, check) > 1
            nursery.cancel_scope.cancel()


@of(
    "StreamListener.aclose",
    "StreamListener.__aexit__",
    "RequestReceiver.aclose",
    "RequestReceiver.__aexit__",
    "MessageReceiver.aclose",
    "MessageReceiver.__aexit__",
)
async def closing_takers(call: Spied) -> None:
    async with open_stream_pair() as pair:

        async def one(step: int) -> None:
            async with (
                pair.beta.listener() as listener,
                pair.beta.requests() as requests,
                pair.beta.messages() as messages,
            ):
                for thing in (listener, requests, messages):
                    if isinstance(thing, call.owner):
                        try:
                            await call(thing, *nothing_wrong(call))
                        finally:
                            with (
                                pytest.raises(trio.ClosedResourceError),
                                trio.CancelScope(shield=True),
                            ):
                                await take(thing)

        async def take(thing: object) -> None:
            if isinstance(thing, RequestReceiver | MessageReceiver):
                await thing.receive()
            else:
                await thing.accept()  # type: ignore[attr-defined]

        async def check(step: int, cancelled: bool) -> None:
            pass

        assert await at_every_step(one, check) > 1


@of("Streams.listener", "Streams.requests", "Streams.messages")
async def taking(call: Spied) -> None:
    """When it was cancelled, it can be taken again."""
    async with open_stream_pair() as pair:

        async def one(step: int) -> None:
            async with call(pair.beta):
                await trio.lowlevel.checkpoint()

        async def check(step: int, cancelled: bool) -> None:
            async with call(pair.beta):
                pass

        assert await at_every_step(one, check) > 1


@of("open_streams")
async def opening(call: Spied) -> None:
    async with open_handles() as (a, b), open_streams(b, channel=CHANNEL) as beta:

        async def one(step: int) -> None:
            async with call(a, channel=CHANNEL) as alpha, beta.listener() as listener:
                await alpha.connect(2)
                await listener.accept()

        async def check(step: int, cancelled: bool) -> None:
            # The channel is free again.
            a.open_channel(CHANNEL).close()

        assert await at_every_step(one, check) > 4
