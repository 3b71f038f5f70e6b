"""What is not a message: pings and statuses, filters, forwarding, and the sequence numbers."""

from __future__ import annotations

import errno
from typing import Final

import pytest
import trio

from knet_trio import (
    AclEntry,
    Broadcast,
    Channel,
    Direction,
    DropCause,
    FilterPacket,
    FilterResult,
    Unicast,
    open_handle,
)
from tests.drops import counted_messages
from tests.interop.c_node import CNode
from tests.interop.pairs import (
    OURS,
    PING_INTERVAL,
    POLL,
    RECEIVE_BUFFER,
    THEIRS,
    Ours,
    check_message,
    exchange,
    numbered,
    on_loopback,
    open_pair,
    our_link,
    wait_for,
)
from tests.ports import free_udp_port

LIMIT: Final = 60.0
LOCALHOST: Final = "127.0.0.1"
CHUNK: Final = 500
# Every number but 0, after which they begin again.
NUMBERS: Final = 65535
NOBODY: Final = 9


# Pings, and what is known by them.


async def test_every_ping_is_answered() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair:
            await wait_for(lambda: our_link(pair, 0).tx_ping_packets >= 20)
            await wait_for(lambda: our_link(pair, 0).rx_ping_packets >= 5)
            while True:
                status = await pair.c.link_status(OURS, 0)
                theirs, ours = status["stats"], our_link(pair, 0)
                # None is lost here, so between two pings all have been seen by both.
                if (
                    ours.tx_ping_packets == theirs["rx_ping_packets"] == ours.rx_pong_packets
                    and ours.rx_ping_packets == ours.tx_pong_packets == theirs["rx_pong_packets"]
                ):
                    break
                await trio.sleep(POLL)
            assert theirs["tx_pong_packets"] == ours.tx_ping_packets


async def test_both_sides_say_how_the_link_is() -> None:
    with trio.fail_after(LIMIT):
        setup = on_loopback()
        async with open_pair(setup) as pair:
            await exchange(pair, [b"one", b"two"])
            theirs = await pair.c.wait_link(
                OURS, 0, lambda status: status["stats"]["latency_samples"] >= 3
            )
            (our_host, our_port), (their_host, their_port) = setup.ours[0], setup.theirs[0]
            assert (theirs["enabled"], theirs["connected"], theirs["dynconnected"]) == (1, 1, 0)
            assert (theirs["src_ipaddr"], theirs["src_port"]) == (their_host, str(their_port))
            assert (theirs["dst_ipaddr"], theirs["dst_port"]) == (our_host, str(our_port))
            # Microseconds. A round trip longer than the pong timeout is not counted at all.
            stats = theirs["stats"]
            assert 0 < stats["latency_min"] <= stats["latency_max"] <= setup.pong_timeout * 1e6
            assert stats["latency_min"] <= theirs["latency"] <= stats["latency_max"]
            assert (await pair.c.host_status(OURS))["reachable"] == 1

            status = pair.ours.host.links[0].status
            assert (status.enabled, status.connected, status.dynconnected) == (True, True, False)
            assert (status.src_ipaddr, status.src_port) == setup.ours[0]
            assert (status.dst_ipaddr, status.dst_port) == setup.theirs[0]
            assert status.stats.latency_min is not None
            assert status.stats.latency_max is not None
            assert 0 < status.stats.latency_min <= status.latency <= status.stats.latency_max
            assert status.stats.latency_max <= setup.pong_timeout
            assert (status.stats.tx_data_packets, status.stats.rx_data_packets) == (2, 2)
            assert (stats["tx_data_packets"], stats["rx_data_packets"]) == (2, 2)
            assert (stats["tx_data_bytes"], stats["rx_data_bytes"]) == (
                status.stats.rx_data_bytes,
                status.stats.tx_data_bytes,
            )


@pytest.mark.parametrize("dynamic", ["ours", "theirs"])
async def test_a_dynamic_link_learns_where_its_peer_is(dynamic: str) -> None:
    with trio.fail_after(LIMIT):
        setup = on_loopback()
        async with open_pair(setup) as pair:
            ours, c = pair.ours, pair.c
            await ours.host.links[0].remove()
            await c.clear_link(OURS, 0)
            await c.wait_unreachable(OURS)
            (our_end,), (their_end,) = setup.ours, setup.theirs
            link = await ours.host.add_link(
                0,
                our_end,
                None if dynamic == "ours" else their_end,
                ping_interval=PING_INTERVAL,
                pong_count=1,
            )
            if dynamic == "ours":
                link.acl.append(AclEntry.address(LOCALHOST))
            await c.add_link(OURS, 0, their_end, None if dynamic == "theirs" else our_end)
            await link.wait_connected()
            await ours.host.wait_reachable()
            await c.wait_reachable(OURS)
            await exchange(pair, [b"one", b"two"])
            status = link.status
            assert status.dynconnected is (dynamic == "ours")
            assert (status.dst_ipaddr, status.dst_port) == their_end


# Filters and channels.


