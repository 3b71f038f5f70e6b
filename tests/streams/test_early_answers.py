"""Who has its answer sends no more of the question."""

from __future__ import annotations

import pytest
import trio

from knet_trio.streams import open_streams
from knet_trio.streams._core.limits import INITIAL_CREDIT, MAX_STREAMS
from knet_trio.streams._core.wire import (
    SENDING,
    Code,
    DataFrame,
    ResetFrame,
    StreamFrame,
    StreamKind,
)
from knet_trio.streams._core.wire_writing import write_data_head, write_streams
from knet_trio.testing import SimulatedNetwork
from tests.streams.pairs import CHANNEL, open_handles, pumps_of, simulate
from tests.streams.puppet import Puppet


def answer(frame: StreamFrame) -> list[bytes]:
    """Answer the first bytes of anything; let another stream be opened when one has ended."""
    if isinstance(frame, DataFrame) and not frame.offset:
        return [write_data_head(frame.stream + 1, frame.kind, 0, 0, last=True)]
    if isinstance(frame, ResetFrame):
        return [write_streams(MAX_STREAMS + frame.stream // 2 + 1)]
    return []


@pytest.mark.parametrize("kind", [StreamKind.REQUEST, StreamKind.MESSAGE])
@pytest.mark.parametrize("size", [10, INITIAL_CREDIT + 1, 100_000, 8_000_000])
def test_an_answer_before_the_end_of_the_question_ends_both(kind: StreamKind, size: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            open_streams(a, channel=CHANNEL) as alpha,
            trio.open_nursery() as nursery,
        ):
            puppet = Puppet(b.open_channel(CHANNEL), answer)
            await puppet.greet()
            nursery.start_soon(puppet.run)
            # More than may be open at once.
            count = MAX_STREAMS + 10 if size == INITIAL_CREDIT + 1 else 3
            for _ in range(count):
                with trio.fail_after(5):
                    if kind is StreamKind.REQUEST:
                        assert await alpha.request(2, bytes(size)) == b""
                    else:
                        await alpha.send(2, bytes(size))
            await trio.sleep(1)
            (pump,) = pumps_of(alpha)
            connection = pump.conversation.connection
            assert connection is not None
            assert not connection.streams
            assert connection.held == 0
            assert pump.is_idle
            resets = [frame for frame in puppet.frames if isinstance(frame, ResetFrame)]
            assert len(resets) == (count if size > INITIAL_CREDIT else 0)
            assert all((one.halves, one.code) == (SENDING, Code.CANCELLED) for one in resets)
            # Nothing is left that would be kept alive.
            before = puppet.packets
            await trio.sleep(10)
            assert puppet.packets == before
            nursery.cancel_scope.cancel()

    simulate(main)
