"""Requests: answers, refusals, errors, cancellation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from knet_trio import InvalidArgumentError, UnknownHostError
from knet_trio.streams import (
    HandlerError,
    HostRequest,
    RefusedError,
    RequestReceiver,
    Streams,
    open_streams,
)
from knet_trio.streams._collecting import SHARE
from knet_trio.streams._core.wire import StreamKind, StreamPacketKind
from knet_trio.streams._core.wire_reading import read_header_untrusted
from knet_trio.streams._core.wire_writing import write_data_head, write_packet
from knet_trio.streams._streams import DEFAULT_MAX_SIZE
from knet_trio.streams._takers import GRACE
from knet_trio.testing import Conditions, Interface, SimulatedNetwork
from tests.streams.pairs import (
    CHANNEL,
    StreamPair,
    open_handles,
    open_stream_pair,
    pumps_of,
    simulate,
)


@asynccontextmanager
async def open_quiet_pair() -> AsyncGenerator[StreamPair]:
    """Streams whose first second is over, so that what nobody takes is refused at once."""
    async with open_stream_pair() as pair:
        await trio.sleep(2 * GRACE)
        yield pair


def test_an_answer() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            trio.open_nursery() as nursery,
            pair.beta.requests() as requests,
        ):

            async def answer() -> None:
                async for request in requests:
                    assert request.source == 1
                    await request.answer(request.data.upper())

            nursery.start_soon(answer)
            assert await pair.alpha.request(2, b"hello") == b"HELLO"
            assert await pair.alpha.request(pair.a.hosts[2], bytearray(b"hi")) == b"HI"
            assert await pair.alpha.request("2", memoryview(b"")) == b""
            nursery.cancel_scope.cancel()

    simulate(main)


def test_large_questions_and_answers_all_at_once() -> None:
    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(latency=0.001)
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            data = bytes(range(256)) * (4 * SHARE // 256 // 8)

            async def answer(request: HostRequest) -> None:
                assert request.data == data
                await request.answer(data)

            async def ask(asking: trio.Nursery) -> None:
                assert await pair.alpha.request(2, data) == data

            async with pair.beta.requests() as requests:

                async def serve() -> None:
                    async for request in requests:
                        nursery.start_soon(answer, request)

                nursery.start_soon(serve)
                # Together they are more than the share of a host.
                async with trio.open_nursery() as asking:
                    for _ in range(4):
                        asking.start_soon(ask, asking)
                pump = pair.beta._state.pumps[0]  # pyright: ignore[reportPrivateUsage]
                assert pump.requests.held == 0
                assert pair.alpha._state.pumps[0].answers.held == 0  # pyright: ignore[reportPrivateUsage]
                nursery.cancel_scope.cancel()

    simulate(main)


def test_what_is_too_large_is_refused_on_either_side() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            open_streams(a, channel=CHANNEL, max_size=100_000) as alpha,
            open_streams(b, channel=CHANNEL, max_size=10_000) as beta,
            beta.requests(),
        ):
            with pytest.raises(InvalidArgumentError, match="max_size"):
                await alpha.request(2, bytes(100_001))
            with pytest.raises(RefusedError, match="more than 10000 bytes"):
                await alpha.request(2, bytes(100_000))

    simulate(main)


def test_an_answer_that_is_too_large_is_no_refusal_by_who_gave_it() -> None:
    """It was done, so nobody may ask for it again as after a RefusedError."""

    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            open_streams(a, channel=CHANNEL, max_size=1000) as alpha,
            open_streams(b, channel=CHANNEL) as beta,
            trio.open_nursery() as nursery,
            beta.requests() as requests,
        ):

            async def answer() -> None:
                async for request in requests:
                    # Some have gone as a whole by the time they are refused.
                    with suppress(RefusedError):
                        await request.answer(bytes(int(request.data)))

            nursery.start_soon(answer)
            for size in (1001, 20_000, 5_000_000):
                with pytest.raises(trio.BrokenResourceError, match="more than 1000 bytes") as error:
                    await alpha.request(2, b"%d" % size)
                assert type(error.value) is trio.BrokenResourceError
            assert await alpha.request(2, b"1000") == bytes(1000)
            nursery.cancel_scope.cancel()

    simulate(main)


def test_refusals_and_errors_say_so() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_quiet_pair() as pair, trio.open_nursery() as nursery:
            with pytest.raises(RefusedError, match=r"refused by host 2: it has no requests\(\)"):
                await pair.alpha.request(2, b"anybody?")

            async def answer() -> None:
                async with pair.beta.requests() as requests:
                    request = await requests.receive()
                    await request.refuse("not today")
                    with pytest.raises(trio.ClosedResourceError):
                        await request.answer(b"after all")
                    with pytest.raises(ZeroDivisionError):
                        async with await requests.receive():
                            print(1 / 0)
                    async with await requests.receive():
                        pass
                    await requests.receive()

            nursery.start_soon(answer)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RefusedError, match="not today"):
                await pair.alpha.request(2, b"please")
            with pytest.raises(HandlerError, match="ZeroDivisionError: division by zero"):
                await pair.alpha.request(2, b"divide")
            # What its handler did is not known.
            with pytest.raises(HandlerError, match="the request was not answered"):
                await pair.alpha.request(2, b"forget me")
            # The block ends before it is answered.
            with pytest.raises(HandlerError, match="it takes no requests any more"):
                await pair.alpha.request(2, b"too late")

    simulate(main)


def test_reasons_are_strings() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            pair.beta.requests() as requests,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                with pytest.raises(RefusedError, match="after all"):
                    await pair.alpha.request(2, b"well?")

            nursery.start_soon(ask)
            request = await requests.receive()
            with pytest.raises(InvalidArgumentError, match="a reason is a string, not int"):
                await request.refuse(404)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgumentError, match="a reason is a string, not bytes"):
                request.fail(b"no")  # type: ignore[arg-type]
            await request.refuse("after all")

    simulate(main)


def test_an_exception_out_of_the_loop_reaches_those_who_ask() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_quiet_pair() as pair, trio.open_nursery() as nursery:

            async def answer() -> None:
                with pytest.raises(KeyError):
                    async with pair.beta.requests() as requests:
                        async for request in requests:
                            raise KeyError(request.data)

            nursery.start_soon(answer)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(HandlerError, match="KeyError: b'what'"):
                await pair.alpha.request(2, b"what")

    simulate(main)


def test_a_handler_that_is_cancelled_before_it_begins_has_failed() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            trio.open_nursery() as nursery,
            pair.beta.requests() as requests,
        ):

            async def answer() -> None:
                request = await requests.receive()
                with trio.CancelScope() as scope:
                    scope.cancel()
                    async with request:
                        raise AssertionError
                assert scope.cancelled_caught

            nursery.start_soon(answer)
            with trio.fail_after(1), pytest.raises(HandlerError, match="it was cancelled"):
                await pair.alpha.request(2, b"please")

    simulate(main)


def test_cancelling_reaches_the_handler() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.requests() as requests:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.alpha.request, 2, b"never mind")
                request = await requests.receive()
                assert not request.cancelled
                nursery.cancel_scope.cancel()
            with trio.fail_after(0.1):
                await request.wait_cancelled()
            with pytest.raises(trio.BrokenResourceError, match="cancelled by host 1"):
                await request.answer(b"too late")
            # One that is cancelled before it is taken is not begun.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.alpha.request, 2, b"nor this")
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            await trio.sleep(0.1)
            with trio.move_on_after(1) as scope:
                await requests.receive()
            assert scope.cancelled_caught

    simulate(main)


def test_a_request_whose_host_is_gone_raises_after_patience() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair(patience=5.0) as pair,
            pair.beta.requests() as requests,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                with pytest.raises(trio.BrokenResourceError, match="has not answered within"):
                    await pair.alpha.request(2, b"hello?")

            nursery.start_soon(ask)
            request = await requests.receive()
            network.cut("10.0.0.1", "10.0.0.2")
            started = trio.current_time()
            await request.wait_cancelled()
            assert trio.current_time() - started < 7

    simulate(main)


def test_a_restart_after_a_request_does_not_do_it_again() -> None:
    async def main(network: SimulatedNetwork) -> None:
        done: list[bytes] = []

        async def serve(streams: Streams, count: int) -> None:
            async with streams.requests() as requests:
                for _ in range(count):
                    request = await requests.receive()
                    done.append(request.data)
                    await trio.sleep_forever()

        async with (
            open_handles() as (a, b),
            open_streams(a, channel=CHANNEL) as alpha,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                with pytest.raises(trio.BrokenResourceError, match="restarted"):
                    await alpha.request(2, b"once")

            async def serve_for(seconds: float) -> None:
                async with (
                    open_streams(b, channel=CHANNEL) as beta,
                    trio.open_nursery() as serving,
                ):
                    serving.start_soon(serve, beta, 1)
                    await trio.sleep(seconds)
                    assert done == [b"once"]
                    network.cut("10.0.0.1", "10.0.0.2")
                    serving.cancel_scope.cancel()

            nursery.start_soon(ask)
            await serve_for(1)
            await trio.sleep(0.1)
            network.heal()
            await serve_for(5)

    simulate(main)


def test_packets_that_are_replayed_do_nothing_again() -> None:
    """Host 2 has no streams but packets, which it sends again and again."""

    async def main(network: SimulatedNetwork) -> None:
        done: list[bytes] = []

        async def serve(requests: RequestReceiver) -> None:
            async for request in requests:
                done.append(request.data)
                with suppress(trio.BrokenResourceError):
                    await request.answer(b"answer")

        async with (
            open_handles() as (a, b),
            trio.open_nursery() as nursery,
            open_streams(a, channel=CHANNEL) as alpha,
            alpha.requests() as requests,
        ):
            nursery.start_soon(serve, requests)
            raw = b.open_channel(CHANNEL)
            sent: list[bytes] = []
            for life in range(3):
                mine = 1 + (life << 40)
                hello = write_packet(StreamPacketKind.HELLO, mine, 0, 0, (), checked=True)
                await raw.send(hello, to=1)
                theirs = 0
                while not theirs:
                    header = read_header_untrusted((await raw.receive()).data)
                    theirs = header.sender if header.receiver == mine else 0
                data = b"life %d" % life
                frame = write_data_head(0, StreamKind.REQUEST, 0, len(data), last=True) + data
                kind = StreamPacketKind.FRAMES
                for number in range(20):
                    # Once more with another number, as it is sent again, and twice as it was.
                    packet = write_packet(kind, mine, theirs, number, (frame,), checked=True)
                    sent.append(packet)
                    for _ in range(2):
                        await raw.send(packet, to=1)
                # The answer has long been sent by then.
                await trio.sleep(1)
                for packet in sent:
                    await raw.send(packet, to=1)
                await trio.sleep(1)
            assert done == [b"life 0", b"life 1", b"life 2"]
            assert alpha.refused()["duplicate"] > 60
            assert alpha.refused()["no_connection"] >= 60
            nursery.cancel_scope.cancel()

    simulate(main)


def test_the_largest_answer() -> None:
    async def main(network: SimulatedNetwork) -> None:
        answer = bytes(range(256)) * (DEFAULT_MAX_SIZE // 256)

        async def serve(streams: Streams) -> None:
            async with streams.requests() as requests:
                request = await requests.receive()
                with pytest.raises(InvalidArgumentError, match="max_size"):
                    await request.answer(answer + b"!")
                await request.answer(answer)
                await request.wait_cancelled()

        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(serve, pair.beta)
            assert await pair.alpha.request(2, b"all of it") == answer
            assert [pump.answers.held for pump in pumps_of(pair.alpha)] == [0]

    simulate(main, interface=Interface(mtu=65535))


def test_hosts_that_there_are_not() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            with pytest.raises(UnknownHostError):
                await pair.alpha.request(3, b"hello")
            with pytest.raises(InvalidArgumentError, match="this host itself"):
                pair.a.add_host(1)
                await pair.alpha.request(1, b"hello")
            with pytest.raises(InvalidArgumentError, match="encode it first"):
                await pair.alpha.request(2, "hello")  # type: ignore[arg-type]

    simulate(main)
