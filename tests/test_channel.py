"""Channels: what is sent arrives, once, whole, and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest
import trio

from knet_trio import (
    Broadcast,
    CompressConfig,
    CryptoConfig,
    DestinationError,
    Drop,
    DropCause,
    DroppedByFilterError,
    FilterError,
    FilterPacket,
    FilterResult,
    ForwardingDisabledError,
    HostDownError,
    InvalidArgumentError,
    LinkPolicy,
    Message,
    NoFilterError,
    Unicast,
    UnknownHostError,
    open_handle,
)
from tests.cluster import KEY, PATIENCE, connect, open_pair, receive, wait_dropped, wait_for
from tests.drops import counted
from tests.holding import held

SIZES = [1, 100, 1446, 5000, 65536]


@pytest.mark.parametrize("crypto", [None, CryptoConfig(key=KEY)], ids=["clear", "encrypted"])
async def test_messages_of_every_size_arrive_whole_and_in_order(
    crypto: CryptoConfig | None,
) -> None:
    async with open_pair(crypto=crypto) as pair:
        there, back = pair.a.open_channel(3), pair.b.open_channel(3)
        messages = [bytes([size % 251]) * size for size in SIZES]
        await there.send_many(messages)
        assert await receive(back, len(SIZES)) == messages
        for message in messages:
            await back.send(message)
        assert await receive(there, len(SIZES)) == messages


async def test_a_message_tells_its_source_and_channel() -> None:
    async with open_pair() as pair:
        sender = pair.a.open_channel()
        receiver = pair.b.open_channel()
        assert (sender.channel, receiver.channel) == (0, 0)
        await sender.send(bytearray(b"hello"))
        with trio.fail_after(PATIENCE):
            assert await receiver.receive() == Message(b"hello", 1, 0)


@pytest.mark.parametrize("policy", list(LinkPolicy))
async def test_every_policy_delivers_each_message_once(policy: LinkPolicy) -> None:
    async with open_pair(links=2, policy=policy) as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        wanted = [b"%d" % number for number in range(500)]
        await sender.send_many(wanted)
        got = await receive(receiver, len(wanted))
        # Round robin may overtake itself: the links are independent of each other.
        assert sorted(got) == sorted(wanted)
        await sender.send(b"last")
        assert await receive(receiver, 1) == [b"last"]
        used = [link.status.stats.tx_data_packets > 0 for link in pair.a.get_host(2).links.values()]
        assert (
            used
            == {
                LinkPolicy.PASSIVE: [True, False],
                LinkPolicy.ACTIVE: [True, True],
                LinkPolicy.ROUND_ROBIN: [True, True],
            }[policy]
        )


async def test_receive_many_takes_all_that_is_there_up_to_the_limit() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send_many([b"1", b"2", b"3", b"4"])
        assert await receive(receiver, 1) == [b"1"]
        with trio.fail_after(PATIENCE):
            got = await receiver.receive_many(2)
            while len(got) < 3:
                got += await receiver.receive_many()
        assert [message.data for message in got] == [b"2", b"3", b"4"]
        with pytest.raises(trio.WouldBlock):
            receiver.receive_nowait()
        with pytest.raises(InvalidArgumentError):
            await receiver.receive_many(0)


async def test_send_nowait_would_block_when_the_handle_is_behind() -> None:
    async with open_pair() as pair:
        sender = pair.a.open_channel(0)
        receiver = pair.b.open_channel(0, receive_buffer=100_000)
        sent = 0
        with held(pair.a), pytest.raises(trio.WouldBlock):
            while True:
                sender.send_nowait(b"%d" % sent)
                sent += 1
        assert await receive(receiver, sent) == [b"%d" % number for number in range(sent)]


async def test_a_slow_reader_loses_the_newest_and_stalls_nobody() -> None:
    async with open_pair() as pair:
        slow_tx, slow = pair.a.open_channel(0), pair.b.open_channel(0, receive_buffer=10)
        quick_tx, quick = pair.a.open_channel(1), pair.b.open_channel(1)
        await slow_tx.send_many([b"%d" % number for number in range(30)])
        await wait_dropped(pair.b, DropCause.CHANNEL_FULL, 20)
        await quick_tx.send(b"through")
        assert await receive(quick, 1) == [b"through"]
        assert await receive(slow, 10) == [b"%d" % number for number in range(10)]


async def test_what_arrives_for_a_channel_that_is_not_open_is_counted() -> None:
    async with open_pair() as pair:
        await pair.a.open_channel(7).send(b"nobody listens")
        await wait_dropped(pair.b, DropCause.NO_CHANNEL)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 65537, "text", 5], ids=["empty", "long", "str", "int"]
)
async def test_a_message_that_cannot_be_is_refused_before_anything_is_sent(data: bytes) -> None:
    async with open_handle(1) as handle:
        channel = handle.open_channel()
        with pytest.raises(InvalidArgumentError, match="a message"):
            await channel.send(data)
        with pytest.raises(InvalidArgumentError):
            await channel.send_many([b"fine", data])
        with pytest.raises(InvalidArgumentError):
            channel.send_nowait(data)


@pytest.mark.parametrize("to", [[], 2, "2", [70000], [-1], [True], ["2"]])
async def test_a_list_of_hosts_that_cannot_be_is_refused(to: list[int]) -> None:
    async with open_handle(1) as handle:
        channel = handle.open_channel()
        with pytest.raises(InvalidArgumentError):
            await channel.send(b"x", to=to)


async def test_sending_to_a_host_that_the_handle_does_not_have_is_refused() -> None:
    async with open_handle(1) as handle:
        channel = handle.open_channel()
        with pytest.raises(UnknownHostError, match="add_host") as caught:
            await channel.send(b"x", to=[9])
        assert isinstance(caught.value, LookupError)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("how", ["close", "aclose"])
async def test_closing_wakes_whoever_waits_to_receive(how: str) -> None:
    async with open_handle(1) as handle:
        channel = handle.open_channel(0)
        woken: list[str] = []

        async def wait(name: str, receiving: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receiving()
            woken.append(name)

        async def iterate() -> None:
            async for message in channel:
                pytest.fail(f"{message} came from nowhere")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "one", channel.receive)
            nursery.start_soon(wait, "many", channel.receive_many)
            nursery.start_soon(wait, "all", iterate)
            await trio.testing.wait_all_tasks_blocked()
            if how == "close":
                channel.close()
            else:
                await channel.aclose()
        assert sorted(woken) == ["all", "many", "one"]


async def test_a_closed_channel_says_so_and_frees_its_number() -> None:
    async with open_handle(1) as handle:
        channel = handle.open_channel(4)
        await channel.aclose()
        channel.close()
        with pytest.raises(trio.ClosedResourceError):
            await channel.send(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()
        assert handle.open_channel(4).channel == 4
        assert "closed" in repr(channel)


async def test_what_a_closed_channel_held_is_counted() -> None:
    async with open_pair() as pair:
        channel = pair.b.open_channel(0)
        await pair.a.open_channel(0).send_many([b"1", b"2", b"3"])
        assert await receive(channel, 1) == [b"1"]
        await wait_for(lambda: len(channel._queue) == 2)  # pyright: ignore[reportPrivateUsage]
        channel.close()
        assert counted(pair.b.statistics().drops) == {DropCause.NO_CHANNEL: 2}


async def test_a_channel_ends_with_its_handle_after_what_has_arrived() -> None:
    async with open_pair() as pair:
        channel = pair.b.open_channel(0)
        await pair.a.open_channel(0).send_many([b"1", b"2"])
        assert await receive(channel, 1) == [b"1"]
        await trio.testing.wait_all_tasks_blocked(0.01)
    left = [message.data async for message in channel]
    assert left == [b"2"]
    with pytest.raises(trio.EndOfChannel):
        await channel.receive()
    with pytest.raises(trio.ClosedResourceError):
        await channel.send(b"too late")


async def test_what_was_sent_goes_out_before_the_handle_ends() -> None:
    async with open_handle(2) as b:
        async with open_handle(1) as a:
            await connect(a, b)
            channel = b.open_channel(0)
            wanted = [b"%d" % number for number in range(300)]
            await a.open_channel(0).send_many(wanted)
        assert await receive(channel, 300) == wanted


# Filters.


async def test_the_filter_says_who_gets_a_message_and_on_which_channel() -> None:
    asked: list[FilterPacket] = []

    def filter(packet: FilterPacket) -> FilterResult:
        asked.append(packet)
        answers: dict[bytes, FilterResult] = {
            b"all": Broadcast(),
            b"two": Unicast([2], channel=5),
            b"no": Drop(),
        }
        return answers[packet.data]

    async with open_pair(filter=filter) as pair:
        sender = pair.a.open_channel(0)
        zero, five = pair.b.open_channel(0), pair.b.open_channel(5)
        await sender.send_many([b"no", b"two", b"all"])
        assert await receive(zero, 1) == [b"all"]
        assert await receive(five, 1) == [b"two"]
        assert counted(pair.a.statistics().drops) == {DropCause.FILTER_DROP: 1}
        assert [packet.this_host for packet in asked] == [1, 1, 1]
        assert {packet.source for packet in asked} == {1}


async def test_the_filter_is_asked_for_what_arrives_too() -> None:
    def filter(packet: FilterPacket) -> FilterResult:
        answers: dict[bytes, FilterResult] = {
            b"moved": Broadcast(channel=9),
            b"mine": Unicast([1]),
            b"other": Unicast([7]),
            b"drop": Drop(),
        }
        return answers[packet.data]

    async with open_pair(filter=filter) as pair:
        zero, nine = pair.a.open_channel(0), pair.a.open_channel(9)
        sender = pair.b.open_channel(0)
        for data in (b"other", b"drop", b"unknown", b"mine", b"moved"):
            await sender.send(data, to=[1])
        assert await receive(nine, 1) == [b"moved"]
        assert await receive(zero, 1) == [b"mine"]
        assert counted(pair.a.statistics().drops) == {
            DropCause.NOT_FOR_THIS_HOST: 1,
            DropCause.FILTER_DROP: 1,
            DropCause.FILTER_ERROR: 1,
        }


async def test_to_takes_the_place_of_the_filter() -> None:
    def filter(packet: FilterPacket) -> FilterResult:
        raise AssertionError("nobody asked you")

    async with open_pair(filter=filter) as pair:
        receiver = pair.b.open_channel(0)
        await pair.a.open_channel(0).send(b"straight", to=[2, 2])
        assert await receive(receiver, 1) == [b"straight"]


async def test_a_failing_filter_costs_its_message_and_nothing_more() -> None:
    def filter(packet: FilterPacket) -> FilterResult:
        if packet.data == b"bad":
            raise ZeroDivisionError
        return Broadcast()

    async with open_pair(filter=filter) as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send_many([b"bad", b"good"])
        assert await receive(receiver, 1) == [b"good"]
        assert counted(pair.a.statistics().drops) == {DropCause.FILTER_ERROR: 1}
        with pytest.raises(FilterError) as caught:
            await sender.send_sync(b"bad")
        assert caught.value.errno == errno.EFAULT
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        pair.a.set_filter(None)
        await sender.send(b"bad")
        assert await receive(receiver, 1) == [b"bad"]


# send_sync, by its manual page.


async def test_send_sync_delivers_without_the_queues() -> None:
    async with open_pair() as pair:
        receiver = pair.b.open_channel(0)
        await pair.a.open_channel(0).send_sync(b"now", to=[2])
        assert await receive(receiver, 1) == [b"now"]


@pytest.mark.parametrize(
    ("answer", "error", "number"),
    [
        (Broadcast(), DestinationError, errno.E2BIG),
        (Unicast([2, 3]), DestinationError, errno.E2BIG),
        (Unicast([]), DestinationError, errno.EINVAL),
        (Drop(), DroppedByFilterError, errno.ENOMSG),
        (Unicast([3]), HostDownError, errno.EHOSTDOWN),
        (Unicast([99]), UnknownHostError, errno.EINVAL),
        (Unicast("nobody"), UnknownHostError, errno.ENOENT),
        (Unicast([2], channel=99), FilterError, errno.EFAULT),
        ("nonsense", FilterError, errno.EFAULT),
    ],
)
async def test_send_sync_raises_what_is_wrong_with_the_destination(
    answer: FilterResult, error: type[Exception], number: int
) -> None:
    async with open_pair(filter=lambda _: answer) as pair:
        pair.a.add_host(3)
        with pytest.raises(error) as caught:
            await pair.a.open_channel(0).send_sync(b"x")
        assert getattr(caught.value, "errno", None) == number


async def test_send_sync_wants_to_be_told_where_to() -> None:
    async with open_pair() as pair:
        with pytest.raises(NoFilterError) as caught:
            await pair.a.open_channel(0).send_sync(b"x")
        assert caught.value.errno == errno.ENETDOWN


async def test_nothing_passes_while_forwarding_is_off() -> None:
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        await sender.send(b"before")
        await pair.a.set_forwarding(False)
        assert not pair.a.forwarding
        await sender.send(b"lost")
        await receiver.send(b"lost as well")
        await wait_dropped(pair.a, DropCause.FORWARDING_DISABLED, 2)
        with pytest.raises(ForwardingDisabledError) as caught:
            await sender.send_sync(b"x", to=[2])
        assert caught.value.errno == errno.ECANCELED
        await pair.a.set_forwarding(True)
        await sender.send(b"after")
        assert await receive(receiver, 2) == [b"before", b"after"]


# Compression.


@pytest.mark.parametrize("model", ["zlib", "lz4", "lz4hc", "lzma", "bzip2", "zstd"])
async def test_compressed_messages_arrive_as_they_were_sent(model: str) -> None:
    text = b"The quick brown knet jumps over the lazy link. " * 200
    async with open_pair() as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        pair.a.set_compress(CompressConfig(model))
        await sender.send_many([text, b"short", os.urandom(2000)])
        await sender.send_sync(text, to=[2])
        got = await receive(receiver, 4)
        assert sorted(map(len, got)) == sorted([len(text), 5, 2000, len(text)])
        assert got.count(text) == 2
        there, here = pair.a.statistics(), pair.b.statistics()
        # What did not become smaller was tried too, and goes as it was.
        assert (there.tx_compressed_packets, here.rx_compressed_packets) == (3, 2)
        assert (there.tx_uncompressed_packets, there.tx_unable_to_compress) == (2, 1)
        assert here.rx_compressed_original_bytes == 2 * len(text)
        assert there.tx_compressed_original_bytes == 2 * len(text) + 2000
        in_vain = there.tx_compressed_size_bytes - here.rx_compressed_size_bytes
        assert here.rx_compressed_size_bytes < len(text)
        assert 2000 <= in_vain < 3000
        assert here.rx_compress_time_max is not None
        with pytest.raises(InvalidArgumentError):
            pair.a.set_compress(CompressConfig(model, level=2**31))
        pair.a.set_compress(None)
        await sender.send(text)
        assert await receive(receiver, 1) == [text]
        assert pair.a.statistics().tx_compressed_packets == 3
        # Without compression nothing is counted as not compressed.
        assert pair.a.statistics().tx_uncompressed_packets == 2


async def test_the_threshold_is_the_longest_that_is_left_alone() -> None:
    compress = CompressConfig("zlib", threshold=50)
    async with open_pair() as pair:
        receiver = pair.b.open_channel(0)
        pair.a.set_compress(compress)
        await pair.a.open_channel(0).send_many([bytes(50), bytes(51)])
        assert await receive(receiver, 2) == [bytes(50), bytes(51)]
        assert pair.a.statistics().tx_compressed_packets == 1
