"""What a program has handed over for a host, and has not arrived, is bounded."""

from __future__ import annotations

import trio

from knet_trio import LinkPolicy, open_handle
from knet_trio.streams import HostStream, Streams, open_streams
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.limits import MAX_HELD, MIN_HELD
from knet_trio.streams._core.packet_builder import LOW_WATER
from knet_trio.streams._core.wire import DataFrame, StreamFrame
from knet_trio.streams._core.wire_writing import write_accept, write_credit
from knet_trio.testing import SimulatedNetwork
from tests.streams.pairs import (
    CHANNEL,
    connect,
    join,
    open_handles,
    open_stream_pair,
    pumps_of,
    simulate,
)
from tests.streams.puppet import Puppet
from tests.streams.test_faults import copy

STREAMS = 400


def accept(frame: StreamFrame) -> list[bytes]:
    """Take a stream, and let as much be sent on it as there may be."""
    if isinstance(frame, DataFrame) and not frame.offset:
        return [write_accept(frame.stream + 1), write_credit(frame.stream + 1, 2**60)]
    return []


async def send_for_ever(stream: HostStream) -> None:
    while True:
        await stream.send_all(bytes(3_000_000))


def connection_with(streams: Streams, host_id: int) -> Connection:
    (pump,) = [pump for pump in pumps_of(streams) if pump.host_id == host_id]
    connection = pump.conversation.connection
    assert connection is not None
    return connection


def check_held(connection: Connection, streams: int) -> None:
    """Check that what is held is what is counted, and that it is within the bounds."""
    halves = [stream.sending for stream in connection.streams.values()]
    held = sum(half.written - half.base for half in halves if not half.is_over)
    assert connection.held == held
    assert held <= MAX_HELD + streams * MIN_HELD
    assert sum(half.unsent for half in halves) <= held


def test_a_member_that_never_acknowledges_holds_up_itself() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            open_handle(3) as c,
            open_streams(a, channel=CHANNEL) as alpha,
            open_streams(c, channel=CHANNEL) as gamma,
            trio.open_nursery() as nursery,
        ):
            await join(a, c, policy=LinkPolicy.PASSIVE)
            puppet = Puppet(b.open_channel(CHANNEL), accept)
            await puppet.greet()
            nursery.start_soon(puppet.run)
            streams = [await alpha.connect(2) for _ in range(STREAMS)]
            puppet.acknowledges = False
            for stream in streams[:-1]:
                nursery.start_soon(send_for_ever, stream)
            await trio.sleep(5)
            connection = connection_with(alpha, 2)
            check_held(connection, STREAMS)
            # The room is used, and what is left is still enough for another one to begin.
            assert connection.held > MAX_HELD / 2
            with trio.fail_after(1):
                await streams[-1].send_all(bytes(MIN_HELD // 2))
            check_held(connection, STREAMS)
            async with gamma.listener() as listener:
                here = await alpha.connect(3)
                there = await listener.accept()
                with trio.fail_after(1):
                    await copy(here, there, bytes(3_000_000))
            nursery.cancel_scope.cancel()

    simulate(main)


def test_streams_that_are_not_read_leave_room_for_others() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            async with pair.beta.listener() as listener:
                stuck = [
                    (await pair.alpha.connect(2), await listener.accept()) for _ in range(STREAMS)
                ]
            for here, _ in stuck:
                nursery.start_soon(send_for_ever, here)
            await trio.sleep(5)
            connection = connection_with(pair.alpha, 2)
            check_held(connection, STREAMS)
            assert connection.held > MAX_HELD / 2
            # Much more than it has room for at once.
            here, there = await connect(pair)
            with trio.fail_after(2):
                await copy(here, there, bytes(5_000_000))
            # What was stuck goes on when it is read, and gives its room back when it ends.
            _, slow = stuck[0]
            got = 0
            with trio.fail_after(2):
                while got < 5_000_000:
                    got += len(await slow.receive_some())
            nursery.cancel_scope.cancel()
        # It has ended.
        assert connection.held == 0

    simulate(main)


def test_one_stream_has_all_the_room_it_can_use() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            here, _there = await connect(pair)
            nursery.start_soon(send_for_ever, here)
            await trio.sleep(5)
            connection = connection_with(pair.alpha, 2)
            (stream,) = connection.streams.values()
            assert stream.sending.unsent >= LOW_WATER
            check_held(connection, 1)
            # Given up, it holds nothing.
            nursery.cancel_scope.cancel()
        assert connection.held == 0

    simulate(main)
