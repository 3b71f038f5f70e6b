"""Links: up, down, their timers, and why they are as they are."""

from __future__ import annotations

import functools

import pytest
import trio

from knet_trio import (
    AclEntry,
    DropCause,
    InvalidArgumentError,
    Link,
    LinkStatusChanged,
    NotImplementedByKnetError,
    UnknownLinkError,
    open_handle,
)
from knet_trio.address import Address
from tests.cluster import (
    LOCALHOST,
    PATIENCE,
    add_quick_link,
    open_pair,
    receive,
    wait_dropped,
    wait_for,
)

HERE = (LOCALHOST, 0)


async def test_a_link_that_is_up_says_how_well() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        await wait_for(lambda: link.status.mtu == 65481)
        status = link.status
        assert (status.src_ipaddr, status.dst_ipaddr) == (LOCALHOST, LOCALHOST)
        assert (status.src_port, status.dst_port) == (link.config.src[1], link.config.dst[1])  # type: ignore[index]
        assert status.enabled
        assert status.connected
        assert not status.dynconnected
        assert status.proto_overhead == 54
        assert 0 < status.latency < 1
        assert status.pong_last is not None
        assert status.carries_data
        assert status.reason == "the peer answers pings"
        assert status.since < trio.current_time()
        assert link.history == ((status.since, True, status.reason),)
        assert status.loss is not None
        assert 0 <= status.loss < 1
        assert status.jitter is not None
        assert 0 < status.jitter < 1
        assert status.latency_p50 is not None
        assert status.latency_p99 is not None
        stats = status.stats
        assert stats.up_count == len(stats.last_up_times) == 1
        assert stats.tx_ping_bytes == 26 * stats.tx_ping_packets
        assert stats.latency_samples > 0
        assert stats.latency_min is not None
        assert stats.latency_max is not None
        assert stats.latency_min <= status.latency <= stats.latency_max
        assert stats.latency_min <= status.latency_p50 <= status.latency_p99 <= stats.latency_max
        assert stats.tx_total_packets == (
            stats.tx_ping_packets + stats.tx_pong_packets + stats.tx_pmtu_packets
        )
        assert "is up" in link.explain()
        assert "65481 bytes a packet" in link.explain()
        assert "up" in repr(link)
        host = link.host
        assert link.explain() in host.explain().replace("\n  ", "\n")
        assert host.explain() in pair.a.explain().replace("\n  ", "\n")


async def test_a_link_nobody_answers_on_says_what_to_look_at() -> None:
    async with open_handle(1) as handle:
        # A port that nobody has, since it is reserved: the loopback answers with an ICMP error.
        host = handle.add_host(2)
        link = await host.add_link(0, HERE, (LOCALHOST, 1), ping_interval=0.01)
        await wait_for(lambda: link.status.stats.tx_ping_packets > 3)
        said = link.explain()
        assert "is down" in said
        assert "none answered" in said
        assert "Connection refused" in said
        link.enabled = False
        assert "disabled here" in link.explain()
        assert "enabled = True" in link.explain()


async def test_a_peer_that_goes_away_is_noticed() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        await pair.b.get_host(1).remove()
        with trio.fail_after(PATIENCE):
            await link.wait_disconnected()
        # Its socket is closed, so the network says so at once.
        assert "Connection refused" in link.explain()
        assert link.status.mtu == 522
        assert link.status.stats.down_count == len(link.status.stats.last_down_times) == 1


async def test_a_silent_peer_is_noticed_after_the_pong_timeout() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        link.set_ping_timers(0.02, 0.05, 100)
        assert link.config.pong_timeout == 0.05
        pair.b.get_host(1).links[0].enabled = False
        with trio.fail_after(PATIENCE):
            await link.wait_disconnected()
        assert "no pong for" in link.explain()
        await wait_dropped(pair.b, DropCause.LINK_DISABLED)


async def test_timers_that_cannot_be_change_nothing() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        before = link.config
        with pytest.raises(InvalidArgumentError):
            link.set_ping_timers(0, 1, 1)
        with pytest.raises(NotImplementedByKnetError):
            link.set_ping_timers(1, 0, 1)
        with pytest.raises(InvalidArgumentError):
            link.priority = 999
        with pytest.raises(InvalidArgumentError):
            link.pong_count = 0
        assert link.config == before
        link.pong_count = 7
        assert link.pong_count == 7


async def test_the_link_with_the_highest_priority_carries_the_messages() -> None:
    async with open_pair(links=2) as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        links = pair.a.get_host(2).links

        async def used() -> int:
            before = [link.status.stats.tx_data_packets for link in links.values()]
            await sender.send(b"x")
            await receive(receiver, 1)
            after = [link.status.stats.tx_data_packets for link in links.values()]
            return [a - b for a, b in zip(after, before, strict=True)].index(1)

        assert await used() == 0
        links[1].priority = 10
        assert await used() == 1
        links[1].enabled = False
        assert await used() == 0
        links[1].enabled = True
        with trio.fail_after(PATIENCE):
            await links[1].wait_connected()
        assert await used() == 1


