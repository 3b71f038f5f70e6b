"""Every public call on streams cancelled at each step: nothing is lost, nothing comes twice."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints

from knet_trio.streams import Streams, _stream_user
from knet_trio.streams._core import packet_builder
from knet_trio.testing import SimulatedNetwork
from tests.cancelling import at_every_step
from tests.public_calls import spy
from tests.streams import cancelled_requests, cancelled_streams
from tests.streams.cancelled_calls import CALLS, CASES, LARGE
from tests.streams.cancelled_requests import open_answering
from tests.streams.pairs import connect, simulate


def test_there_is_a_case_for_every_public_call() -> None:
    assert sorted(CALLS) == sorted(CASES)
    # They are in two modules.
    assert {cancelled_streams.sending, cancelled_requests.requesting} <= set(CASES.values())


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
