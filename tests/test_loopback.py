"""The link of a host to itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from knet_trio import (
    Broadcast,
    BusyError,
    CompressConfig,
    CryptoConfig,
    Direction,
    Drop,
    DropCause,
    Event,
    FilterPacket,
    FilterResult,
    Handle,
    Host,
    HostDownError,
    HostStatus,
    HostStatusChanged,
    InvalidArgumentError,
    Link,
    LinkStatusChanged,
    Message,
    Unicast,
    open_handle,
)
from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.loopback import LoopbackLinkState
from knet_trio.address import Address
from knet_trio.config import LinkConfig
from tests.cluster import KEY, LOCALHOST, PATIENCE, open_pair, receive, wait_dropped
from tests.drops import counted
from tests.state.fakes import ME, World

HERE = (LOCALHOST, 5405)


async def add_loopback(handle: Handle) -> Link:
    """Have the handle's own host reach itself."""
    return await handle.add_host(handle.host_id).add_link(0, HERE, transport="loopback")


@asynccontextmanager
async def open_alone() -> AsyncGenerator[Handle]:
    """Host 1, which has nobody but itself."""
    async with open_handle(1) as handle:
        await add_loopback(handle)
        yield handle


async def take(channel: trio.abc.ReceiveChannel[Message]) -> Message:
    """The next message, within reason."""
    with trio.fail_after(PATIENCE):
        return await channel.receive()


class TestBeingUp:
    async def test_it_is_up_as_soon_as_it_is_enabled(self) -> None:
        async with open_handle(1) as handle, handle.events() as events:
            me = handle.add_host(1)
            link = await me.add_link(3, HERE, HERE, transport="loopback", enabled=False)
            assert me.status == HostStatus(reachable=False)
            assert not link.status.connected
            assert "down" in repr(link)
            assert "enabled = True" in link.explain()
            link.enabled = True
            assert me.status.reachable
            with trio.fail_after(PATIENCE):
                await link.wait_connected()
                await me.wait_reachable()
                changes: list[Event] = [await events.receive(), await events.receive()]
            assert isinstance(changes[0], LinkStatusChanged)
            assert (changes[0].host_id, changes[0].link_id, changes[0].connected) == (1, 3, True)
            assert changes[1] == HostStatusChanged(1, reachable=True)
            assert "up" in repr(link)
            assert "link 3 of host 1 to itself is up" in link.explain()

    async def test_it_says_how_it_is_as_the_c_library_does(self) -> None:
        async with open_handle(1) as handle:
            me = handle.add_host(1)
            link = await me.add_link(0, HERE, HERE, transport="LOOPBACK")
            status = link.status
            assert status.enabled
            assert status.connected
            assert not status.dynconnected
            assert (status.mtu, status.proto_overhead) == (65535, 0)
            assert (status.src_ipaddr, status.src_port) == HERE
            assert (status.dst_ipaddr, status.dst_port) == HERE
            assert (status.latency, status.pong_last) == (0.0, None)
            assert status.stats.up_count == len(status.stats.last_up_times) == 1
            assert me.links == {0: link}

    async def test_it_plays_no_part_in_the_data_mtu(self) -> None:
        async with open_alone() as handle:
            assert handle.data_mtu == 482
            handle.mtu = 1000
            assert handle.data_mtu == 482
            handle.pmtud_interval = 1.0
            assert handle.get_host(1).links[0].status.mtu == 65535

    async def test_what_other_links_heed_can_be_set(self) -> None:
        async with open_handle(1) as handle:
            link = await add_loopback(handle)
            assert link.status.dst_ipaddr is None
            assert list(link.acl) == []
            link.priority = 7
            link.pong_count = 3
            link.set_ping_timers(0.5, 1.0, 16)
            config = link.config
            assert (config.priority, config.pong_count, config.ping_interval) == (7, 3, 0.5)
            link.enabled = True
            assert link.status.stats.up_count == 1

    async def test_disabled_it_is_down_at_once_and_carries_nothing(self) -> None:
        async with open_handle(1) as handle:
            link = await add_loopback(handle)
            channel = handle.open_channel(0)
            link.enabled = False
            with trio.fail_after(PATIENCE):
                await link.wait_disconnected()
                await link.host.wait_unreachable()
            assert "disabled here" in link.explain()
            await channel.send(b"to nobody", to=[1])
            await wait_dropped(handle, DropCause.HOST_DOWN)
            link.enabled = True
            await channel.send(b"to me", to=[1])
            assert await receive(channel, 1) == [b"to me"]
            stats = link.status.stats
            assert (stats.up_count, stats.down_count) == (2, 1)

    async def test_removing_it_makes_way_for_another_link(self) -> None:
        async with open_handle(1) as handle:
            link = await add_loopback(handle)
            me = link.host
            async with handle.events() as events:
                await link.remove()
                down = LinkStatusChanged(1, 0, False, "it was removed")
                assert await events.receive() == down
            assert "it was removed; add_link" in link.explain()
            assert not me.links
            assert not me.status.reachable
            with pytest.raises(trio.ClosedResourceError):
                await link.wait_connected()
            await me.add_link(0, (LOCALHOST, 0), HERE, enabled=False)
            assert me.links[0].config.transport == "udp"

    async def test_a_host_is_removed_with_it(self) -> None:
        async with open_handle(1) as handle:
            link = await add_loopback(handle)
            channel = handle.open_channel(0)
            await link.host.remove()
            assert not handle.hosts
            await channel.send(b"nobody")
            await wait_dropped(handle, DropCause.HOST_DOWN)

    async def test_whoever_waits_for_it_is_woken_when_the_handle_ends(self) -> None:
        woken: list[str] = []

        async def wait(link: Link) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await link.wait_disconnected()
            woken.append("link")

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery, open_handle(1) as handle:
                nursery.start_soon(wait, await add_loopback(handle))
                await trio.testing.wait_all_tasks_blocked()
        assert woken == ["link"]


