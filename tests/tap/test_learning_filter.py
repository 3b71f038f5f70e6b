"""The filter that knows addresses, and a tap device that is a data fd."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from knet_trio import (
    Broadcast,
    ChannelError,
    CryptoConfig,
    Direction,
    Drop,
    DropCause,
    FilterPacket,
    Handle,
    Unicast,
)
from knet_trio.tap import LearningFilter, Tap
from tests.cluster import KEY, PATIENCE, open_pair
from tests.drops import counted
from tests.tap.ethernet import DEVICE, Places, experiment, mac, open_places, open_taps, ping, v4

with_taps = pytest.mark.usefixtures("taps")
CHANNEL = 1
BROADCAST = b"\xff" * 6


def sent(frame: bytes, channel: int = CHANNEL) -> FilterPacket:
    return FilterPacket(frame, Direction.TX, 1, 1, channel)


def received(frame: bytes, source: int, channel: int = CHANNEL) -> FilterPacket:
    return FilterPacket(frame, Direction.RX, 1, source, channel)


def test_a_frame_goes_where_its_destination_has_sent_from() -> None:
    now = 0.0
    by_address = LearningFilter(CHANNEL, now=lambda: now)
    to_second = sent(experiment(mac(1), mac(0)))
    assert by_address(to_second) == Broadcast()
    assert by_address(received(experiment(BROADCAST, mac(1)), 2)) == Broadcast()
    assert by_address(to_second) == Unicast((2,))
    assert by_address(sent(experiment(BROADCAST, mac(0)))) == Broadcast()
    # It is seen at another host, then here, then not for long.
    by_address(received(experiment(mac(0), mac(1)), 3))
    assert by_address(to_second) == Unicast((3,))
    by_address(sent(experiment(BROADCAST, mac(1))))
    assert by_address(to_second) == Broadcast()
    by_address(received(experiment(mac(0), mac(1)), 3))
    now = 300.0
    assert by_address(to_second) == Broadcast()
    assert len(by_address.table) == 0


def test_what_this_host_sent_is_not_learnt_from_what_comes_back() -> None:
    by_address = LearningFilter(CHANNEL, now=lambda: 0.0)
    by_address(received(experiment(BROADCAST, mac(0)), 1))
    assert len(by_address.table) == 0


def test_what_is_no_frame_goes_to_all() -> None:
    by_address = LearningFilter(CHANNEL, now=lambda: 0.0)
    for packet in (sent(b"short"), received(b"short", 2)):
        assert by_address(packet) == Broadcast()
    assert len(by_address.table) == 0


def test_other_channels_have_their_own_filter() -> None:
    frame = experiment(BROADCAST, mac(1))
    assert LearningFilter(CHANNEL)(received(frame, 2, CHANNEL + 1)) == Broadcast()
    by_address = LearningFilter(CHANNEL, otherwise=lambda _: Drop())
    assert by_address(sent(frame, CHANNEL + 1)) == Drop()
    assert by_address(received(frame, 2, CHANNEL + 1)) == Drop()
    assert len(by_address.table) == 0


@attrs.frozen
class Cable:
    """Two namespaces, their tap devices, and the handles that these are given to."""

    places: Places
    taps: list[Tap]
    handles: tuple[Handle, Handle]
    filters: list[LearningFilter]


@asynccontextmanager
async def open_cable(crypto: CryptoConfig | None = None) -> AsyncGenerator[Cable]:
    with open_places() as places:
        async with open_taps(places, 2) as taps, open_pair(crypto=crypto) as pair:
            filters: list[LearningFilter] = []
            for handle, tap in zip((pair.a, pair.b), taps, strict=True):
                filters.append(LearningFilter(CHANNEL))
                handle.set_filter(filters[-1])
                handle.add_datafd(tap.fileno(), CHANNEL)
            yield Cable(places, taps, (pair.a, pair.b), filters)


@with_taps
@pytest.mark.parametrize("crypto", [None, CryptoConfig(key=KEY)], ids=["clear", "encrypted"])
async def test_a_ping_crosses(crypto: CryptoConfig | None) -> None:
    async with open_cable(crypto) as cable:
        for _ in range(10):
            await ping(cable.places, 0, 1)
        # The kernel cuts it into frames, and these are longer than a packet of ours.
        await ping(cable.places, 0, 1, 5000)
        assert not any(counted(handle.statistics().drops) for handle in cable.handles)
        first, second = cable.filters
        now = trio.current_time()
        assert first.table.find(mac(1), now) == 2
        assert second.table.find(mac(0), now) == 1


@with_taps
async def test_a_device_that_was_down_carries_on() -> None:
    async with open_cable() as cable, cable.handles[1].events() as events:
        await ping(cable.places, 0, 1)
        cable.places.ip(1, "link", "set", DEVICE, "down")
        with cable.places.socket(0, trio.socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"nobody is at home", (v4(1), 8000))
        assert await channel_error(events) == (Direction.RX, errno.EIO)
        cable.places.ip(1, "link", "set", DEVICE, "up")
        await ping(cable.places, 0, 1)
        assert cable.handles[1].statistics().drops[DropCause.CHANNEL_ERROR] >= 1


@with_taps
async def test_a_device_that_is_deleted_is_told() -> None:
    async with open_cable() as cable, cable.handles[1].events() as events:
        cable.places.ip(1, "link", "delete", DEVICE)
        direction, _ = await channel_error(events)
        assert direction is Direction.TX
        cable.handles[1].remove_datafd(cable.taps[1].fileno())


async def channel_error(events: trio.abc.ReceiveChannel[object]) -> tuple[Direction, int | None]:
    """What the next ChannelError says."""
    with trio.fail_after(PATIENCE):
        while True:
            event = await events.receive()
            if isinstance(event, ChannelError):
                assert event.error is not None
                return event.direction, event.error.errno
