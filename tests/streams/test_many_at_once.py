"""A host that has a lot at once: it costs few packets, short turns, and bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import pytest
import trio

from knet_trio import Channel
from knet_trio.streams import RefusedError, open_streams
from knet_trio.streams import _collecting as collecting
from knet_trio.streams._core.limits import INITIAL_CREDIT, MAX_STREAMS
from knet_trio.streams._core.wire import StreamKind, StreamPacketKind
from knet_trio.streams._core.wire_reading import read_header_untrusted
from knet_trio.streams._core.wire_writing import write_data_head, write_packet
from knet_trio.streams._fair_queue import SWEPT
from knet_trio.testing import Interface, SimulatedNetwork
from tests.streams.pairs import CHANNEL, open_handles, open_stream_pair, pumps_of, simulate

WAITING = 1000


def test_closing_what_many_wait_for_takes_few_packets() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair() as pair, trio.open_nursery() as nursery:
            refused = failed = 0

            async def ask(number: int) -> None:
                nonlocal refused, failed
                call = (pair.alpha.request, pair.alpha.send)[number % 2]
                try:
                    await call(2, b"well?")
                except RefusedError:
                    refused += 1
                except trio.BrokenResourceError:
                    failed += 1

            async with pair.beta.requests() as requests, pair.beta.messages():
                for number in range(WAITING):
                    nursery.start_soon(ask, number)
                await trio.sleep(1)
                for _ in range(WAITING // 4):
                    await requests.receive()
                (pump,) = pumps_of(pair.beta)
                connection = pump.conversation.connection
                assert connection is not None
                before = connection.builder.next_number
            await trio.sleep(0.1)
            # 64 messages are in the queue.
            assert (refused, failed) == (WAITING // 4 + WAITING // 2 - 64, WAITING // 4)
            assert connection.builder.next_number - before < 60

    simulate(main)


async def start_again_and_again(raw: Channel, kind: StreamKind, size: int) -> None:
    """As a host does that opens as many streams as it may, all there at once, and starts again."""
    for life in range(5):
        mine = 1 + ((10 * kind + life) << 40)
        await raw.send(write_packet(StreamPacketKind.HELLO, mine, 0, 0, (), checked=True), to=1)
        theirs = 0
        while not theirs:
            header = read_header_untrusted((await raw.receive()).data)
            theirs = header.sender if header.receiver == mine else 0
        for number in range(MAX_STREAMS):
            frame = write_data_head(2 * number, kind, 0, size, last=True) + bytes(size)
            packet = write_packet(
                StreamPacketKind.FRAMES, mine, theirs, number, (frame,), checked=True
            )
            await raw.send(packet, to=1)
        await trio.sleep(0.01)


@pytest.mark.parametrize("size", [0, INITIAL_CREDIT])
def test_what_a_host_leaves_that_starts_again_and_again_is_bounded(size: int) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(a, channel=CHANNEL) as alpha:
            raw = b.open_channel(CHANNEL)
            kinds: Sequence[StreamKind] = list(StreamKind) if not size else [StreamKind.REQUEST]
            takers = alpha._state.takers  # pyright: ignore[reportPrivateUsage]
            for kind in kinds:
                await start_again_and_again(raw, kind, size)
            held = takers._held  # pyright: ignore[reportPrivateUsage]
            assert held is not None
            assert 0 < sum(map(len, held.values())) <= SWEPT
            async with (
                alpha.listener() as listener,
                alpha.requests() as requests,
                alpha.messages() as messages,
            ):
                for kind in kinds:
                    await start_again_and_again(raw, kind, size)
                assert listener._queue.count(2) <= SWEPT  # pyright: ignore[reportPrivateUsage]
                assert requests._queue.count(2) <= SWEPT  # pyright: ignore[reportPrivateUsage]
                assert len(messages._waiting.get(2, ())) <= SWEPT  # pyright: ignore[reportPrivateUsage]
                (pump,) = pumps_of(alpha)
                share = pump.requests
                assert share.held <= collecting.SHARE + size
                assert len(share._incomplete) <= MAX_STREAMS  # pyright: ignore[reportPrivateUsage]

    simulate(main)


def test_what_is_large_is_put_together_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 8_000_000
    turn = 0
    longest = 0

    class Counted(BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            nonlocal turn, longest
            turn += len(data)
            longest = max(longest, turn)
            return super().write(data)

    class Turns(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal turn
            turn = 0

    monkeypatch.setattr(collecting, "BytesIO", Counted)

    async def main(network: SimulatedNetwork) -> None:
        data = bytes(range(250)) * (size // 250)
        trio.lowlevel.add_instrument(Turns())
        async with (
            open_stream_pair() as pair,
            pair.beta.requests() as requests,
            pair.beta.messages() as messages,
            trio.open_nursery() as nursery,
        ):

            async def answer() -> None:
                request = await requests.receive()
                assert request.data == data
                await request.answer(data)
                assert (await messages.receive()).data == data

            nursery.start_soon(answer)
            assert await pair.alpha.request(2, data) == data
            await pair.alpha.send(2, data)

    simulate(main, interface=Interface(mtu=65535))
    assert 200_000 < longest < 600_000


def test_a_request_that_is_put_together_while_the_block_is_closed_is_refused() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with (
            open_stream_pair() as pair,
            pair.beta.requests() as requests,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                with pytest.raises(RefusedError, match="takes no requests"):
                    await pair.alpha.request(2, bytes(5_000_000))

            async def take() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await requests.receive()

            nursery.start_soon(ask)
            await trio.sleep(1)
            nursery.start_soon(take)
            # It has begun.
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            assert not requests._queue.count(1)  # pyright: ignore[reportPrivateUsage]
            requests.close()
            (pump,) = pumps_of(pair.beta)
            await trio.sleep(1)
            assert pump.requests.held == 0

    simulate(main, interface=Interface(mtu=65535))
