"""Handles: opening, settings, crypto, events, statistics, and how they end."""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable

import pytest
import trio

from knet_trio import (
    AlreadyExistsError,
    BusyError,
    CryptoConfig,
    DataMtuChanged,
    DropCause,
    EventsLost,
    Handle,
    HostStatusChanged,
    InvalidArgumentError,
    LimitError,
    LinkStatusChanged,
    UnknownHostError,
    open_handle,
)
from knet_trio._transport.udp import UdpEndpoint
from tests.cluster import KEY, PATIENCE, connect, open_pair, receive, wait_dropped, wait_for

OTHER_KEY = KEY[::-1]


async def test_a_handle_without_hosts_opens_and_ends() -> None:
    async with open_handle(0) as handle:
        assert handle.host_id == 0
        assert dict(handle.hosts) == {}
        assert handle.data_mtu == 482
        assert "host 0" in repr(handle)


@pytest.mark.parametrize(
    "options",
    [
        {"host_id": -1},
        {"host_id": 65536},
        {"host_id": "1"},
        {"mtu": 100},
        {"mtu": 65536},
        {"pmtud_interval": 0.5},
        {"pmtud_interval": 86401},
        {"dscp": 64},
        {"filter": 3},
        {"crypto": CryptoConfig(key=KEY, cipher="rot13")},
        {"crypto": CryptoConfig(key=KEY, hash="none")},
        {"crypto": CryptoConfig(key=KEY, model="gost")},
    ],
)
async def test_what_does_not_fit_is_refused_plainly(options: dict[str, object]) -> None:
    """Before there is a nursery, so as itself and in no group."""
    open_any: Callable[..., object] = open_handle
    with pytest.raises(InvalidArgumentError) as caught:
        async with open_any(**{"host_id": 1, **options}):  # type: ignore[attr-defined]
            pytest.fail("it opened")
    assert isinstance(caught.value, ValueError)
    assert KEY.hex() not in str(caught.value)


async def test_hosts_have_unique_ids_and_names() -> None:
    async with open_handle(1) as handle:
        beta = handle.add_host(2, name="beta")
        gamma = handle.add_host(3)
        assert gamma.name == "3"
        assert handle.get_host(2) is handle.get_host("beta") is handle.hosts[2] is beta
        with pytest.raises(AlreadyExistsError) as caught:
            handle.add_host(2)
        assert caught.value.errno == errno.EEXIST
        with pytest.raises(AlreadyExistsError, match="beta"):
            handle.add_host(4, name="beta")
        with pytest.raises(AlreadyExistsError):
            gamma.name = "beta"
        gamma.name = "gamma"
        assert handle.get_host("gamma") is gamma
        with pytest.raises(UnknownHostError):
            handle.get_host(4)
        with pytest.raises(UnknownHostError) as unknown:
            handle.get_host("delta")
        assert unknown.value.errno == errno.ENOENT
        for name in ("", "x" * 256, "ü" * 128):
            with pytest.raises(InvalidArgumentError, match="255"):
                gamma.name = name


async def test_there_are_32_channels() -> None:
    async with open_handle(1) as handle:
        assert [handle.open_channel().channel for _ in range(32)] == list(range(32))
        with pytest.raises(LimitError) as caught:
            handle.open_channel()
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(BusyError):
            handle.open_channel(5)
        for wrong in (-1, 32):
            with pytest.raises(InvalidArgumentError):
                handle.open_channel(wrong)


async def test_a_fixed_mtu_is_taken_as_it_is() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        await wait_for(lambda: link.status.proto_overhead == 54)
        pair.a.mtu = 1500
        assert pair.a.mtu == 1500
        await wait_for(lambda: pair.a.data_mtu == 1446)
        receiver = pair.b.open_channel(0)
        await pair.a.open_channel(0).send(b"x" * 5000)
        assert await receive(receiver, 1) == [b"x" * 5000]
        # It was found before.
        assert link.status.proto_overhead == 54
        pair.a.mtu = None
        await wait_for(lambda: pair.a.data_mtu == 65481)
        assert link.status.proto_overhead == 54


async def test_the_pmtud_interval_is_a_setting() -> None:
    async with open_pair() as pair:
        link = pair.a.get_host(2).links[0]
        await wait_for(lambda: pair.a.data_mtu == 65481)
        probes = link.status.stats.tx_pmtu_packets
        pair.a.pmtud_interval = 1
        assert pair.a.pmtud_interval == 1.0
        await wait_for(lambda: link.status.stats.tx_pmtu_packets > probes)
        with pytest.raises(InvalidArgumentError):
            pair.a.pmtud_interval = 0


async def test_access_lists_can_be_turned_off_and_on() -> None:
    async with open_pair() as pair:
        link = pair.b.get_host(1).links[0]
        link.acl.clear()
        await wait_dropped(pair.b, DropCause.ACCESS_LIST)
        assert "access list" in link.explain()
        pair.b.access_lists = False
        assert not pair.b.access_lists
        receiver = pair.b.open_channel(0)
        await pair.a.open_channel(0).send(b"x")
        assert await receive(receiver, 1) == [b"x"]


