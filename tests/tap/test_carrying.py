"""Three namespaces that have an Ethernet between them."""

from __future__ import annotations

import os
import socket
from functools import partial

import pytest
import trio

from knet_trio import (
    BusyError,
    CryptoConfig,
    DropCause,
    InvalidArgumentError,
    open_handle,
)
from knet_trio.tap import AddressTable, Tap, TapError, _carrier, carry_frames
from knet_trio.tap._carrier import BATCH
from knet_trio.tap._frame_queue import FrameQueue
from tests.cluster import KEY, PATIENCE, wait_for
from tests.drops import counted
from tests.holding import held
from tests.tap.ethernet import (
    DEVICE,
    Ethernet,
    experiment,
    learn_all,
    mac,
    open_ethernet,
    open_places,
    open_taps,
    v4,
    v6,
)

pytestmark = pytest.mark.usefixtures("taps")
PORT = 8000


@pytest.mark.parametrize("crypto", [None, CryptoConfig(key=KEY)], ids=["clear", "encrypted"])
async def test_a_ping_crosses(crypto: CryptoConfig | None) -> None:
    async with open_ethernet(crypto=crypto) as ethernet:
        for source, destination in ((0, 1), (1, 2), (2, 0)):
            for _ in range(5):
                await ethernet.ping(source, destination)
            # The kernel cuts it into frames.
            await ethernet.ping(source, destination, 5000)
        assert not any(counted(handle.statistics().drops) for handle in ethernet.handles)


async def exchange(stream: trio.SocketStream, data: bytes, expected: bytes) -> None:
    async def send() -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert b"".join([part async for part in stream]) == expected


async def run_tcp(ethernet: Ethernet, source: int, destination: int, family: int) -> None:
    there, back = os.urandom(300_000), os.urandom(200_000)
    address = v4 if family == socket.AF_INET else v6
    listener = ethernet.socket(destination, socket.SOCK_STREAM, family=family)
    with listener, trio.fail_after(PATIENCE):
        await listener.bind((address(destination), PORT))
        listener.listen()
        client = ethernet.socket(source, socket.SOCK_STREAM, family=family)
        await client.connect((address(destination), PORT))
        server, (host, *_) = await listener.accept()
        assert host == address(source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, trio.SocketStream(client), there, back)
            nursery.start_soon(exchange, trio.SocketStream(server), back, there)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_tcp_crosses_both_ways_at_once(family: int) -> None:
    async with open_ethernet() as ethernet, trio.open_nursery() as nursery:
        for source, destination in ((0, 1), (1, 2), (2, 0)):
            nursery.start_soon(run_tcp, ethernet, source, destination, family)


