"""What is closed refuses, what is over is let go, and no call waits for what never comes."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import Channel
from knet_trio.streams import RefusedError, Streams, open_streams
from knet_trio.streams._core.limits import MAX_STREAMS
from knet_trio.streams._fair_queue import SWEPT
from knet_trio.testing import SimulatedNetwork
from tests.streams.pairs import (
    CHANNEL,
    StreamPair,
    connect,
    open_handles,
    open_stream_pair,
    pumps_of,
    simulate,
)

# In one packet, in several within the first credit, and more than that.
SIZES = (1, 10_000, 1_000_000)


@pytest.mark.parametrize("size", SIZES)
def test_takers_that_were_closed_in_their_block_refuse(size: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            pair.beta.requests() as requests,
            pair.beta.messages() as messages,
            pair.beta.listener() as listener,
        ):
            for taker in (requests, messages, listener):
                await taker.aclose()
            with trio.fail_after(5):
                with pytest.raises(RefusedError, match="takes no requests any more"):
                    await pair.alpha.request(2, bytes(size))
                with pytest.raises(RefusedError, match="takes no messages any more"):
                    await pair.alpha.send(2, bytes(size))
                with pytest.raises(RefusedError, match="its listener was closed"):
                    await pair.alpha.connect(2)
            await nothing_is_held(pair)

    simulate(main)


@pytest.mark.parametrize("delay", [0.001, 0.002, 0.003, 0.004, 0.006, 0.008])
def test_what_has_come_in_part_when_its_taker_ends_is_refused(delay: float) -> None:
    async def main(network: SimulatedNetwork) -> None:
        outcomes: list[str] = []

        async def one(call: Callable[[int, bytes], Awaitable[object]]) -> None:
            try:
                with trio.fail_after(60):
                    await call(2, bytes(100_000))
            except RefusedError:
                outcomes.append("refused")
            else:
                outcomes.append("done")

        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            async with pair.beta.requests(), pair.beta.messages():
                # There is a connection already.
                await pair.alpha.send(2, b"")
                nursery.start_soon(one, pair.alpha.request)
                nursery.start_soon(one, pair.alpha.send)
                await trio.sleep(delay)
            await trio.sleep(100)
            assert len(outcomes) == 2
            assert "refused" in outcomes
            await nothing_is_held(pair)

    simulate(main)


async def nothing_is_held(pair: StreamPair) -> None:
    await trio.sleep(1)
    for streams in (pair.alpha, pair.beta):
        (pump,) = pumps_of(streams)
        assert pump.requests.held == pump.answers.held == 0
        connection = pump.conversation.connection
        assert connection is not None
        assert not connection.has_streams


def test_who_waits_to_open_a_stream_is_told_when_the_block_ends() -> None:
    async def main(network: SimulatedNetwork) -> None:
        closed = 0

        async def ask(streams: Streams) -> None:
            nonlocal closed
            with pytest.raises(trio.ClosedResourceError), trio.fail_after(60):
                await streams.request(2, b"well?")
            closed += 1

        async with (
            open_handles() as (a, b),
            open_streams(b, channel=CHANNEL) as beta,
            beta.requests(),
            trio.open_nursery() as nursery,
        ):
            with trio.CancelScope() as scope:
                async with open_streams(a, channel=CHANNEL) as alpha:
                    for _ in range(MAX_STREAMS + 3):
                        nursery.start_soon(ask, alpha)
                    await trio.sleep(5)
                    scope.cancel()
                    await trio.sleep_forever()
        assert closed == MAX_STREAMS + 3

    simulate(main)


def test_streams_that_stay_open_leave_the_others_to_come_and_go() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            pair.beta.messages() as messages,
            trio.open_nursery() as nursery,
            pair.beta.requests() as requests,
        ):

            async def keep() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await pair.alpha.request(2, b"wait")

            kept = MAX_STREAMS - 3
            for _ in range(kept):
                nursery.start_soon(keep)
            taken = [await requests.receive() for _ in range(kept)]
            with trio.fail_after(60):
                for _ in range(20):
                    await pair.alpha.send(2, b"x")
                    await messages.receive()
            assert not any(request.cancelled for request in taken)

    simulate(main)


def test_requests_that_nobody_waits_for_are_let_go_though_they_are_not_answered() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.requests() as requests:
            for answers in (False, True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pair.alpha.request, 2, b"well?")
                    request = await requests.receive()
                    assert unanswered(requests) == 1
                    nursery.cancel_scope.cancel()
                await request.wait_cancelled()
                if answers:
                    with pytest.raises(trio.BrokenResourceError):
                        await request.answer(b"yes")
                assert unanswered(requests) == 0

    def unanswered(requests: object) -> int:
        return len(requests._unanswered)  # type: ignore[attr-defined]

    simulate(main)


def test_what_is_given_up_before_it_is_taken_does_not_pile_up() -> None:
    count = SWEPT + 500

    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            pair.beta.requests() as requests,
            pair.beta.messages() as messages,
            pair.beta.listener() as listener,
        ):

            async def give_up() -> None:
                with trio.move_on_after(0.01):
                    await pair.alpha.request(2, b"")
                with trio.move_on_after(0.01):
                    await pair.alpha.send(2, b"x")
                with trio.move_on_after(0.01):
                    await pair.alpha.connect(2)
                    await trio.sleep_forever()

            for _ in range(count):
                await give_up()
            await trio.sleep(1)
            assert requests._queue.count(1) < SWEPT  # pyright: ignore[reportPrivateUsage]
            waiting = messages._waiting[1]  # pyright: ignore[reportPrivateUsage]
            assert len(waiting) < SWEPT
            assert listener._queue.count(1) < SWEPT  # pyright: ignore[reportPrivateUsage]
            # What is not given up is there.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.alpha.request, 2, b"well?")
                nursery.start_soon(pair.alpha.send, 2, b"last")
                request = await requests.receive()
                assert request.data == b"well?"
                await request.answer(b"yes")
                while (await messages.receive()).data != b"last":
                    pass
            (pump,) = pumps_of(pair.beta)
            assert pump.requests.held == 0

    simulate(main)


def test_buffers_are_free_when_a_call_has_ended() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.requests() as requests:
            here, there = await connect(pair)
            data = bytearray(5_000_000)
            with trio.move_on_after(1) as scope:
                await here.send_all(data)
            assert scope.cancelled_caught
            data.append(0)
            await trio.aclose_forcefully(there)
            with pytest.raises(trio.BrokenResourceError) as stream_error:
                await here.send_all(data)
            data.append(1)
            await requests.aclose()
            with pytest.raises(RefusedError) as request_error:
                await pair.alpha.request(2, data)
            data.append(2)
            with pytest.raises(RefusedError) as message_error:
                await pair.alpha.send(2, data)
            data.append(3)
            assert all((stream_error, request_error, message_error))

    simulate(main)


def test_views_of_any_layout() -> None:
    table = memoryview(bytearray(range(200)))
    views = {
        "every second": table[::2],
        "backwards": table[::-1],
        "nothing of every second": table[0:0:2],
        "two dimensions": table.cast("B", [10, 20]),
        "numbers": memoryview(array("i", range(5))),
        "no numbers": memoryview(array("i")),
    }

    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.messages() as messages:
            here, there = await connect(pair)
            for name, view in views.items():
                await pair.alpha.send(2, view)
                assert (await messages.receive()).data == view.tobytes(), name
                await here.send_all(view)
                await here.send_all(b"!")
                got = b""
                while not got.endswith(b"!"):
                    got += await there.receive_some()
                assert got == view.tobytes() + b"!", name

    simulate(main)


def test_a_request_that_finds_no_room_goes_when_there_is_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.messages():
            await pair.alpha.send(2, b"first")
            await trio.sleep(1)

            def full(*_: object, **__: object) -> None:
                raise trio.WouldBlock

            monkeypatch.setattr(Channel, "send_nowait", full)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.alpha.send, 2, b"second")
                await wait_all_tasks_blocked()
                monkeypatch.undo()
            # There and back; no timer for losses had to run out.
            assert trio.current_time() - began < 0.004

    simulate(main)


def test_packets_have_checksums_as_soon_as_clear_ones_are_allowed() -> None:
    """Where every packet is authenticated they have none; who allows others changes that."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair(encrypted=True) as pair, pair.beta.requests() as requests:

            async def answer() -> None:
                async for request in requests:
                    await request.answer(request.data)

            sent: list[bytes] = []
            pump = pair.alpha._state.pump(2)  # pyright: ignore[reportPrivateUsage]
            transmit = pump._transmit  # pyright: ignore[reportPrivateUsage]

            def watch(packets: Sequence[bytes]) -> None:
                sent.extend(packets)
                transmit(packets)

            pump._transmit = watch  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                for allows in (False, True, False):
                    pair.a.allow_clear_traffic = allows
                    sent.clear()
                    assert await pair.alpha.request(2, b"well?") == b"well?"
                    assert sent
                    assert all(any(packet[:4]) is allows for packet in sent)
                nursery.cancel_scope.cancel()

    simulate(main)