# Crypto.


async def test_a_key_changes_while_messages_flow() -> None:
    new = CryptoConfig(key=OTHER_KEY, cipher="aes128", hash="sha512")
    async with open_pair(crypto=CryptoConfig(key=KEY)) as pair, trio.open_nursery() as nursery:
        sender = pair.a.open_channel(0)
        receiver = pair.b.open_channel(0, receive_buffer=100_000)
        sent = 0
        got: list[bytes] = []
        stop, stopped = trio.Event(), trio.Event()

        async def stream() -> None:
            nonlocal sent
            while not stop.is_set():
                await sender.send(b"%d" % sent)
                sent += 1
            stopped.set()

        async def receive_what_is_sent_now() -> None:
            """Until then packets with the key of before may be on their way."""
            now = sent
            got.extend(await receive(receiver, now + 50 - len(got)))

        nursery.start_soon(stream)
        await receive_what_is_sent_now()
        for handle in (pair.a, pair.b):
            handle.set_crypto(new, 2)
        await receive_what_is_sent_now()
        pair.a.use_crypto(2)
        await receive_what_is_sent_now()
        pair.b.use_crypto(2)
        await receive_what_is_sent_now()
        for handle in (pair.a, pair.b):
            handle.set_crypto(None, 1)
        await receive_what_is_sent_now()
        stop.set()
        await stopped.wait()
        got += await receive(receiver, sent - len(got))
        assert got == [b"%d" % number for number in range(sent)]


async def test_a_slot_in_use_is_not_replaced() -> None:
    async with open_handle(1, crypto=CryptoConfig(key=KEY)) as handle:
        for config in (None, CryptoConfig(key=OTHER_KEY)):
            with pytest.raises(BusyError) as caught:
                handle.set_crypto(config, 1)
            assert caught.value.errno == errno.EBUSY
        with pytest.raises(InvalidArgumentError, match="empty"):
            handle.use_crypto(2)
        assert handle.crypto_in_use == 1
        for slot in (0, 3):
            with pytest.raises(InvalidArgumentError):
                handle.set_crypto(None, slot)
        handle.use_crypto(0)
        assert handle.crypto_in_use == 0
        handle.set_crypto(None, 1)


async def test_strangers_with_another_key_are_counted_and_explained() -> None:
    async with (
        open_handle(1, crypto=CryptoConfig(key=KEY)) as a,
        open_handle(2, crypto=CryptoConfig(key=OTHER_KEY)) as b,
    ):
        b.allow_clear_traffic = False
        assert not a.allow_clear_traffic
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, a, b)
            await wait_dropped(a, DropCause.NOT_AUTHENTIC, 2)
            link = a.get_host(2).links[0]
            assert "compare key" in link.explain()
            assert not link.status.connected
            nursery.cancel_scope.cancel()


async def test_clear_and_encrypted_hosts_talk_where_that_is_allowed() -> None:
    async with (
        open_handle(1, crypto=CryptoConfig(key=KEY), allow_clear_traffic=True) as a,
        open_handle(2) as b,
    ):
        a.use_crypto(0)
        await connect(a, b)
        b.set_crypto(CryptoConfig(key=KEY))
        a.use_crypto(1)
        await a.open_channel(0).send(b"sealed")
        await b.open_channel(0).send(b"clear")
        assert await receive(b.open_channel(1), 0) == []
        with trio.fail_after(PATIENCE):
            await wait_for(lambda: a.statistics().tx_crypt_packets > 0)


# Events and statistics.


async def test_events_tell_what_changes() -> None:
    async with open_handle(1) as a, open_handle(2) as b, a.events() as events:
        await connect(a, b)
        seen: list[object] = []
        with trio.fail_after(PATIENCE):
            while DataMtuChanged(65481) not in seen:
                seen.append(await events.receive())
        up = LinkStatusChanged(2, 0, True, "the peer answers pings")
        assert seen.index(up) < seen.index(HostStatusChanged(2, True))
        a.get_host(2).links[0].enabled = False
        with trio.fail_after(PATIENCE):
            event = await events.receive()
        assert event == LinkStatusChanged(2, 0, False, "it was disabled here")


async def test_a_reader_of_events_that_is_slow_is_told_how_many_it_lost() -> None:
    async with open_pair() as pair:
        await wait_for(lambda: pair.a.data_mtu == 65481)
        async with pair.a.events() as events:
            for _ in range(300):
                pair.a.mtu = 1500
                pair.a.mtu = 1400
            assert await events.receive() == EventsLost(600 - 256)
            for _ in range(128):
                got = [await events.receive() for _ in range(2)]
                assert got == [DataMtuChanged(mtu) for mtu in (1446, 1346)]


