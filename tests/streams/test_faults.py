"""What streams promise, on networks that lose, repeat, delay, damage and cut."""

from __future__ import annotations

import hashlib
import random

import pytest
import trio

from knet_trio import EventsLost, Handle, LinkPolicy
from knet_trio.streams import HostRequest, HostStream, Streams, open_streams
from knet_trio.streams._core.limits import GREETINGS
from knet_trio.streams._core.wire import StreamPacketKind
from knet_trio.streams._core.wire_reading import read_header_untrusted
from knet_trio.testing import Conditions, Interface, SimulatedNetwork
from tests.streams.pairs import (
    CHANNEL,
    connect,
    open_handles,
    open_stream_pair,
    pumps_of,
    simulate,
)

LOSSY = Conditions(loss=0.3, reorder=0.2, duplicate=0.1)


async def send_file(stream: HostStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


async def read_file(stream: HostStream) -> bytes:
    data = bytearray()
    while part := await stream.receive_some():
        data += part
    return bytes(data)


async def copy(here: HostStream, there: HostStream, data: bytes) -> None:
    """Send ``data`` both ways at once, and check that it arrives."""
    async with trio.open_nursery() as nursery:
        for one, other in ((here, there), (there, here)):
            nursery.start_soon(send_file, one, data)

            async def check(stream: HostStream = other) -> None:
                got = await read_file(stream)
                assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()

            nursery.start_soon(check)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions(loss=0.02),
        LOSSY,
        Conditions(loss=0.3, burst=10),
        Conditions(reorder=0.5, reorder_delay=0.1),
        Conditions(duplicate=0.5),
        Conditions(corrupt=0.05, checksum=False),
        Conditions(rate=1_000_000, queue=30_000),
        Conditions(latency=0.2, jitter=0.1),
    ],
    ids=str,
)
def test_files_arrive(conditions: Conditions) -> None:
    async def main(network: SimulatedNetwork) -> None:
        data = random.randbytes(200_000)
        async with open_stream_pair() as pair:
            network.conditions = conditions
            here, there = await connect(pair)
            await copy(here, there, data)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(here.aclose)
                nursery.start_soon(there.aclose)

    simulate(main)


@pytest.mark.parametrize("encrypted", [False, True])
def test_files_arrive_while_the_mtu_shrinks(encrypted: bool) -> None:
    async def main(network: SimulatedNetwork) -> None:
        data = random.randbytes(3_000_000)
        async with open_stream_pair(encrypted=encrypted) as pair:
            network.conditions = Conditions(rate=1_000_000)
            here, there = await connect(pair)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, here, there, data)
                await trio.sleep(1)
                before = pair.a.data_mtu
                for address in ("10.0.0.1", "10.0.0.2"):
                    network.set_interface(address, Interface(mtu=600))
            assert pair.a.data_mtu < 600 < before

    simulate(main)


@pytest.mark.parametrize("policy", LinkPolicy)
def test_a_cut_link_costs_a_pause(policy: LinkPolicy) -> None:
    async def main(network: SimulatedNetwork) -> float:
        piece = random.randbytes(10_000)
        async with open_stream_pair(links=2, policy=policy) as pair:
            network.conditions = Conditions(latency=0.002)
            here, there = await connect(pair)
            gaps: list[float] = []

            async def send() -> None:
                for _ in range(300):
                    await here.send_all(piece)
                    await trio.sleep(0.01)
                await here.send_eof()

            async def watch() -> None:
                got, last = bytearray(), trio.current_time()
                while part := await there.receive_some():
                    gaps.append(trio.current_time() - last)
                    last = trio.current_time()
                    got += part
                assert got == 300 * piece

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(watch)
                await trio.sleep(1)
                network.cut("10.0.0.1", "10.0.0.2")
            return max(gaps)

    pause = simulate(main)
    # The pong timeout is a second.
    assert pause < (0.05 if policy is LinkPolicy.ACTIVE else 1.0)


def test_a_partition_shorter_than_patience_costs_a_pause() -> None:
    async def main(network: SimulatedNetwork) -> None:
        data = random.randbytes(2_000_000)
        async with open_stream_pair() as pair:
            network.conditions = Conditions(rate=1_000_000)
            here, there = await connect(pair)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, here, there, data)
                await trio.sleep(1)
                network.cut("10.0.0.1", "10.0.0.2")
                await trio.sleep(25)
                network.heal()

    simulate(main)