async def expect_at_c(c: CNode, *wanted: tuple[int, bytes]) -> None:
    # There is no order between its channels.
    arrived = [await c.receive() for _ in wanted]
    assert sorted(arrived) == sorted(wanted)


async def expect_at_ours(ours: Ours, *wanted: tuple[int, bytes]) -> None:
    for channel, data in wanted:
        assert check_message(await ours.channels[channel].receive(), channel) == data


async def wait_c_received(c: CNode, packets: int) -> None:
    """Until that many data packets in all have arrived at the C node, and are done with."""
    # The library counts and treats a packet under one lock, so what it answers a command after
    # it has counted it, comes after it has treated it.
    await c.wait_link(OURS, 0, lambda status: status["stats"]["rx_data_packets"] >= packets)


async def test_our_filter_on_sending() -> None:
    answers: dict[bytes, FilterResult] = {
        b"all": Broadcast(),
        b"all, moved": Broadcast(channel=5),
        b"one": Unicast([THEIRS]),
        b"one, moved": Unicast([THEIRS], channel=5),
        b"nobody": Unicast([NOBODY]),
        b"last": Broadcast(),
    }

    def decide(packet: FilterPacket) -> FilterResult:
        assert packet.direction is Direction.TX
        assert packet.source == packet.this_host == OURS
        return answers[packet.data]

    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(channels=(0, 5))) as pair:
            pair.ours.handle.set_filter(decide)
            for data in answers:
                await pair.ours.channel.send(data)
            moved = (5, b"all, moved"), (5, b"one, moved")
            await expect_at_c(pair.c, (0, b"all"), (0, b"one"), (0, b"last"), *moved)
            assert counted_messages(pair.ours.handle.statistics().drops) == {
                DropCause.UNKNOWN_DESTINATION: 1
            }
            pair.ours.handle.set_filter(None)
            await pair.ours.channels[5].send(b"without a filter", to=[THEIRS])
            await expect_at_c(pair.c, (5, b"without a filter"))


async def test_their_filter_on_sending() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(channels=(0, 5))) as pair:
            ours, c = pair.ours, pair.c
            for channel in (0, 5):
                await c.send(b"all", channel)
                await expect_at_ours(ours, (channel, b"all"))
            await c.set_filter([OURS], tx_channel=5)
            await c.send(b"one, moved")
            await expect_at_ours(ours, (5, b"one, moved"))
            await c.send_sync(b"in step, moved")
            await expect_at_ours(ours, (5, b"in step, moved"))
            await c.set_filter("broadcast", tx_channel=0)
            await c.send(b"all, moved", 5)
            await expect_at_ours(ours, (0, b"all, moved"))
            await c.set_filter([NOBODY])
            with pytest.raises(OSError, match="knet_send_sync") as caught:
                await c.send_sync(b"nobody")
            assert caught.value.errno == errno.EHOSTDOWN
            await c.set_filter(None)
            await c.send(b"last")
            await expect_at_ours(ours, (0, b"last"))
            assert counted_messages(ours.handle.statistics().drops) == {}


async def test_our_filter_on_receiving() -> None:
    answers: dict[bytes, FilterResult] = {
        b"for anybody": Broadcast(),
        b"for us": Unicast([NOBODY, OURS]),
        b"for another": Unicast([NOBODY]),
        b"moved": Broadcast(channel=5),
    }

    def decide(packet: FilterPacket) -> FilterResult:
        assert packet.direction is Direction.RX
        assert (packet.source, packet.this_host, packet.channel) == (THEIRS, OURS, 0)
        return answers[packet.data]

    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(channels=(0, 5))) as pair:
            pair.ours.handle.set_filter(decide)
            # It decides alike whether the sender meant everybody or this host.
            targets: tuple[str | list[int], ...] = ("broadcast", [OURS])
            for turn, target in enumerate(targets, 1):
                await pair.c.set_filter(target)
                for data in (b"for anybody", b"unheard of", b"for another", b"for us", b"moved"):
                    await pair.c.send(data)
                await expect_at_ours(pair.ours, (0, b"for anybody"), (0, b"for us"), (5, b"moved"))
                assert counted_messages(pair.ours.handle.statistics().drops) == {
                    DropCause.FILTER_ERROR: turn,
                    DropCause.NOT_FOR_THIS_HOST: turn,
                }


async def test_their_filter_on_receiving() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(channels=(0, 5))) as pair:
            ours, c = pair.ours, pair.c

            async def send_both_kinds(what: bytes) -> None:
                await ours.channel.send(what + b" to all")
                await ours.channel.send(what + b" to one", to=[THEIRS])

            await c.set_filter("broadcast", rx=[NOBODY, THEIRS])
            await send_both_kinds(b"for it")
            await expect_at_c(c, (0, b"for it to all"), (0, b"for it to one"))
            await c.set_filter("broadcast", rx=[NOBODY])
            await send_both_kinds(b"for another")
            await wait_c_received(c, 4)
            await c.set_filter("broadcast", rx="broadcast", rx_channel=5)
            await send_both_kinds(b"moved")
            await expect_at_c(c, (5, b"moved to all"), (5, b"moved to one"))