class TestMessages:
    async def test_what_goes_to_everybody_comes_here_too(self) -> None:
        async with open_pair() as pair:
            await add_loopback(pair.a)
            channel, other = pair.a.open_channel(4), pair.b.open_channel(4)
            await channel.send(b"all")
            assert await take(channel) == Message(b"all", source=1, channel=4)
            assert await take(other) == Message(b"all", source=1, channel=4)

    async def test_without_it_the_own_host_gets_nothing(self) -> None:
        async with open_pair() as pair:
            me = pair.a.add_host(1)
            channel, other = pair.a.open_channel(0), pair.b.open_channel(0)
            await channel.send(b"all")
            assert await receive(other, 1) == [b"all"]
            await channel.send(b"me", to=[1])
            await wait_dropped(pair.a, DropCause.HOST_DOWN)
            with pytest.raises(trio.WouldBlock):
                channel.receive_nowait()
            with pytest.raises(HostDownError):
                await channel.send_sync(b"me", to=[1])
            assert not me.status.reachable

    async def test_each_host_named_gets_it_once(self) -> None:
        async with open_pair() as pair:
            await add_loopback(pair.a)
            channel, other = pair.a.open_channel(0), pair.b.open_channel(0)
            await channel.send(b"both", to=[2, 1, 1])
            await channel.send(b"here", to=[1])
            await channel.send(b"there", to=[2])
            await channel.send(b"all")
            assert await receive(channel, 3) == [b"both", b"here", b"all"]
            assert await receive(other, 3) == [b"both", b"there", b"all"]
            assert counted(pair.a.statistics().drops) == {}

    async def test_the_whole_of_the_largest_message_comes_in_its_order(self) -> None:
        async with open_alone() as handle:
            channel = handle.open_channel(0)
            datas = [b"first", bytes(65536), b"last"]
            await channel.send_many(datas)
            assert await receive(channel, 3) == datas

    async def test_alone_nobody_is_missed_nothing_sealed_and_nothing_compressed(self) -> None:
        async with open_handle(1, crypto=CryptoConfig(KEY)) as handle:
            link = await add_loopback(handle)
            handle.set_compress(CompressConfig("zlib", threshold=10))
            handle.add_host(2)
            channel = handle.open_channel(0)
            await channel.send(bytes(1000))
            await channel.send(bytes(2000), to=[1])
            assert await receive(channel, 2) == [bytes(1000), bytes(2000)]
            # It waits until all that was handed over is through the whole pipeline.
            await handle.set_forwarding(False)
            statistics = handle.statistics()
            assert counted(statistics.drops) == {}
            assert statistics.tx_crypt_packets == 0
            assert statistics.tx_compressed_packets == statistics.tx_uncompressed_packets == 0
            stats = link.status.stats
            assert (stats.tx_data_packets, stats.tx_data_bytes) == (2, 3000)
            assert stats.tx_total_packets == 2
            assert stats.rx_total_packets == 0
            handle.clear_statistics(links=True)
            assert link.status.stats.tx_data_packets == 0

    async def test_no_number_is_taken_for_it(self) -> None:
        world = World()
        me = world.handle.add(ME, "me", LinkPolicy.PASSIVE)
        delivered: list[Message] = []
        config = LinkConfig(link_id=0, src=Address(*HERE), dst=None, transport="loopback")
        link = LoopbackLinkState(world.context, config, delivered.extend, me.refresh)
        me.add_loopback(link)
        link.set_enabled(True)
        transmitter = Transmitter(world.handle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transmitter.run)
            await transmitter.send((b"me",), 0, (ME,))
            await transmitter.send((b"all",), 1)
            await transmitter.flush()
            nursery.cancel_scope.cancel()
        assert delivered == [Message(b"me", ME, 0), Message(b"all", ME, 1)]
        assert world.context.seq == 0

    async def test_past_all_queues_too(self) -> None:
        async with open_alone() as handle:
            channel = handle.open_channel(0)
            await channel.send_sync(b"at once", to=[1])
            assert channel.receive_nowait() == Message(b"at once", source=1, channel=0)

    async def test_a_channel_that_is_closed_or_full_is_counted(self) -> None:
        async with open_alone() as handle:
            channel = handle.open_channel(0, receive_buffer=1)
            await channel.send_many([b"kept", b"too many"])
            await wait_dropped(handle, DropCause.CHANNEL_FULL)
            handle.set_filter(lambda _: Broadcast(channel=5))
            await channel.send(b"elsewhere")
            await wait_dropped(handle, DropCause.NO_CHANNEL)
            assert await receive(channel, 1) == [b"kept"]

    async def test_while_forwarding_is_off_nothing_passes(self) -> None:
        async with open_alone() as handle:
            channel = handle.open_channel(0)
            await handle.set_forwarding(False)
            await channel.send(b"lost")
            await wait_dropped(handle, DropCause.FORWARDING_DISABLED)
            await handle.set_forwarding(True)
            await channel.send(b"kept")
            assert await receive(channel, 1) == [b"kept"]


