"""Calls on streams, and those that open them, cancelled at each of their steps."""

from __future__ import annotations

import pytest
import trio

from knet_trio.streams import HostStream
from tests.cancelling import at_every_step
from tests.public_calls import Spied
from tests.streams.cancelled_calls import LARGE, nothing_wrong, of
from tests.streams.pairs import connect, open_stream_pair


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