async def test_a_channel_that_is_not_open() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(channels=(0, 5))) as pair:
            ours, c = pair.ours, pair.c
            ours.channels[5].close()
            await c.send(b"nowhere", 5)
            await c.send(b"here")
            await expect_at_ours(ours, (0, b"here"))
            assert counted_messages(ours.handle.statistics().drops) == {DropCause.NO_CHANNEL: 1}
            await ours.handle.open_channel(7).send(b"nowhere")
            await ours.channel.send(b"here")
            await expect_at_c(c, (0, b"here"))


# Forwarding.


async def test_our_forwarding_off_and_on() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair:
            handle = pair.ours.handle

            for _ in range(2):
                handle.clear_statistics()
                await exchange(pair, [b"before"])
                await pair.ours.channel.send(b"the last")
                await handle.set_forwarding(False)
                await expect_at_c(pair.c, (0, b"the last"))
                await pair.ours.channel.send(b"from us")
                await pair.c.send(b"to us")
                await wait_for(
                    lambda: (
                        counted_messages(handle.statistics().drops)
                        == {DropCause.FORWARDING_DISABLED: 2}
                    )
                )
                await handle.set_forwarding(True)
            await exchange(pair, [b"after"])
            assert pair.ours.host.links[0].status.stats.down_count == 0


async def test_their_forwarding_off_and_on() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair:
            ours, c = pair.ours, pair.c
            await c.set_filter([OURS])
            for turn in range(2):
                await exchange(pair, [b"before"])
                await c.set_forwarding(False)
                await ours.channel.send(b"to it")
                await wait_c_received(c, 2 * (turn + 1))
                with pytest.raises(OSError, match="knet_send_sync") as caught:
                    await c.send_sync(b"from it")
                assert caught.value.errno == errno.ECANCELED
                await c.set_forwarding(True)
            await exchange(pair, [b"after"])
            assert ours.host.links[0].status.stats.down_count == 0


# Sequence numbers: 16 bits, without 0. Every 8191 messages a ping goes out ahead of its time.


async def pour_ours(channel: Channel, c: CNode, first: int, end: int) -> None:
    """Numbered messages from us, no more under way than fit into the kernel's buffers."""
    for start in range(first, end, CHUNK):
        datas = [numbered(number, 8) for number in range(start, min(start + CHUNK, end))]
        await channel.send_many(datas)
        assert await c.receive_count(len(datas)) == datas


async def pour_theirs(c: CNode, channel: Channel, first: int, end: int) -> None:
    """Numbered messages from the C node, likewise."""
    for start in range(first, end, CHUNK):
        numbers = range(start, min(start + CHUNK, end))
        await c.start_stream(len(numbers), 8, start=start)
        for number in numbers:
            assert check_message(await channel.receive()) == numbered(number, 8)


async def test_more_messages_than_there_are_numbers() -> None:
    count = NUMBERS + 2 * CHUNK
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair, trio.open_nursery() as nursery:
            nursery.start_soon(pour_ours, pair.ours.channel, pair.c, 0, count)
            nursery.start_soon(pour_theirs, pair.c, pair.ours.channel, 0, count)
        assert counted_messages(pair.ours.handle.statistics().drops) == {}
        assert pair.ours.host.links[0].status.stats.down_count == 0


async def test_our_numbers_come_round_to_a_peer_that_got_none_of_them() -> None:
    """It would take them for those it has seen, did our forced pings not tell it otherwise."""
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair:
            ours = pair.ours
            await pour_ours(ours.channel, pair.c, 0, 10)
            ours.handle.add_host(NOBODY)
            for start in range(10, NUMBERS, CHUNK):
                count = min(CHUNK, NUMBERS - start)
                await ours.channel.send_many([b"to nobody"] * count, to=[NOBODY])
            await wait_for(
                lambda: (
                    counted_messages(ours.handle.statistics().drops)
                    == {DropCause.HOST_DOWN: NUMBERS - 10}
                )
            )
            await pour_ours(ours.channel, pair.c, NUMBERS, NUMBERS + 10)


async def test_their_numbers_come_round_to_us_while_another_got_them() -> None:
    """As before, with the C node's forced pings and our own numbers seen."""
    other = 3
    ends = (LOCALHOST, free_udp_port()), (LOCALHOST, free_udp_port())
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair, open_handle(other) as handle:
            c = pair.c
            host = handle.add_host(THEIRS)
            channel = handle.open_channel(0, receive_buffer=RECEIVE_BUFFER)
            await host.add_link(0, *ends, ping_interval=PING_INTERVAL, pong_count=1)
            await c.add_host(other)
            await c.add_link(other, 0, ends[1], ends[0])
            await c.wait_reachable(other)
            await host.wait_reachable()
            await c.set_filter([OURS])
            await pour_theirs(c, pair.ours.channel, 0, 10)
            await c.set_filter([other])
            await pour_theirs(c, channel, 10, NUMBERS)
            await c.set_filter([OURS])
            await pour_theirs(c, pair.ours.channel, NUMBERS, NUMBERS + 10)
