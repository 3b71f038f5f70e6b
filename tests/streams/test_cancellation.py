"""Every public call on streams cancelled at each step: nothing is lost, nothing comes twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from trio.testing import assert_checkpoints

import knet_trio.streams
from knet_trio.streams import (
    HostRequest,
    HostStream,
    MessageReceiver,
    RefusedError,
    RequestReceiver,
    Streams,
    _stream_user,
    open_streams,
)
from knet_trio.streams._core import packet_builder
from knet_trio.testing import SimulatedNetwork
from tests.cancelling import at_every_step
from tests.public_calls import STREAMS, Spied, public_calls, spy
from tests.streams.pairs import (
    CHANNEL,
    StreamPair,
    connect,
    open_handles,
    open_stream_pair,
    simulate,
)

CALLS: Final = public_calls((knet_trio.streams,), STREAMS)
Case = Callable[[Spied], Awaitable[None]]
CASES: Final[dict[str, Case]] = {}
# More than the first credit of a stream, and than may wait to be sent (see below).
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


async def read_all(stream: HostStream) -> bytes:
    return b"".join([part async for part in stream])


@of("HostStream.send_all")
async def sending(call: Spied) -> None:
    async with open_stream_pair() as pair, trio.open_nursery() as nursery:
        here, there = await connect(pair)

        async def one(step: int) -> None:
            async with trio.open_nursery() as reading:
                reading.start_soon(read)
                await call(here, LARGE)
                await here.send_eof()

        got = bytearray()

        async def read() -> None:
            async for part in there:
                got.extend(part)

        async def check(step: int, cancelled: bool) -> None:
            nonlocal here, there
            await here.send_eof()
            got.extend(await read_all(there))
            assert LARGE.startswith(got)
            assert cancelled or got == LARGE
            got.clear()
            await there.aclose()
            here, there = await connect(pair)

        assert await at_every_step(one, check) > 10
        nursery.cancel_scope.cancel()


@of("HostStream.receive_some", "HostStream.__anext__")
async def reading(call: Spied) -> None:
    async with open_stream_pair() as pair:
        here, there = await connect(pair)
        sent, got = bytearray(), bytearray()

        async def one(step: int) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, step)
                got.extend(await call(there))

        async def send(step: int) -> None:
            data = b"%d," % step
            await here.send_all(data)
            sent.extend(data)

        async def check(step: int, cancelled: bool) -> None:
            with trio.move_on_after(1):
                while True:
                    got.extend(await there.receive_some())
            assert got.startswith(sent)
            # What a cancelled call may have sent all the same.
            sent[:] = got

        assert await at_every_step(one, check) > 4


@of("HostStream.wait_send_all_might_not_block")
async def waiting_for_room(call: Spied) -> None:
    async with open_stream_pair() as pair, trio.open_nursery() as nursery:
        here, there = await connect(pair)
        nursery.start_soon(read_all, there)

        async def one(step: int) -> None:
            await call(here)

        async def check(step: int, cancelled: bool) -> None:
            await here.send_all(LARGE)

        assert await at_every_step(one, check) > 1
        nursery.cancel_scope.cancel()


@of("HostStream.send_eof")
async def ending(call: Spied) -> None:
    async with open_stream_pair() as pair:
        here, there = await connect(pair)

        async def one(step: int) -> None:
            await call(here)

        async def check(step: int, cancelled: bool) -> None:
            nonlocal here, there
            if cancelled:
                # It has not happened.
                await here.send_all(b"more")
                await here.send_eof()
            assert await read_all(there) == (b"more" if cancelled else b"")
            here, there = await connect(pair)

        assert await at_every_step(one, check) > 1


@of("HostStream.aclose", "HostStream.__aexit__")
async def closing(call: Spied) -> None:
    """What was sent arrives all the same, and then the end."""
    async with open_stream_pair() as pair:
        here, there = await connect(pair)
        sent: list[bytes] = []

        async def one(step: int) -> None:
            await here.send_all(b"all of it")
            sent.append(b"all of it")
            await call(here, *nothing_wrong(call))

        async def check(step: int, cancelled: bool) -> None:
            nonlocal here, there
            await trio.aclose_forcefully(here)
            with pytest.raises(trio.ClosedResourceError):
                await here.send_all(b"")
            got = await read_all(there)
            assert got == b"".join(sent) or (cancelled and got == b"all of it")
            with pytest.raises(trio.BrokenResourceError):
                await there.send_all(b"nobody reads this")
            sent.clear()
            here, there = await connect(pair)

        assert await at_every_step(one, check) > 4


@of(
    "HostStream.__aenter__",
    "StreamListener.__aenter__",
    "RequestReceiver.__aenter__",
    "MessageReceiver.__aenter__",
)
async def entering(call: Spied) -> None:
    """Trio's own, which have no checkpoint."""
    async with (
        open_stream_pair() as pair,
        pair.beta.requests() as requests,
        pair.beta.messages() as messages,
    ):
        here, _ = await connect(pair)
        async with pair.beta.listener() as listener:
            for thing in (here, listener, requests, messages):
                if isinstance(thing, call.owner):
                    assert await call(thing) is thing


