"""Streams of bytes between two hosts on the simulated network."""

from __future__ import annotations

import trio
from trio.testing import check_half_closeable_stream

from knet_trio.streams import HostStream
from knet_trio.testing import SimulatedNetwork
from tests.streams.pairs import connect, open_stream_pair, simulate


def test_what_trio_asks_of_streams() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:

            async def make() -> tuple[HostStream, HostStream]:
                return await connect(pair)

            async def make_clogged() -> tuple[HostStream, HostStream]:
                here, there = await connect(pair)
                for stream in (here, there):
                    await trio.testing.wait_all_tasks_blocked()
                    with trio.move_on_after(1):
                        while True:
                            await stream.send_all(bytes(1 << 16))
                return here, there

            await check_half_closeable_stream(make, make_clogged)

    simulate(main)