def test_a_partition_longer_than_patience_breaks_streams_and_new_ones_work() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair:
            here, there = await connect(pair)
            network.cut("10.0.0.1", "10.0.0.2")
            started = trio.current_time()
            with pytest.raises(trio.BrokenResourceError, match="host 2 has not answered"):
                await here.receive_some()
            assert 28 < trio.current_time() - started < 32
            with pytest.raises(trio.BrokenResourceError, match="no link to it works"):
                await here.send_all(b"more")
            await trio.sleep(5)
            network.heal()
            with pytest.raises(trio.BrokenResourceError):
                await there.receive_some()
            here, there = await connect(pair)
            await copy(here, there, b"again")

    simulate(main)


def test_a_host_that_is_gone_for_long_leaves_the_others_as_they_are() -> None:
    """Nothing was under way with it, so nobody waits for an error; and it may come back."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, pair.beta.messages() as messages:
            await pair.alpha.send(2, b"before")
            await messages.receive()
            await trio.sleep(1)
            network.cut("10.0.0.1", "10.0.0.2")
            await trio.sleep(2000)
            for streams in (pair.alpha, pair.beta):
                (pump,) = pumps_of(streams)
                assert pump.conversation.connection is None
            network.heal()
            await pair.a.hosts[2].wait_reachable()
            await pair.b.hosts[1].wait_reachable()
            await pair.alpha.send(2, b"after")
            assert (await messages.receive()).data == b"after"

    simulate(main)


def test_a_restart_of_the_other_side_is_found_at_once() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(a, channel=CHANNEL) as alpha:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, b)
                here = await alpha.connect(2)
                await here.send_all(b"one")
                assert await here.receive_some() == b"one"
                # It crashes: nobody is told.
                network.cut("10.0.0.1", "10.0.0.2")
                nursery.cancel_scope.cancel()
            await trio.sleep(0.1)
            network.heal()
            async with trio.open_nursery() as nursery:
                await nursery.start(serve, b)
                started = trio.current_time()
                with pytest.raises(trio.BrokenResourceError, match="restarted"):
                    await here.receive_some()
                assert trio.current_time() - started < 1
                here = await alpha.connect(2)
                await here.send_all(b"two")
                assert await here.receive_some() == b"two"
                nursery.cancel_scope.cancel()

    async def serve(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
        async with open_streams(handle, channel=CHANNEL) as streams:
            task_status.started()
            async with streams.listener() as listener:
                await trio.serve_listeners(echo, [listener])

    async def echo(stream: HostStream) -> None:
        async for part in stream:
            await stream.send_all(part)

    simulate(main)


def test_requests_are_done_once_each_whatever_the_network_does() -> None:
    async def main(network: SimulatedNetwork) -> None:
        done: list[bytes] = []

        async def serve(streams: Streams) -> None:
            async with streams.requests() as requests, trio.open_nursery() as nursery:
                async for request in requests:
                    nursery.start_soon(handle, request)

        async def handle(request: HostRequest) -> None:
            done.append(request.data)
            await trio.sleep(random.random())
            await request.answer(request.data[::-1])

        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(serve, pair.beta)
            network.conditions = Conditions(loss=0.3, reorder=0.3, duplicate=0.5)
            questions = [random.randbytes(random.randrange(1, 5000)) for _ in range(100)]

            async def ask(question: bytes) -> None:
                assert await pair.alpha.request(2, question) == question[::-1]

            async with trio.open_nursery() as asking:
                for question in questions:
                    asking.start_soon(ask, question)
            assert sorted(done) == sorted(questions)
            nursery.cancel_scope.cancel()

    simulate(main)


def test_messages_arrive_once_and_in_order() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            network.conditions = Conditions(loss=0.3, reorder=0.3, duplicate=0.5)
            sent = [b"%d" % number for number in range(100)]

            async def send() -> None:
                for data in sent:
                    await pair.alpha.send(2, data)

            async with pair.beta.messages() as messages:
                nursery.start_soon(send)
                for data in sent:
                    message = await messages.receive()
                    assert (message.source, message.data) == (1, data)

    simulate(main)


def test_hosts_are_greeted_again_when_news_of_them_was_lost() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(a, channel=CHANNEL):
            raw = b.open_channel(CHANNEL)
            await trio.sleep(10)
            # Nobody has answered, and nothing is to be sent.
            greetings = 0
            while greetings < GREETINGS:
                await raw.receive()
                greetings += 1
            with trio.move_on_after(10) as scope:
                await raw.receive()
            assert scope.cancelled_caught
            a._runtime.context.publish(EventsLost(1))  # pyright: ignore[reportPrivateUsage]
            with trio.fail_after(1):
                message = await raw.receive()
            assert read_header_untrusted(message.data).kind is StreamPacketKind.HELLO

    simulate(main)