async def test_events_end_with_the_handle() -> None:
    async with open_handle(1) as handle, trio.open_nursery() as nursery:

        async def listen() -> None:
            async with handle.events() as events:
                assert [event async for event in events] == []

        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_statistics_count_crypto_and_start_again() -> None:
    async with open_pair(crypto=CryptoConfig(key=KEY)) as pair:
        await pair.a.open_channel(0).send(b"x" * 100)
        await wait_dropped(pair.b, DropCause.NO_CHANNEL)
        links = pair.a.get_host(2).links[0], pair.b.get_host(1).links[0]
        # No probe is under way then.
        await wait_for(lambda: all(link.status.proto_overhead for link in links))
        sender, receiver = pair.a.statistics(), pair.b.statistics()
        out = pair.a.get_host(2).links[0].status.stats
        back = pair.b.get_host(1).links[0].status.stats
        # Answers to probes are sealed like all that is sent, and are not counted at the link.
        assert sender.tx_crypt_packets == out.tx_total_packets + back.tx_pmtu_packets
        # 114 bytes with the header are 128 with the padding, 16 of salt and 32 of hash.
        assert sender.tx_crypt_byte_overhead == 62
        assert sender.tx_crypt_time_min is not None
        # Of what came in, only data is counted; bytes are those of the packets in the envelopes.
        assert receiver.rx_crypt_packets == 1
        assert (back.rx_data_packets, back.rx_data_bytes) == (1, 114)
        assert back.rx_ping_bytes == 26 * back.rx_ping_packets > 0
        assert out.tx_ping_bytes == 80 * out.tx_ping_packets > 0
        assert back.rx_pmtu_packets == out.tx_pmtu_packets + back.tx_pmtu_packets
        link = pair.a.get_host(2).links[0]
        assert link.status.stats.tx_data_packets == 1
        assert link.status.stats.tx_data_bytes == 176
        pair.a.clear_statistics()
        assert pair.a.statistics().tx_crypt_packets == 0
        assert pair.a.statistics().tx_crypt_time_min is None
        assert link.status.stats.tx_data_packets == 1
        pair.a.clear_statistics(links=True)
        assert link.status.stats.tx_data_packets == 0
        assert link.status.stats.latency_min is None


# The end.


async def test_the_users_own_error_comes_out_in_a_group_and_everything_is_closed() -> None:
    channels: list[trio.abc.AsyncResource] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with open_pair() as pair:
            channels += [pair.a.open_channel(), pair.b.open_channel()]
            raise ZeroDivisionError
    assert caught.group_contains(ZeroDivisionError)
    for channel in channels:
        with pytest.raises(trio.ClosedResourceError):
            await channel.send(b"x")  # type: ignore[attr-defined]


async def test_nothing_can_be_done_with_a_handle_that_has_ended() -> None:
    async with open_pair() as pair:
        host = pair.a.get_host(2)
        link = host.links[0]
    with pytest.raises(trio.ClosedResourceError):
        pair.a.add_host(7)
    with pytest.raises(trio.ClosedResourceError):
        pair.a.open_channel()
    with pytest.raises(trio.ClosedResourceError):
        await host.add_link(1, ("127.0.0.1", 0), ("127.0.0.1", 5))
    with pytest.raises(trio.ClosedResourceError):
        link.enabled = False
    with pytest.raises(trio.ClosedResourceError):
        await host.wait_reachable()
    with pytest.raises(trio.ClosedResourceError):
        await link.wait_connected()
    with pytest.raises(trio.ClosedResourceError):
        await pair.a.set_forwarding(False)


def open_sockets() -> int:
    gc.collect()
    return sum(isinstance(thing, socket.socket) for thing in gc.get_objects())


async def test_many_handles_leave_nothing_behind() -> None:
    async def once() -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            await host.add_link(0, ("127.0.0.1", 0), ("127.0.0.1", 1), ping_interval=0.001)
            await handle.open_channel().send(b"x")

    await once()
    before, tasks = open_sockets(), trio.lowlevel.current_statistics().tasks_living
    for _ in range(50):
        await once()
    assert open_sockets() == before
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_a_cancelled_block_ends_at_once() -> None:
    with trio.move_on_after(0) as scope:
        async with open_handle(1) as handle:
            assert isinstance(handle, Handle)
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_has_ended_says_so() -> None:
    async with open_handle(1) as a, open_handle(2) as b:
        await connect(a, b)
        host = a.get_host(2)
        me = await a.add_host(1).add_link(0, ("127.0.0.1", 0), transport="loopback")
    for link in (host.links[0], me):
        assert not link.status.connected
        assert link.explain().endswith("the handle has ended")
    assert not host.status.reachable
    assert "unreachable" in repr(host)
    with pytest.raises(trio.ClosedResourceError):
        await host.wait_unreachable()


async def test_what_is_left_when_a_handle_is_cancelled_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def send_nowait(*_: object) -> int:
        return 0

    handles: list[Handle] = []
    with trio.CancelScope() as scope:
        async with open_handle(1) as a, open_handle(2) as b:
            handles.append(a)
            await connect(a, b)
            monkeypatch.setattr(UdpEndpoint, "send_nowait", send_nowait)
            await a.open_channel(0).send_many([b"x"] * 70)
            scope.cancel()
    assert handles[0].statistics().drops[DropCause.SEND_FAILED] == 70
