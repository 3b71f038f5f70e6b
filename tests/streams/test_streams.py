"""What opens and closes streams: connecting, listening, messages, and the end of it all."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import trio

from knet_trio import BusyError, InvalidArgumentError
from knet_trio.streams import RefusedError, StreamListener, Streams, open_streams
from knet_trio.streams._core.packet_builder import LOW_WATER
from knet_trio.streams._takers import GRACE
from knet_trio.streams.listener import BACKLOG
from knet_trio.streams.messages import QUEUED
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.streams.pairs import (
    CHANNEL,
    connect,
    open_handles,
    open_stream_pair,
    pumps_of,
    simulate,
)


def test_connecting_waits_until_the_other_side_has_started() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            open_streams(a, channel=CHANNEL) as alpha,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                async with await alpha.connect(2) as stream:
                    await stream.send_all(b"at last")

            nursery.start_soon(ask)
            await trio.sleep(10)
            async with open_streams(b, channel=CHANNEL) as beta:
                # It comes to listening a little later.
                await trio.sleep(GRACE / 2)
                async with beta.listener() as listener:
                    with trio.fail_after(0.1):
                        stream = await listener.accept()
                    assert await stream.receive_some() == b"at last"
                    assert stream.host_id == 1
                    await stream.aclose()

    simulate(main)


def test_who_does_not_listen_refuses() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            await trio.sleep(2 * GRACE)
            with pytest.raises(RefusedError, match=r"it has no listener\(\) open"):
                await pair.alpha.connect(2)
            async with pair.beta.listener() as listener:
                stream = await pair.alpha.connect(2)
                with pytest.raises(BusyError):
                    async with pair.beta.listener():
                        pass
                await listener.aclose()
                with pytest.raises(trio.ClosedResourceError):
                    await listener.accept()
                with pytest.raises(RefusedError, match="its listener was closed"):
                    await stream.receive_some()

    simulate(main)


def test_who_connects_to_nobody_is_told_after_patience() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, _), open_streams(a, channel=CHANNEL, patience=3) as alpha:
            started = trio.current_time()
            with pytest.raises(trio.BrokenResourceError, match=r"open_streams\(channel=7\)"):
                await alpha.connect(2)
            assert 2.9 < trio.current_time() - started < 4

    simulate(main)


def test_a_full_backlog_makes_others_wait() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            connected = 0

            async def ask() -> None:
                nonlocal connected
                await pair.alpha.connect(2)
                connected += 1

            async with pair.beta.listener() as listener:
                for _ in range(BACKLOG + 10):
                    nursery.start_soon(ask)
                await trio.sleep(1)
                assert connected == BACKLOG
                for _ in range(BACKLOG + 10):
                    await listener.accept()
                await trio.sleep(1)
                assert connected == BACKLOG + 10

    simulate(main)


def test_a_cancelled_connect_leaves_nothing() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.listener() as listener:
            network.conditions = Conditions(latency=0.1)
            for moment in (0.05, 0.15, 0.25, 0.35):
                with trio.move_on_after(moment):
                    await pair.alpha.connect(2)
                    # The last one had time enough.
                    assert moment > 0.2
            await trio.sleep(1)
            with trio.move_on_after(1):
                while True:
                    await (await listener.accept()).aclose()
            await trio.sleep(20)

    simulate(main)


def test_an_abort_is_told_and_an_end_is_not_taken_for_one() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            here, there = await connect(pair)
            with trio.move_on_after(1):
                await here.send_all(bytes(10_000_000))
            await here.aclose()
            with pytest.raises(trio.BrokenResourceError, match="host 1"):
                while await there.receive_some():
                    pass
            with pytest.raises(trio.BrokenResourceError):
                await there.send_all(b"anything")
            with pytest.raises(trio.ClosedResourceError):
                await here.receive_some()

    simulate(main)


def test_an_interrupt_in_the_middle_of_sending_is_no_end() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            here, there = await connect(pair)

            # So it gets to the main task.
            @trio.lowlevel.enable_ki_protection
            async def interrupt() -> None:
                await trio.sleep(1)
                signal.raise_signal(signal.SIGINT)

            nursery.start_soon(interrupt)
            with pytest.raises(KeyboardInterrupt):
                await here.send_all(bytes(10_000_000))
            nursery.start_soon(here.aclose)
            with pytest.raises(trio.BrokenResourceError, match="in the middle of send_all"):
                while await there.receive_some():
                    pass

    simulate(main)


def test_what_was_sent_arrives_though_nobody_waits_for_that() -> None:
    """Trio closes forcefully what a handler of ``serve_listeners`` leaves open."""

    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(loss=0.2)
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:

            async def handle(stream: trio.abc.Stream) -> None:
                await stream.send_all(bytes(300_000))

            async with pair.beta.listener() as listener:
                nursery.start_soon(trio.serve_listeners, handle, [listener])
                stream = await pair.alpha.connect(2)
                assert len(b"".join([part async for part in stream])) == 300_000
                nursery.cancel_scope.cancel()

    simulate(main)


def test_closing_waits_until_all_has_arrived() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            here, there = await connect(pair)
            data = bytes(2_000_000)
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    await trio.sleep(5)
                    got = 0
                    while part := await there.receive_some():
                        got += len(part)
                    assert got == len(data)

                nursery.start_soon(read)
                await here.send_all(data)
                await here.aclose()
                assert trio.current_time() > 5
            await here.aclose()

    simulate(main)


def test_closing_says_that_what_was_sent_may_not_have_arrived() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair(patience=3) as pair:
            here, _ = await connect(pair)
            network.cut("10.0.0.1", "10.0.0.2")
            await here.send_all(b"hello?")
            with pytest.raises(trio.BrokenResourceError, match="has not answered within patience"):
                await here.aclose()

    simulate(main)


def test_one_task_for_each_direction() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            here, _ = await connect(pair)
            nursery.start_soon(here.receive_some)
            nursery.start_soon(here.send_all, bytes(10_000_000))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await here.receive_some()
            with pytest.raises(trio.BusyResourceError):
                await here.send_all(b"")
            with pytest.raises(trio.BusyResourceError):
                await here.send_eof()
            nursery.cancel_scope.cancel()

    simulate(main)


def test_a_cancelled_receive_takes_nothing_and_a_cancelled_send_stays_usable() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            here, there = await connect(pair)
            got = bytearray()

            async def read() -> None:
                while True:
                    with trio.move_on_after(0.001):
                        part = await there.receive_some(1000)
                        got.extend(part)
                        if not part:
                            return

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for number in range(200):
                    await here.send_all(b"%3d," % number * 100)
                    await trio.sleep(0.0003)
                await here.send_eof()
            assert got == b"".join(b"%3d," % number * 100 for number in range(200))
            here, there = await connect(pair)
            with trio.move_on_after(1):
                await here.send_all(bytes(50_000_000))
            await here.send_eof()
            # What was handed over arrives, and no more.
            size = 0
            while part := await there.receive_some():
                size += len(part)
            assert LOW_WATER < size < 50_000_000

    simulate(main)


def test_messages_wait_for_room_in_the_queue() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            sent = 0

            async def send() -> None:
                nonlocal sent
                for number in range(QUEUED + 20):
                    await pair.alpha.send(2, b"%d" % number)
                    sent += 1

            async with pair.beta.messages() as messages:
                nursery.start_soon(send)
                await trio.sleep(10)
                assert sent == QUEUED
                for number in range(QUEUED + 20):
                    message = await messages.receive()
                    assert message.data == b"%d" % number
                    assert message.channel == CHANNEL
            await trio.sleep(2)
            with pytest.raises(RefusedError, match=r"it has no messages\(\) open"):
                await pair.alpha.send(2, b"one more")

    simulate(main)


def test_leaving_the_block_tells_the_others_and_lets_answers_arrive() -> None:
    async def main(network: SimulatedNetwork) -> None:
        network.conditions = Conditions(loss=0.2)
        async with open_handles() as (a, b), open_streams(a, channel=CHANNEL) as alpha:
            async with trio.open_nursery() as nursery:
                answers: list[bytes] = []

                async def ask() -> None:
                    answers.append(await alpha.request(2, b"the last one"))

                async with (
                    open_streams(b, channel=CHANNEL) as beta,
                    beta.listener() as listener,
                    beta.requests() as requests,
                ):
                    here = await alpha.connect(2)
                    await listener.accept()
                    nursery.start_soon(ask)
                    await (await requests.receive()).answer(bytes(1_000_000))
                b.open_channel(CHANNEL)
            assert answers == [bytes(1_000_000)]
            with pytest.raises(trio.BrokenResourceError, match="host 2"), trio.fail_after(5):
                await here.receive_some()

    simulate(main)


@pytest.mark.parametrize("reads_all", [True, False])
def test_leaving_the_block_waits_while_a_slow_reader_goes_on(reads_all: bool) -> None:
    """What waits for room in its window is sent too."""

    async def main(network: SimulatedNetwork) -> None:
        got = 0

        async def read(listener: StreamListener) -> None:
            nonlocal got
            stream = await listener.accept()
            while part := await stream.receive_some():
                got += len(part)
                await trio.sleep(0.1 if reads_all else 1000)

        async with (
            open_handles() as (a, b),
            open_streams(b, channel=CHANNEL) as beta,
            beta.listener() as listener,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(read, listener)
            async with open_streams(a, channel=CHANNEL) as alpha:
                stream = await alpha.connect(2)
                await stream.send_all(bytes(LOW_WATER - 1))
                await stream.send_eof()
                began = trio.current_time()
            if not reads_all:
                assert trio.current_time() - began < 2
                nursery.cancel_scope.cancel()
        assert (got == LOW_WATER - 1) is reads_all

    simulate(main)


def test_everything_that_waits_here_is_told_when_the_block_ends() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(b, channel=CHANNEL) as beta:
            async with trio.open_nursery() as nursery:
                ended: list[str] = []
                opened: list[Streams] = []

                async def note(wait: object, *arguments: object) -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await wait(*arguments)  # type: ignore[operator]
                    ended.append(str(wait))

                # Cancelled, it does not wait for what is not read.
                with trio.CancelScope() as scope:
                    async with (
                        open_streams(a, channel=CHANNEL) as alpha,
                        beta.listener() as listener,
                    ):
                        opened.append(alpha)
                        here = await alpha.connect(2)
                        await listener.accept()
                        nursery.start_soon(note, here.receive_some)
                        nursery.start_soon(note, here.send_all, bytes(10_000_000))
                        nursery.start_soon(note, alpha.request, 2, b"well?")
                        nursery.start_soon(note, alpha.send, 2, b"well?")
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()
            assert len(ended) == 4
            with pytest.raises(trio.ClosedResourceError):
                await opened[0].connect(2)

    simulate(main)


def test_a_bug_in_what_receives_ends_the_streams_and_not_the_handle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(b, channel=CHANNEL):
            with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
                async with open_streams(a, channel=CHANNEL) as alpha:
                    with pytest.raises(RefusedError):
                        await alpha.request(2, b"are you there?")
                    (pump,) = pumps_of(alpha)
                    monkeypatch.setattr(pump.conversation, "receive_many", break_down)
                    with trio.fail_after(60):
                        await alpha.request(2, b"and now?")
            back = a.open_channel(3)
            await b.open_channel(3).send(b"still here", to=1)
            assert (await back.receive()).data == b"still here"

    simulate(main)


def test_wrong_arguments() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, _):
            wrong: list[dict[str, Any]] = [
                {"patience": 0},
                {"max_size": 0},
                {"channel": 32},
                {"patience": "1"},
            ]
            for options in wrong:
                with pytest.raises(InvalidArgumentError):
                    async with open_streams(a, **options):
                        pass
            with pytest.raises(InvalidArgumentError, match="need a Handle"):
                async with open_streams(7):  # type: ignore[arg-type]
                    pass
            async with open_streams(a, channel=CHANNEL):
                with pytest.raises(BusyError):
                    async with open_streams(a, channel=CHANNEL):
                        pass
            async with open_streams(a) as streams:
                assert repr(streams) == "<Streams over channel 0 of host 1>"

    simulate(main)
