"""One stream, and one host, holds up no other."""

from __future__ import annotations

import secrets

import pytest
import trio

from knet_trio import Channel
from knet_trio.streams import HostStream, Streams, open_streams
from knet_trio.streams._core import wire, wire_reading, wire_writing
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.streams.pairs import CHANNEL, connect, open_handles, open_stream_pair, simulate
from tests.streams.test_faults import copy


async def send_for_ever(stream: HostStream) -> None:
    while True:
        await stream.send_all(bytes(100_000))


async def count_bytes(stream: HostStream, counts: list[int], place: int) -> None:
    while part := await stream.receive_some():
        counts[place] += len(part)


def test_a_stream_that_nobody_reads_holds_up_itself() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            stuck = [await connect(pair) for _ in range(20)]
            for here, _ in stuck:
                nursery.start_soon(send_for_ever, here)
            await trio.sleep(5)
            here, there = await connect(pair)
            with trio.fail_after(1):
                await copy(here, there, bytes(1_000_000))
                await pair_asks(pair.alpha, pair.beta)
            # It goes on as soon as it is read.
            _, slow = stuck[0]
            got = 0
            with trio.fail_after(1):
                while got < 5_000_000:
                    got += len(await slow.receive_some())
            assert not pair.a.hosts[2].links[0].history[1:]
            nursery.cancel_scope.cancel()

    async def pair_asks(alpha: Streams, beta: Streams) -> None:
        async with beta.messages() as messages:
            await alpha.send(2, b"quick")
            assert (await messages.receive()).data == b"quick"

    simulate(main)


def test_streams_share_a_link_fairly() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            counts = [0, 0]
            network.conditions = Conditions(rate=2_000_000)
            for place in range(2):
                here, there = await connect(pair)
                nursery.start_soon(send_for_ever, here)
                nursery.start_soon(count_bytes, there, counts, place)
            await trio.sleep(10)
            assert min(counts) > 0.4 * sum(counts)
            assert sum(counts) > 0.8 * 2_000_000 * 10
            nursery.cancel_scope.cancel()

    simulate(main)


def test_a_thousand_streams_to_one_host() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            echoed = 0

            async def echo(stream: HostStream) -> None:
                async with stream:
                    async for part in stream:
                        await stream.send_all(part)

            async def ask(number: int) -> None:
                nonlocal echoed
                async with await pair.alpha.connect(2) as stream:
                    data = b"%d" % number * 1000
                    await stream.send_all(data)
                    await stream.send_eof()
                    got = b""
                    async for part in stream:
                        got += part
                    assert got == data
                    echoed += 1

            async with pair.beta.listener() as listener:
                nursery.start_soon(trio.serve_listeners, echo, [listener])
                async with trio.open_nursery() as asking:
                    for number in range(1500):
                        asking.start_soon(ask, number)
                assert echoed == 1500
                nursery.cancel_scope.cancel()

    simulate(main)


@pytest.mark.parametrize("kind", ["bytes", "streams", "acknowledgements"])
def test_a_hostile_member_gets_its_own_bounds(kind: str) -> None:
    """Host 2 speaks the protocol, and then breaks it; host 1 goes on."""

    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_handles() as (a, b),
            trio.open_nursery() as nursery,
            open_streams(a, channel=CHANNEL) as alpha,
            alpha.listener() as listener,
        ):
            raw = b.open_channel(CHANNEL)
            if kind == "bytes":
                for size in (1, 31, 32, 33, 100, 1000, 60_000):
                    await raw.send(secrets.token_bytes(size), to=1)
                await trio.sleep(1)
                assert sum(alpha.refused().values()) >= 7
                nursery.cancel_scope.cancel()
                return
            mine = secrets.randbits(63) | 1
            theirs = await handshake(raw, mine)
            if kind == "streams":
                for number in range(3000):
                    frame = wire_writing.write_data_head(2 * number, 1, 0, 0, last=False)
                    await raw.send(packet(mine, theirs, number, frame), to=1)
                await trio.sleep(1)
                # What was accepted before is gone with the connection.
                assert alpha.refused()["streams_exceeded"] == 1
            else:
                frame = wire_writing.write_ack([(0, 1000)], 0)
                await raw.send(packet(mine, theirs, 0, frame), to=1)
                await trio.sleep(1)
                assert alpha.refused()["not_sent"] == 1
            with trio.move_on_after(0.5) as scope:
                await listener.accept()
            assert scope.cancelled_caught
            nursery.cancel_scope.cancel()

    async def handshake(raw: Channel, mine: int) -> int:
        hello = wire_writing.write_packet(wire.StreamPacketKind.HELLO, mine, 0, 0, (), checked=True)
        await raw.send(hello, to=1)
        while True:
            message = await raw.receive()
            header = wire_reading.read_header_untrusted(message.data)
            if header.receiver == mine:
                return header.sender

    def packet(mine: int, theirs: int, number: int, frame: bytes) -> bytes:
        kind = wire.StreamPacketKind.FRAMES
        return wire_writing.write_packet(kind, mine, theirs, number, (frame,), checked=True)

    simulate(main)