@of("StreamListener.accept")
async def accepting(call: Spied) -> None:
    async with open_stream_pair() as pair, pair.beta.listener() as listener:
        taken: list[HostStream] = []

        async def one(step: int) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_one)
                taken.append(await call(listener))

        opened: list[HostStream] = []

        async def open_one() -> None:
            opened.append(await pair.alpha.connect(2))

        async def check(step: int, cancelled: bool) -> None:
            while len(taken) < len(opened):
                with trio.fail_after(1):
                    taken.append(await listener.accept())
            for here, there in zip(opened, taken, strict=False):
                await here.send_all(b"x")
                assert await there.receive_some() == b"x"
                await trio.aclose_forcefully(here)
            # One whose opening was cancelled may have been taken.
            opened.clear()
            taken.clear()
            await drain()

        async def drain() -> None:
            with trio.move_on_after(1):
                while True:
                    await trio.aclose_forcefully(await listener.accept())

        assert await at_every_step(one, check) > 4


@of("Streams.connect")
async def connecting(call: Spied) -> None:
    async with open_stream_pair() as pair, pair.beta.listener() as listener:
        opened: list[HostStream] = []

        async def one(step: int) -> None:
            opened.append(await call(pair.alpha, 2))

        async def check(step: int, cancelled: bool) -> None:
            assert bool(opened) is not cancelled
            living: list[HostStream] = []
            with trio.move_on_after(1):
                while True:
                    living.append(await listener.accept())
            for stream in living:
                try:
                    with trio.fail_after(1):
                        await stream.receive_some()
                except trio.BrokenResourceError:
                    assert cancelled
                except trio.TooSlowError:
                    assert opened
            for stream in (*opened, *living):
                await trio.aclose_forcefully(stream)
            opened.clear()

        assert await at_every_step(one, check) > 4


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
                refuses = call.name.endswith(("refuse", "__aexit__"))
                assert outcomes == [RefusedError if refuses else b"yes"]
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


def test_there_is_a_case_for_every_public_call() -> None:
    assert sorted(CALLS) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_cancelled_at_any_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = spy(name, CALLS)

    async def main(network: SimulatedNetwork) -> None:
        await CASES[name](call)

    # Every step of every task is one to be cancelled at: there must not be thousands of them.
    for module in (packet_builder, _stream_user):
        monkeypatch.setattr(module, "LOW_WATER", 4096)
    simulate(main)
    assert call.returned > 0
    assert call.cancelled > 0 or name.endswith("__aenter__")


def test_calls_are_full_checkpoints() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_answering() as (pair, _),
            pair.beta.messages() as messages,
        ):
            here, there = await connect(pair)
            with assert_checkpoints():
                await here.send_all(b"")
            with assert_checkpoints():
                await here.send_all(b"x")
            await trio.sleep(1)
            with assert_checkpoints():
                await there.receive_some()
            with assert_checkpoints():
                await here.send_eof()
            await trio.sleep(1)
            with assert_checkpoints():
                await there.receive_some()
            with assert_checkpoints():
                await there.aclose()
            with assert_checkpoints():
                await there.aclose()
            with assert_checkpoints():
                await pair.alpha.request(2, b"x")
            with assert_checkpoints():
                await pair.alpha.send(2, b"x")
            with assert_checkpoints():
                await messages.receive()
            with assert_checkpoints():
                await messages.aclose()

    simulate(main)


def test_nothing_is_left_in_the_core_by_calls_that_were_cancelled() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_answering() as (pair, _):

            async def ask(step: int) -> None:
                await pair.alpha.request(2, LARGE)

            async def check(step: int, cancelled: bool) -> None:
                await trio.sleep(1)
                for streams in (pair.alpha, pair.beta):
                    assert living(streams) == 0

            assert await at_every_step(ask, check) > 20

    def living(streams: Streams) -> int:
        (pump,) = streams._state.pumps  # pyright: ignore[reportPrivateUsage]
        connection = pump.conversation.connection
        assert pump.requests.held == pump.answers.held == 0
        return int(connection is not None and connection.has_streams)

    simulate(main)