class TestFiltering:
    async def test_the_filter_is_asked_once_on_the_way_out(self) -> None:
        asked: list[FilterPacket] = []

        def decide(packet: FilterPacket) -> FilterResult:
            asked.append(packet)
            return Unicast([1], channel=packet.channel + 1)

        async with open_alone() as handle:
            handle.set_filter(decide)
            channel, next_channel = handle.open_channel(0), handle.open_channel(1)
            await channel.send(b"me")
            assert await take(next_channel) == Message(b"me", source=1, channel=1)
            assert asked == [FilterPacket(b"me", Direction.TX, 1, 1, 0)]

    async def test_what_it_drops_or_fails_at_does_not_come(self) -> None:
        def decide(packet: FilterPacket) -> FilterResult:
            if packet.data == b"no":
                return Drop()
            if packet.data == b"error":
                raise ValueError("what is that?")
            return Broadcast()

        async with open_alone() as handle:
            handle.set_filter(decide)
            channel = handle.open_channel(0)
            await channel.send_many([b"no", b"error", b"yes"])
            assert await receive(channel, 1) == [b"yes"]
            drops = handle.statistics().drops
            assert (drops[DropCause.FILTER_DROP], drops[DropCause.FILTER_ERROR]) == (1, 1)


class TestWhereItMayBe:
    @staticmethod
    async def refuse(host: Host, link_id: int, transport: str, match: str) -> None:
        before = dict(host.links)
        with pytest.raises(InvalidArgumentError, match=match):
            await host.add_link(link_id, (LOCALHOST, 0), HERE, transport=transport)
        assert host.links == before

    async def test_only_on_the_own_host(self) -> None:
        async with open_handle(1) as handle:
            await self.refuse(handle.add_host(2), 0, "loopback", "add host 1")

    @pytest.mark.parametrize("transport", ["loopback", "udp"])
    async def test_no_other_link_beside_it(self, transport: str) -> None:
        async with open_handle(1) as handle:
            link = await add_loopback(handle)
            await self.refuse(link.host, 1, transport, "remove link 0 first")
            with pytest.raises(BusyError, match="has a link 0"):
                await link.host.add_link(0, HERE, transport=transport)

    async def test_not_beside_another_link(self) -> None:
        async with open_handle(1) as handle:
            me = handle.add_host(1)
            await me.add_link(0, (LOCALHOST, 0), HERE, enabled=False)
            await self.refuse(me, 1, "loopback", "remove its other links first")

    async def test_other_transports_are_not_known(self) -> None:
        async with open_handle(1) as handle:
            await self.refuse(handle.add_host(1), 0, "carrier pigeon", "loopback, udp")
