"""A handle ends, and leaves nothing, in whatever state it is and in whatever way it is left."""

from __future__ import annotations

import pytest
import trio

from knet_trio import Direction, Drop, FilterPacket, FilterResult, open_handle
from tests.cancelling import nothing_left
from tests.cluster import PATIENCE, open_pair
from tests.shutdown.ways import Leave, State, every_state, every_way, left_by


@every_state
@every_way
async def test_it_ends(state: State, leave: Leave) -> None:
    with nothing_left():
        async with left_by(leave) as scope, state():
            await leave(scope)


@pytest.mark.parametrize("direction", list(Direction))
async def test_it_ends_when_its_filter_cancels_it(direction: Direction) -> None:
    """On the way in the filter is called by a task of the handle itself."""
    calls = 0

    def end_it(packet: FilterPacket) -> FilterResult:
        nonlocal calls
        calls += packet.direction is direction
        if packet.direction is direction:
            scope.cancel()
        return Drop()

    with nothing_left(), trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        async with open_pair(filter=end_it) as pair:
            to, sender = (1, pair.b) if direction is Direction.RX else (2, pair.a)
            other = sender.open_channel(0)
            if direction is Direction.RX:
                await other.send(b"x", to=[to])
            else:
                await other.send(b"x")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert calls == 1


async def test_its_filter_may_close_channels_and_take_itself_away() -> None:
    def close(packet: FilterPacket) -> FilterResult:
        del packet
        channel.close()
        pair.a.set_filter(None)
        return Drop()

    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_pair(filter=close) as pair:
            channel = pair.a.open_channel(0)
            await channel.send(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await channel.send(b"y")
            await pair.a.open_channel(0).send(b"z")


async def test_one_handle_ends_in_the_block_of_another() -> None:
    """Which goes on, and so does one of the same id that comes after."""
    with nothing_left(), trio.fail_after(PATIENCE):
        async with open_handle(1) as outer:
            for _ in range(2):
                async with open_handle(1) as inner:
                    inner.add_host(2)
                with pytest.raises(trio.ClosedResourceError):
                    inner.add_host(3)
            outer.add_host(2)
