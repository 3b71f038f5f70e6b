"""Namespaces that have nothing but a tap device each, and a handle for each device.

The handles are in the test's own process and speak over the loopback, so that everything between
the namespaces has gone through them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import combinations
from typing import ClassVar, Final

import attrs
import trio

from knet_trio import CryptoConfig, Handle, open_handle
from knet_trio.tap import AddressTable, Tap, TapError, carry_frames, open_tap
from tests.cluster import PATIENCE, connect, wait_for
from tests.interop.namespaces import NamespacePair, built, namespaces_missing

DEVICE: Final = "knet0"
ECHO_REQUEST: Final = 8
ECHO_REPLY: Final = 0
# Seconds after which a ping is sent again, since a queue was full on its way.
AGAIN: Final = 1.0
# Of experiments. Source: linux/if_ether.h.
ETH_P_EXPERIMENT: Final = 0x88B5


class Places(NamespacePair):
    """Three namespaces with nothing between them."""

    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    def socket(
        self, side: int, kind: socket.SocketKind, proto: int = 0, family: int = socket.AF_INET
    ) -> trio.socket.SocketType:
        """A socket that sees nothing but that namespace."""
        with self.inside(side):
            return trio.socket.socket(family, kind, proto)


def open_places() -> AbstractContextManager[Places]:
    """Three namespaces; gone when the block ends."""
    return built(Places(0))


async def taps_missing() -> str | None:
    """None when tap devices can be made here, else why not and what to do."""
    missing = namespaces_missing()
    if missing is not None:
        return missing
    try:
        with open_places() as places, places.inside(0):
            async with open_tap(DEVICE):
                return None
    except TapError as error:
        return str(error)


def v4(side: int) -> str:
    """The IPv4 address of a side's device."""
    return f"10.88.0.{side + 1}"


def v6(side: int) -> str:
    """Its IPv6 address."""
    return f"fd88::{side + 1}"


def mac(side: int) -> bytes:
    """Its Ethernet address."""
    return bytes.fromhex(f"0200000000{side + 1:02x}")


@asynccontextmanager
async def open_taps(places: Places, sides: int = 3, **options: int) -> AsyncGenerator[list[Tap]]:
    """A tap device in each namespace, on which nothing is but what the test sends."""
    async with AsyncExitStack() as stack:
        taps: list[Tap] = []
        for side in range(sides):
            # Without the IPv6 that nobody asked for.
            places.run(side, "sysctl", "-q", "-w", "net.ipv6.conf.default.addr_gen_mode=1")
            opening = open_tap(
                DEVICE,
                address=(f"{v4(side)}/24", f"{v6(side)}/64"),
                mac=mac(side).hex(":"),
                **options,
            )
            # No other task runs in the namespace meanwhile: there is none yet.
            with places.inside(side):
                taps.append(await stack.enter_async_context(opening))
        yield taps


@attrs.frozen
class Ethernet:
    """The namespaces; and of each its tap, its handle, and what that knows of addresses."""

    places: Places
    taps: list[Tap]
    handles: list[Handle]
    tables: list[AddressTable]

    def wire(self, side: int) -> socket.socket:
        """A socket that sends and receives frames of experiments at the device."""
        with self.places.inside(side):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setblocking(False)
        sock.bind((DEVICE, ETH_P_EXPERIMENT))
        return sock

    def socket(
        self, side: int, kind: socket.SocketKind, proto: int = 0, family: int = socket.AF_INET
    ) -> trio.socket.SocketType:
        """A socket that sees nothing but that namespace."""
        return self.places.socket(side, kind, proto, family)

    async def ping(self, source: int, destination: int, size: int = 56) -> None:
        """Send an echo request from one side to another, and wait for the answer."""
        await ping(self.places, source, destination, size)


async def ping(places: Places, source: int, destination: int, size: int = 56) -> None:
    """Send echo requests from one side to another until one is answered; one is enough mostly."""
    data = os.urandom(size)
    seq = source * 256 + destination
    with places.socket(source, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        with trio.fail_after(PATIENCE):
            while True:
                await sock.sendto(echo_request(seq, data), (v4(destination), 0))
                with trio.move_on_after(AGAIN):
                    await receive_reply(sock, v4(destination), seq, data)
                    return


async def receive_reply(
    sock: trio.socket.SocketType, source: str, seq: int, expected: bytes
) -> None:
    """Wait for the answer to an echo request."""
    while True:
        packet, (address, _) = await sock.recvfrom(65536)
        # Behind the IP header, whose length is in words.
        reply = packet[(packet[0] & 15) * 4 :]
        kind, _, _, _, number = struct.unpack("!BBHHH", reply[:8])
        if (address, kind, number) == (source, ECHO_REPLY, seq):
            assert reply[8:] == expected
            return


def echo_request(seq: int, data: bytes) -> bytes:
    """A message of ICMP."""

    def header(check: int) -> bytes:
        return struct.pack("!BBHHH", ECHO_REQUEST, 0, check, os.getpid() & 0xFFFF, seq)

    packet = header(0) + data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return header(~total & 0xFFFF) + data


def experiment(destination: bytes, source: bytes, data: bytes = b"") -> bytes:
    """A frame of an experiment, as long as frames have to be."""
    return destination + source + struct.pack("!H", ETH_P_EXPERIMENT) + data.ljust(46, b"\0")


@asynccontextmanager
async def open_ethernet(
    *, crypto: CryptoConfig | None = None, mtu: int | None = None, follow_mtu: bool = False
) -> AsyncGenerator[Ethernet]:
    """Three namespaces joined by three handles that reach each other."""
    with open_places() as places:
        async with open_taps(places) as taps, AsyncExitStack() as stack:
            handles = [
                await stack.enter_async_context(open_handle(side + 1, crypto=crypto, mtu=mtu))
                for side in range(len(taps))
            ]
            tables = [AddressTable() for _ in taps]
            nursery = await stack.enter_async_context(trio.open_nursery())
            for tap, handle, table in zip(taps, handles, tables, strict=True):
                carrying = partial(carry_frames, tap, handle, table=table, follow_mtu=follow_mtu)
                await nursery.start(carrying)
            for a, b in combinations(handles, 2):
                await connect(a, b)
            yield Ethernet(places, taps, handles, tables)
            nursery.cancel_scope.cancel()


async def learn_all(ethernet: Ethernet) -> None:
    """Have each handle know which host has which address."""
    for source, destination in ((0, 1), (1, 2), (2, 0)):
        await ethernet.ping(source, destination)
    for table in ethernet.tables:
        await wait_for(partial(knows, table, 2))


def knows(table: AddressTable, count: int) -> bool:
    """Whether it has that many addresses."""
    return len(table) == count
