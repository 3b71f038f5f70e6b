"""``examples/tap.py``: two hosts that have an Ethernet between them, over one veth pair."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from knet_trio.tap import make_mac
from tests.cluster import KEY, PATIENCE
from tests.interop.namespaces import NamespacePair, namespace_pair
from tests.network.frames import find_datagram
from tests.ports import free_udp_port
from tests.programs import Program, started

DEVICE: Final = "knet0"
ADDRESSES: Final = ("10.88.0.1", "10.88.0.2")
PORT: Final = 8000
# IPv4 and UDP, within a frame.
HEADERS: Final = 28
# What the kernel wants for IPv6.
LEAST_MTU: Final = 1280
# Source: linux/if_ether.h; the module socket has it from Python 3.14 on.
ETH_P_IP: Final = 0x0800
SOME: Final = 50
# Seconds between looks at what no event tells of.
POLL: Final = 0.05


@attrs.frozen
class Ethernet:
    """The namespaces, the program that runs in each, and the port of their link."""

    namespaces: NamespacePair
    programs: tuple[Program, ...]
    port: int

    async def wait_up(self) -> None:
        """Wait until both have their device."""
        for side, program in enumerate(self.programs):
            address, mac = ADDRESSES[side], make_mac(side + 1)
            await program.line(f"^{DEVICE} is up: {address}/24, {mac}$")

    async def wait_mtu(self, low: int, high: int) -> int:
        """Wait until the MTU of both is the same between ``low`` and ``high``, and return it."""
        with trio.fail_after(PATIENCE):
            while True:
                first, second = self.mtu(0), self.mtu(1)
                if first == second and low < first < high:
                    return first
                await trio.sleep(POLL)

    def mtu(self, side: int) -> int:
        """What the kernel says that it is."""
        said = self.namespaces.run(side, "ip", "-oneline", "link", "show", DEVICE)
        found = re.search(r" mtu (\d+) ", said)
        assert found is not None
        return int(found[1])

    def socket(self, side: int) -> trio.socket.SocketType:
        """A UDP socket in a namespace."""
        with self.namespaces.inside(side):
            return trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def send(self, size: int) -> None:
        """Send datagrams of that many bytes from side 0 to side 1, each when the last is there."""
        with self.socket(0) as sender, self.socket(1) as receiver:
            await receiver.bind((ADDRESSES[1], 0))
            with trio.fail_after(PATIENCE):
                for number in range(SOME):
                    data = number.to_bytes(2) * (size // 2)
                    await sender.sendto(data, receiver.getsockname())
                    assert await receiver.recv(65536) == data

    @contextmanager
    def capture(self) -> Generator[list[int]]:
        """The sizes of all datagrams of the link that come to side 1, known after the block."""
        sizes: list[int] = []
        with self.namespaces.inside(1):
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        with tap:
            tap.bind((NamespacePair.device(0), ETH_P_IP))
            tap.setblocking(False)
            yield sizes
            while True:
                try:
                    frame, (_, _, kind, *_) = tap.recvfrom(65536)
                except BlockingIOError:
                    return
                if kind != socket.PACKET_OUTGOING and find_datagram(frame) is not None:
                    sizes.append(len(frame))


@asynccontextmanager
async def open_ethernet(key: Path) -> AsyncGenerator[Ethernet]:
    """Two hosts on which the example runs."""
    await trio.Path(key).write_bytes(KEY)
    with namespace_pair(1) as namespaces:
        port = free_udp_port()
        hosts = [f"{side + 1}={namespaces.v4(side, 0)}:{port}" for side in (0, 1)]
        async with AsyncExitStack() as stack:
            programs: list[Program] = []
            for side, address in enumerate(ADDRESSES):
                arguments = (DEVICE, f"{address}/24", key, hosts[side], hosts[1 - side])
                within = namespaces.within(side)
                started_here = started("tap.py", *arguments, within=within)
                programs.append(await stack.enter_async_context(started_here))
            yield Ethernet(namespaces, tuple(programs), port)


@pytest.fixture
async def ethernet(tmp_path: Path) -> AsyncGenerator[Ethernet]:
    async with open_ethernet(tmp_path / "key") as ethernet:
        yield ethernet


async def test_a_frame_goes_in_one_packet_and_the_mtu_follows_the_links(ethernet: Ethernet) -> None:
    await ethernet.wait_up()
    # Before it knows better.
    assert ethernet.mtu(0) == ethernet.mtu(1) == LEAST_MTU
    first = await ethernet.wait_mtu(LEAST_MTU, 1500)
    with ethernet.capture() as sizes:
        await ethernet.send(first - HEADERS)
    # The cipher fills up blocks of 16 bytes.
    largest = max(sizes)
    assert 1500 - 16 < largest - 14 <= 1500
    assert sizes.count(largest) == SOME
    # Nothing but heartbeats beside them.
    assert all(size < 200 for size in sizes if size != largest)

    ethernet.namespaces.set_mtu(0, 1400)
    # A packet that is too large now starts the search; it, and what goes meanwhile, may be lost.
    with ethernet.socket(0) as sender:
        await sender.sendto(bytes(first - HEADERS), (ADDRESSES[1], PORT))
    with ethernet.socket(1) as sender:
        await sender.sendto(bytes(first - HEADERS), (ADDRESSES[0], PORT))
    lower = await ethernet.wait_mtu(first - 100 - 16, first - 100 + 16)
    with ethernet.capture() as sizes:
        await ethernet.send(lower - HEADERS)
    assert sizes.count(max(sizes)) == SOME


async def test_what_needs_several_packets_arrives_too(ethernet: Ethernet) -> None:
    await ethernet.wait_up()
    await ethernet.wait_mtu(LEAST_MTU, 1500)
    ethernet.namespaces.set_mtu(0, 1000)
    with ethernet.socket(0) as sender:
        await sender.sendto(bytes(1300), (ADDRESSES[1], PORT))
    with ethernet.socket(1) as sender:
        await sender.sendto(bytes(1300), (ADDRESSES[0], PORT))
    # IPv6 would be gone with less.
    await ethernet.wait_mtu(LEAST_MTU - 1, LEAST_MTU + 1)
    await ethernet.send(LEAST_MTU - HEADERS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_device_goes_with_the_program(ethernet: Ethernet, number: int) -> None:
    await ethernet.wait_up()
    for program in ethernet.programs:
        program.signal(number)
        assert await program.status() == 0, program.said
        assert "Traceback" not in program.said
    for side in (0, 1):
        assert DEVICE not in ethernet.namespaces.run(side, "ip", "-oneline", "link", "show")