async def test_a_removed_link_is_gone() -> None:
    async with open_pair(links=2) as pair:
        host = pair.a.get_host(2)
        link = host.links[0]
        async with pair.a.events() as events:
            await link.remove()
            down = LinkStatusChanged(2, 0, False, "it was removed")
            with trio.fail_after(PATIENCE):
                assert await events.receive() == down
        assert "it was removed; add_link" in link.explain()
        assert list(host.links) == [1]
        with pytest.raises(UnknownLinkError, match="no link 0"):
            await host.remove_link(0)
        with pytest.raises(UnknownLinkError) as caught:
            await link.remove()
        assert isinstance(caught.value, LookupError)
        with pytest.raises(UnknownLinkError):
            link.priority = 1
        receiver = pair.b.open_channel(0)
        await pair.a.open_channel(0).send(b"over the other")
        assert await receive(receiver, 1) == [b"over the other"]


@pytest.mark.parametrize("enabled", [False, True])
async def test_a_link_that_never_was_up_says_what_every_path_carries(enabled: bool) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        for link_id, (address, dst, mtu) in enumerate(
            [
                (LOCALHOST, (LOCALHOST, 1), 522),
                (LOCALHOST, None, 522),
                ("::1", ("::1", 1), 1206),
                ("::1", None, 1206),
            ]
        ):
            link = await host.add_link(link_id, (address, 0), dst, enabled=enabled)
            status = link.status
            assert (status.mtu, status.proto_overhead) == (mtu, 0)
            assert (status.latency, status.pong_last) == (0.0, None)
            stats = status.stats
            assert (stats.latency_min, stats.latency_ave, stats.latency_max) == (None, None, None)
        assert handle.data_mtu == 482


async def test_a_link_without_destination_finds_its_peer_when_that_speaks() -> None:
    async with open_handle(1) as server, open_handle(2) as client:
        link = await server.add_host(2).add_link(0, HERE, ping_interval=0.05, pong_count=1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert link.status.stats.tx_ping_packets == 0
        assert "it sends nothing until" in link.explain()
        mine = await client.add_host(1).add_link(
            0, HERE, link.config.src, ping_interval=0.05, pong_count=1
        )
        await wait_dropped(server, DropCause.ACCESS_LIST)
        link.acl.append(AclEntry.network("127.0.0.0/8"))
        with trio.fail_after(PATIENCE):
            await link.wait_connected()
            await mine.wait_connected()
        assert link.status.dynconnected
        assert link.status.dst_port == mine.config.src[1]
        receiver = client.open_channel(0)
        await server.open_channel(0).send(b"found you")
        assert await receive(receiver, 1) == [b"found you"]


async def test_a_peer_that_moves_is_followed_and_loses_nothing() -> None:
    async with open_handle(1) as server, open_handle(2) as client:
        link = await server.add_host(2).add_link(0, HERE, ping_interval=0.05, pong_count=1)
        link.acl.append(AclEntry.range("127.0.0.1", "127.0.0.9"))
        host = client.add_host(1)
        sender, receiver = client.open_channel(0), server.open_channel(0)
        wanted: list[bytes] = []
        for place in ("127.0.0.1", "127.0.0.5", "127.0.0.5", "127.0.0.9"):
            # Each time another port, and sometimes another address.
            mine = await add_quick_link(host, 0, (place, 0), link.config.src)
            with trio.fail_after(PATIENCE):
                await mine.wait_connected()
                await wait_for(functools.partial(is_at, link, mine.config.src))
            messages = [f"{place} {number}".encode() for number in range(50)]
            await sender.send_many(messages)
            wanted += messages
            assert await receive(receiver, 50) == messages
            await mine.remove()
        assert len(wanted) == 200
        assert server.statistics().drops.get(DropCause.UNKNOWN_ADDRESS, 0) == 0
        with trio.fail_after(PATIENCE):
            await link.wait_disconnected()
        assert peer_address(link) == (None, None)
        assert not link.status.dynconnected


async def test_a_peer_that_moves_where_it_may_not_speak_is_not_followed() -> None:
    async with open_handle(1) as server, open_handle(2) as client:
        link = await server.add_host(2).add_link(0, HERE, ping_interval=0.05, pong_count=1)
        link.acl.append(AclEntry.address("127.0.0.5", accept=False))
        link.acl.append(AclEntry.network("127.0.0.0/8"))
        host = client.add_host(1)
        mine = await add_quick_link(host, 0, HERE, link.config.src)
        with trio.fail_after(PATIENCE):
            await link.wait_connected()
        home = peer_address(link)
        await mine.remove()
        await add_quick_link(host, 0, ("127.0.0.5", 0), link.config.src)
        await wait_dropped(server, DropCause.ACCESS_LIST)
        assert peer_address(link) in (home, (None, None))


def is_at(link: Link, address: tuple[str, int]) -> bool:
    return peer_address(link) == address


def peer_address(link: Link) -> tuple[str | None, int | None]:
    """Where the link's peer is now."""
    return link.status.dst_ipaddr, link.status.dst_port


async def test_addresses_of_its_own_sockets() -> None:
    async with open_handle(1) as handle:
        is_own = handle.add_host(2).state.context.is_own
        host = handle.get_host(2)
        exact = await host.add_link(0, HERE)
        anywhere = await host.add_link(1, ("0.0.0.0", 0))
        for link, own, other in (
            (exact, [exact.config.src], [("127.0.0.2", exact.config.src.port)]),
            (
                anywhere,
                [("127.0.0.1", anywhere.config.src.port), ("127.9.9.9", anywhere.config.src.port)],
                [("192.0.2.1", anywhere.config.src.port), ("127.0.0.1", 1)],
            ),
        ):
            assert all(is_own(Address(*place)) for place in own), link
            assert not any(is_own(Address(*place)) for place in other), link
        await anywhere.remove()
        assert not is_own(Address("127.0.0.1", anywhere.config.src.port))
