"""An Ethernet between hosts: a tap device on each, with an MTU that fits the links.

It needs root and the kernel module tun. On two machines that reach each other at 192.0.2.1 and
192.0.2.2, with the same key::

    head -c 128 /dev/urandom > key
    python examples/tap.py knet0 10.88.0.1/24 key 1=192.0.2.1:5405 2=192.0.2.2:5405
    python examples/tap.py knet0 10.88.0.2/24 key 2=192.0.2.2:5405 1=192.0.2.1:5405
    ping 10.88.0.2

Of the hosts, the first is this one. The device goes when the program ends, by SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import trio

from knet_trio import CryptoConfig, open_handle
from knet_trio.tap import carry_frames, make_mac, open_tap


async def join(
    device: str, address: str, key: bytes, me: tuple[int, str], peers: list[tuple[int, str]]
) -> None:
    """Join the device to those of the peers until a signal comes."""
    host_id, here = me
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_tap(device, address=address, mac=make_mac(host_id)) as tap,
            open_handle(host_id, crypto=CryptoConfig(key=key)) as handle,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(carry_frames, tap, handle)
            for peer_id, there in peers:
                await handle.add_host(peer_id).add_link(0, here, there, ping_interval=0.2)
            print(f"{tap.name} is up: {address}, {tap.mac}", flush=True)
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