@pytest.mark.parametrize("copies", [_carrier.COPIES, 1])
async def test_a_broadcast_gets_to_everybody(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are so many hosts that the frames of a turn are few."""
    monkeypatch.setattr(_carrier, "COPIES", copies)
    async with open_ethernet() as ethernet:
        receivers = [ethernet.socket(side, socket.SOCK_DGRAM) for side in range(3)]
        for receiver in receivers:
            await receiver.bind(("0.0.0.0", PORT))
        with receivers[0], receivers[1], receivers[2], trio.fail_after(PATIENCE):
            for sender in (0, 1, 2):
                with ethernet.socket(sender, socket.SOCK_DGRAM) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    await sock.sendto(b"all of you", ("10.88.0.255", PORT))
                # The kernel of the sender gives it to its own socket by itself.
                for side in range(3):
                    data, (host, _) = await receivers[side].recvfrom(100)
                    assert (data, host) == (b"all of you", v4(sender))


async def test_a_frame_goes_to_the_host_that_has_the_address() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        now = trio.current_time()
        assert ethernet.tables[0].get_addresses(2, now) == (mac(1),)
        assert ethernet.tables[0].get_addresses(3, now) == (mac(2),)
        before = ethernet.taps[0].statistics(), ethernet.taps[2].statistics()
        with ethernet.wire(0) as sender, ethernet.wire(1) as receiver:
            for number in range(100):
                sender.send(experiment(mac(1), mac(0), b"%d" % number))
            await wait_for(lambda: ethernet.taps[1].statistics().written >= 100)
            assert receiver.recv(100)[:14] == experiment(mac(1), mac(0))[:14]
        after = ethernet.taps[0].statistics(), ethernet.taps[2].statistics()
        assert after[0].read == before[0].read + 100
        assert after[0].to_all == before[0].to_all
        assert after[1].written == before[1].written


def is_at(table: AddressTable, address: bytes, host_id: int | None) -> bool:
    return table.find(address, trio.current_time()) == host_id


def has_mtu(tap: Tap, mtu: int) -> bool:
    return tap.mtu == mtu


async def test_an_address_that_moves_is_followed() -> None:
    moving = bytes.fromhex("020000000099")
    async with open_ethernet() as ethernet:
        (table, *_) = ethernet.tables
        with ethernet.wire(0) as here, ethernet.wire(1) as second, ethernet.wire(2) as third:
            for wire, host_id in ((second, 2), (third, 3), (second, 2)):
                wire.send(experiment(mac(0), moving))
                await wait_for(partial(is_at, table, moving, host_id))
            here.send(experiment(b"\xff" * 6, moving))
            await wait_for(partial(is_at, table, moving, None))


async def test_the_addresses_of_a_host_that_is_gone_are_forgotten() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        handle, table = ethernet.handles[0], ethernet.tables[0]
        await handle.get_host(2).remove()
        with trio.fail_after(PATIENCE):
            await wait_for(lambda: table.get_addresses(2, trio.current_time()) == ())
        assert table.get_addresses(3, trio.current_time()) == (mac(2),)
        await ethernet.ping(0, 2)


async def test_a_device_that_was_down_carries_on() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        ethernet.places.ip(1, "link", "set", DEVICE, "down")
        with ethernet.wire(0) as sender:
            sender.send(experiment(mac(1), mac(0)))
        await wait_for(lambda: ethernet.taps[1].statistics().refused >= 1)
        ethernet.places.ip(1, "link", "set", DEVICE, "up")
        await ethernet.ping(0, 1)


async def test_the_mtu_follows_that_of_the_handle() -> None:
    async with open_ethernet(follow_mtu=True) as ethernet:
        for mtu in (1500, 1400, 9000, 1000):
            for handle in ethernet.handles:
                handle.mtu = mtu
            for tap, handle in zip(ethernet.taps, ethernet.handles, strict=True):
                fits = max(handle.data_mtu - 14, 1280)
                assert abs(fits - max(mtu, 1280)) < 100
                await wait_for(partial(has_mtu, tap, fits))
            for source, destination in ((0, 1), (1, 2), (2, 0)):
                await ethernet.ping(source, destination, ethernet.taps[source].mtu - 28)


async def test_what_ends_the_handle_ends_the_carrying() -> None:
    with open_places() as places:
        async with open_taps(places, 1) as (tap,), trio.open_nursery() as nursery:
            async with open_handle(1) as handle:
                await nursery.start(carry_frames, tap, handle)
            # The nursery ends by itself.
            with trio.fail_after(PATIENCE):
                while nursery.child_tasks:  # noqa: ASYNC110
                    await trio.sleep(0.01)


async def test_a_device_that_is_deleted_is_told() -> None:
    with open_places() as places:
        async with open_taps(places, 1) as (tap,), open_handle(1) as handle:
            with trio.fail_after(PATIENCE), pytest.raises(ExceptionGroup) as caught:
                async with trio.open_nursery() as nursery:
                    await nursery.start(carry_frames, tap, handle)
                    places.ip(0, "link", "delete", DEVICE)
            assert caught.group_contains(TapError, match="somebody has deleted", depth=1)
            # The channel is free again.
            handle.open_channel(1)


async def test_a_device_that_is_closed_meanwhile_is_told() -> None:
    with open_places() as places:
        async with open_handle(1) as handle, trio.open_nursery() as nursery:
            ended = trio.Event()

            async def carry(*, task_status: trio.TaskStatus[None]) -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await carry_frames(tap, handle, task_status=task_status)
                ended.set()

            async with open_taps(places, 1) as (tap,):
                await nursery.start(carry)
            with trio.fail_after(PATIENCE):
                await ended.wait()


async def test_what_it_cannot_carry_is_said() -> None:
    with open_places() as places:
        async with open_taps(places, 1) as (tap,), open_handle(1) as handle:
            handle.open_channel(3)
            with pytest.raises(BusyError, match="channel 3"):
                await carry_frames(tap, handle, 3)
            with pytest.raises(InvalidArgumentError, match="needs a Tap and a Handle"):
                await carry_frames(7, handle)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_slow_host_holds_up_no_frame_for_another() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        first, _, third = ethernet.taps
        with held(ethernet.handles[0], 2), ethernet.wire(0) as sender:
            before = third.statistics().written
            # More than the host's lane and its queue take.
            for number in range(6000):
                sender.send(experiment(mac(1), mac(0), bytes(1000)))
                if number % 50 == 0:
                    # For all of them, and for the other one.
                    sender.send(experiment(b"\xff" * 6, mac(0)))
                    sender.send(experiment(mac(2), mac(0)))
                    await trio.lowlevel.checkpoint()
            await wait_for(lambda: third.statistics().written >= before + 240)
            assert first.statistics().queue_full > 1000
            await ethernet.ping(0, 2)
            assert ethernet.handles[0].statistics().drops[DropCause.SEND_QUEUE_FULL] == 0
        # What waited goes on.
        await ethernet.ping(0, 1)


async def test_what_waits_for_a_host_is_bounded() -> None:
    queue = FrameQueue()
    assert queue.put([bytes(14)] * 500) == 0
    assert queue.put([bytes(14)] * 100) == 88
    assert len(await queue.take()) == 512
    # Few, but long.
    assert queue.put([bytes(60_000)] * 20) == 2
    assert len(await queue.take()) == 18
    queue.put([b"the last"])
    queue.end()
    assert [await queue.take() for _ in range(3)] == [[b"the last"], [], []]


async def test_a_host_that_comes_back_gets_frames_again() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        handle = ethernet.handles[1]
        (link,) = handle.get_host(1).links.values()
        link.enabled = False
        with trio.fail_after(PATIENCE):
            await ethernet.handles[0].get_host(2).wait_unreachable()
            await wait_for(partial(is_at, ethernet.tables[0], mac(1), None))
            # Nobody waits for it meanwhile.
            await ethernet.ping(0, 2)
            link.enabled = True
            await ethernet.handles[0].get_host(2).wait_reachable()
        await ethernet.ping(0, 1)


async def test_a_flood_of_frames_is_read_in_turns() -> None:
    async with open_ethernet() as ethernet:
        await learn_all(ethernet)
        tap = ethernet.taps[0]
        before = tap.statistics().read
        with ethernet.wire(0) as sender:
            for _ in range(900):
                sender.send(experiment(mac(1), mac(0)))
        steps: list[int] = []
        with trio.fail_after(PATIENCE):
            seen = before
            while seen < before + 900:
                # Every other task runs once between two rounds, so twice between two of these.
                await trio.lowlevel.checkpoint()
                steps.append(tap.statistics().read - seen)
                seen += steps[-1]
        assert max(steps) <= 2 * BATCH
