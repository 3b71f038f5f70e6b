"""An Ethernet between hosts: a tap device as a data fd, with an MTU that fits the links.

It needs root, the kernel module tun and the program ``ip``. On two machines that reach each other
at 192.0.2.1 and 192.0.2.2, with the same key::

    head -c 128 /dev/urandom > key
    python examples/tap.py knet0 10.88.0.1/24 key 1=192.0.2.1:5405 2=192.0.2.2:5405
    python examples/tap.py knet0 10.88.0.2/24 key 2=192.0.2.2:5405 1=192.0.2.1:5405
    ping 10.88.0.2

Of the hosts, the first is this one. The device goes when the program ends, by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from knet_trio import CryptoConfig, Handle, open_handle

# Source: linux/if_tun.h.
TUNSETIFF: Final = 0x400454CA
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000

ETHERNET_HEADER: Final = 14
# IPv6 does not work over less, and the kernel takes its addresses away. A larger frame than goes in
# one packet still arrives: the handle cuts it up.
LEAST_MTU: Final = 1280
# A link that comes up has a small MTU until its path is known, which takes part of a second.
SETTLE: Final = 2.0


@contextmanager
def open_tap(device: str) -> Generator[int]:
    """Make a tap device; it goes with its descriptor, at the end of the block."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        # No packet information: what is read is a frame, and nothing before it.
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
        yield fd
    finally:
        os.close(fd)


async def ip(*arguments: str) -> None:
    """Run the program ``ip``."""
    await trio.run_process(["ip", *arguments])


async def follow_mtu(handle: Handle, device: str) -> None:
    """Keep the device's MTU so that a frame goes in one packet, on whichever link."""
    current = 0
    async with handle.events() as events:
        while True:
            mtu = max(handle.data_mtu - ETHERNET_HEADER, LEAST_MTU)
            # While nobody can be reached, no MTU is better than the last one.
            reachable = any(host.status.reachable for host in handle.hosts.values())
            if mtu != current and (reachable or not current):
                await ip("link", "set", "dev", device, "mtu", str(mtu))
                print(f"{device} has an MTU of {mtu}", flush=True)
                current = mtu
            # Among them is each DataMtuChanged. What follows soon is looked at together with it.
            await events.receive()
            with trio.move_on_after(SETTLE):
                async for _ in events:
                    pass


async def join(
    device: str, address: str, key: bytes, me: tuple[int, str], peers: list[tuple[int, str]]
) -> None:
    """Join the device to those of the peers until a signal comes."""
    host_id, here = me
    with (
        open_tap(device) as fd,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
    ):
        async with (
            open_handle(host_id, crypto=CryptoConfig(key=key)) as handle,
            trio.open_nursery() as nursery,
        ):
            handle.add_datafd(fd, channel=0)
            nursery.start_soon(follow_mtu, handle, device)
            await ip("address", "add", address, "dev", device)
            await ip("link", "set", "dev", device, "up")
            for peer_id, there in peers:
                await handle.add_host(peer_id).add_link(0, here, there, ping_interval=0.2)
            await anext(signals)
            nursery.cancel_scope.cancel()


def parse_host(text: str) -> tuple[int, str]:
    """Split ``1=192.0.2.1:5405``."""
    host_id, _, address = text.partition("=")
    return int(host_id), address


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description="Join tap devices of several hosts.")
    parser.add_argument("device", help="name of the tap device, such as knet0")
    parser.add_argument("address", help="of the device, with the network's length: 10.88.0.1/24")
    parser.add_argument("key", type=Path, help="file with the key, 128 to 4096 bytes")
    parser.add_argument("me", type=parse_host, metavar="ID=ADDRESS")
    parser.add_argument("peers", type=parse_host, metavar="ID=ADDRESS", nargs="+")
    given = parser.parse_args()
    trio.run(join, given.device, given.address, given.key.read_bytes(), given.me, given.peers)


main()
