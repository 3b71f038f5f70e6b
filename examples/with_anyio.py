"""A program written with anyio, on its Trio backend: ``python examples/with_anyio.py``.

There, anyio's task groups and cancel scopes are Trio's, so a handle lives in them as in Trio's own.
What a handle and its channels raise is Trio's too: ``trio.EndOfChannel``, not anyio's EndOfStream.
"""

from __future__ import annotations

import anyio
import anyio.from_thread
import anyio.to_thread

from knet_trio import Channel, open_handle


async def answer(channel: Channel) -> None:
    """Answer every question but one."""
    async for message in channel:
        if message.data != b"where?":
            await channel.send(b"who wants to know " + message.data, to=[message.source])


async def ask(channel: Channel, question: bytes) -> None:
    """Ask, and wait for the answer for half a second."""
    with anyio.move_on_after(0.5) as scope:
        await channel.send(question)
        print((await channel.receive()).data.decode())
    if scope.cancelled_caught:
        print(f"no answer to {question.decode()}")


def ask_in_thread(channel: Channel) -> None:
    """Ask from a worker thread."""
    anyio.from_thread.run(ask, channel, b"why?")


async def main() -> None:
    """Have alpha ask beta some questions."""
    here, there = ("127.0.0.1", 5417), ("127.0.0.2", 5417)
    async with (
        open_handle(1) as alpha,
        open_handle(2) as beta,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(answer, beta.open_channel(0))
        await alpha.add_host(2).add_link(0, here, there, ping_interval=0.1)
        await beta.add_host(1).add_link(0, there, here, ping_interval=0.1)
        with anyio.fail_after(30):
            await alpha.get_host(2).wait_reachable()
            await beta.get_host(1).wait_reachable()
        channel = alpha.open_channel(0)
        await ask(channel, b"what?")
        await ask(channel, b"where?")
        await anyio.to_thread.run_sync(ask_in_thread, channel)
        tasks.cancel_scope.cancel()


# With asyncio, anyio's default, open_handle raises OutsideTrioError.
anyio.run(main, backend="trio")
