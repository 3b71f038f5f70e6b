"""An Ethernet of our own: tap devices in two network namespaces, with two handles for the cable.

The handles are in the test's own process and speak over the loopback, so that everything between
the namespaces has gone through them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Final

import attrs
import pytest
import trio

from knet_trio import ChannelError, CryptoConfig, Direction, DropCause, Handle
from tests.cluster import KEY, PATIENCE, open_pair
from tests.drops import counted
from tests.interop.conftest import need
from tests.interop.namespaces import NamespacePair, namespace_pair, namespaces_missing

TUN: Final = "/dev/net/tun"
DEVICE: Final = "knet0"
# Source: linux/if_tun.h.
TUNSETIFF: Final = 0x400454CA
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000

ADDRESSES: Final = ("10.88.0.1", "10.88.0.2")
PORT: Final = 8000
ECHO_REQUEST: Final = 8
ECHO_REPLY: Final = 0


def open_tap() -> int:
    """Make a tap device in the namespace of this thread; it goes away with its descriptor."""
    fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI))
    except BaseException:
        os.close(fd)
        raise
    return fd


def taps_missing() -> str | None:
    """None when tap devices can be made here, else why not and what to do."""
    missing = namespaces_missing()
    if missing is not None:
        return missing
    try:
        with namespace_pair(0) as namespaces, namespaces.inside(0):
            os.close(open_tap())
    except OSError as error:
        return f"tap devices are refused here ({error}): load the module tun, allow {TUN}"
    return None


@pytest.fixture(scope="module", autouse=True)
def taps() -> None:
    """Every test here has tap devices, or does not run."""
    need(taps_missing())


@attrs.frozen
class Cable:
    """The namespaces, their tap devices, and the handle that each of these is given to."""

    namespaces: NamespacePair
    taps: tuple[int, ...]
    handles: tuple[Handle, Handle]

    def ip(self, side: int, *arguments: str) -> None:
        """Run ``ip`` in a namespace."""
        ip(self.namespaces, side, *arguments)

    def socket(self, side: int, kind: socket.SocketKind, proto: int = 0) -> trio.socket.SocketType:
        """A socket that sees nothing but that namespace."""
        with self.namespaces.inside(side):
            return trio.socket.socket(socket.AF_INET, kind, proto)

    async def ping(self, seq: int, size: int = 56) -> None:
        """Send an echo request from side 0 to side 1 and wait for the answer."""
        data = os.urandom(size)
        with self.socket(0, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            await sock.sendto(echo_request(seq, data), (ADDRESSES[1], 0))
            with trio.fail_after(PATIENCE):
                while True:
                    packet, (source, _) = await sock.recvfrom(65536)
                    # Behind the IP header, whose length is in words.
                    reply = packet[(packet[0] & 15) * 4 :]
                    kind, _, _, _, number = struct.unpack("!BBHHH", reply[:8])
                    if (source, kind, number) == (ADDRESSES[1], ECHO_REPLY, seq):
                        assert reply[8:] == data
                        return


def echo_request(seq: int, data: bytes) -> bytes:
    def header(check: int) -> bytes:
        return struct.pack("!BBHHH", ECHO_REQUEST, 0, check, os.getpid() & 0xFFFF, seq)

    packet = header(0) + data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return header(~total & 0xFFFF) + data


def ip(namespaces: NamespacePair, side: int, *arguments: str) -> None:
    command = ["ip", "-netns", namespaces.names[side], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def open_taps() -> Generator[tuple[NamespacePair, tuple[int, ...]]]:
    """Two namespaces, each with a tap device that has an address and is up."""
    with ExitStack() as stack:
        namespaces = stack.enter_context(namespace_pair(0))
        taps: list[int] = []
        for side, address in enumerate(ADDRESSES):
            with namespaces.inside(side):
                taps.append(open_tap())
            stack.callback(os.close, taps[side])
            # Without the IPv6 that nobody asked for, there is nothing on the cable but the test's.
            ip(namespaces, side, "link", "set", DEVICE, "addrgenmode", "none")
            ip(namespaces, side, "address", "add", f"{address}/24", "dev", DEVICE)
            ip(namespaces, side, "link", "set", DEVICE, "up")
        yield namespaces, tuple(taps)


@asynccontextmanager
async def open_cable(crypto: CryptoConfig | None = None) -> AsyncGenerator[Cable]:
    with open_taps() as (namespaces, taps):
        async with open_pair(crypto=crypto) as pair:
            for handle, tap in zip((pair.a, pair.b), taps, strict=True):
                assert handle.add_datafd(tap).channel == 0
            yield Cable(namespaces, taps, (pair.a, pair.b))


@pytest.mark.parametrize("crypto", [None, CryptoConfig(key=KEY)], ids=["clear", "encrypted"])
async def test_a_ping_crosses(crypto: CryptoConfig | None) -> None:
    async with open_cable(crypto) as cable:
        for seq in range(10):
            await cable.ping(seq)
        # The kernel cuts it into frames, and these are longer than a packet of ours.
        await cable.ping(10, 5000)
        assert not any(counted(cable.handles[side].statistics().drops) for side in (0, 1))


async def test_tcp_crosses_both_ways_at_once() -> None:
    there, back = os.urandom(300_000), os.urandom(200_000)

    async def exchange(stream: trio.SocketStream, data: bytes, expected: bytes) -> None:
        async def send() -> None:
            await stream.send_all(data)
            await stream.send_eof()

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert b"".join([part async for part in stream]) == expected

    async with open_cable() as cable:
        with cable.socket(1, socket.SOCK_STREAM) as listener, trio.fail_after(PATIENCE):
            await listener.bind((ADDRESSES[1], PORT))
            listener.listen()
            client = cable.socket(0, socket.SOCK_STREAM)
            await client.connect((ADDRESSES[1], PORT))
            server, (source, _) = await listener.accept()
            assert source == ADDRESSES[0]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exchange, trio.SocketStream(client), there, back)
                nursery.start_soon(exchange, trio.SocketStream(server), back, there)


async def test_a_device_that_was_down_carries_on() -> None:
    async with open_cable() as cable, cable.handles[1].events() as events:
        await cable.ping(1)
        cable.ip(1, "link", "set", DEVICE, "down")
        with cable.socket(0, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"nobody is at home", (ADDRESSES[1], PORT))
        assert await channel_error(events) == (Direction.RX, errno.EIO)
        cable.ip(1, "link", "set", DEVICE, "up")
        await cable.ping(2)
        assert cable.handles[1].statistics().drops[DropCause.CHANNEL_ERROR] >= 1


async def test_a_device_that_is_deleted_is_told() -> None:
    async with open_cable() as cable, cable.handles[1].events() as events:
        cable.ip(1, "link", "delete", DEVICE)
        direction, _ = await channel_error(events)
        assert direction is Direction.TX
        cable.handles[1].remove_datafd(cable.taps[1])


async def channel_error(events: trio.abc.ReceiveChannel[object]) -> tuple[Direction, int | None]:
    """What the next ChannelError says."""
    with trio.fail_after(PATIENCE):
        while True:
            event = await events.receive()
            if isinstance(event, ChannelError):
                assert event.error is not None
                return event.direction, event.error.errno