def test_slow_readers_cost_other_channels_and_heartbeats_nothing() -> None:
    """The same is measured without them and with them."""

    async def main(network: SimulatedNetwork, stuck: int) -> tuple[float, int]:
        network.conditions = Conditions(latency=0.001, rate=5_000_000)
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            for _ in range(stuck):
                here, there = await connect(pair)
                nursery.start_soon(send_for_ever, here)
                nursery.start_soon(read_slowly, there)
            sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            # By now their windows are full.
            await trio.sleep(10)
            link = pair.a.hosts[2].links[0]
            before = link.status.stats.rx_pong_packets
            longest = 0.0
            for number in range(200):
                began = trio.current_time()
                await sender.send(b"%d" % number, to=2)
                assert (await receiver.receive()).data == b"%d" % number
                longest = max(longest, trio.current_time() - began)
                await trio.sleep(0.05)
            pongs = link.status.stats.rx_pong_packets - before
            assert not link.history[1:]
            nursery.cancel_scope.cancel()
        return longest, pongs

    async def read_slowly(stream: HostStream) -> None:
        async for _ in stream:
            await trio.sleep(30)

    alone, pongs_alone = simulate(lambda network: main(network, 0))
    beside, pongs_beside = simulate(lambda network: main(network, 50))
    # Less than a packet of the largest size takes.
    assert beside - alone < 1500 / 5_000_000 + 0.0001
    assert abs(pongs_beside - pongs_alone) <= 1


def test_a_stream_that_begins_later_gets_its_share() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            counts = [0, 0]
            network.conditions = Conditions(rate=2_000_000)
            here, there = await connect(pair)
            nursery.start_soon(send_for_ever, here)
            nursery.start_soon(count_bytes, there, counts, 0)
            await trio.sleep(5)
            # The first one has a large window by now.
            late_here, late_there = await connect(pair)
            nursery.start_soon(send_for_ever, late_here)
            nursery.start_soon(count_bytes, late_there, counts, 1)
            counts[0] = 0
            await trio.sleep(5)
            assert min(counts) > 0.4 * sum(counts)
            nursery.cancel_scope.cancel()

    simulate(main)


def test_a_thousand_streams_that_are_open_at_once() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:

            async def echo(stream: HostStream) -> None:
                async with stream:
                    async for part in stream:
                        await stream.send_all(part)

            async with pair.beta.listener() as listener:
                nursery.start_soon(trio.serve_listeners, echo, [listener])
                streams = [await pair.alpha.connect(2) for _ in range(1000)]
                for turn in range(2):
                    for number, stream in enumerate(streams):
                        await stream.send_all(b"%d %d." % (turn, number))
                    for number, stream in enumerate(streams):
                        wanted, got = b"%d %d." % (turn, number), b""
                        while not got.endswith(b"."):
                            got += await stream.receive_some()
                        assert got == wanted
                for stream in streams:
                    await stream.aclose()
                nursery.cancel_scope.cancel()

    simulate(main)
