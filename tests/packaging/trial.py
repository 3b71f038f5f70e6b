"""An echo over loopback by an installed knet_trio: `python -I tests/packaging/trial.py`.

It is a program of its own, which imports nothing of the repository.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import trio

import knet_trio
from knet_trio import Channel, CryptoConfig, open_handle

PATIENCE = 30.0


def free_port(address: str) -> int:
    """A port that was free just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


async def echo(channel: Channel) -> None:
    """Send every message back to the host it came from."""
    async for message in channel:
        await channel.send(message.data, to=[message.source])


async def main() -> None:
    """Open two hosts, and have one echo what the other sends."""
    here, there = (("127.0.0.1", free_port("127.0.0.1")), ("127.0.0.2", free_port("127.0.0.2")))
    crypto = CryptoConfig(key=os.urandom(128))
    async with open_handle(1, crypto=crypto) as alpha, open_handle(2, crypto=crypto) as beta:
        await alpha.add_host(2).add_link(0, here, there, ping_interval=0.1)
        await beta.add_host(1).add_link(0, there, here, ping_interval=0.1)
        await alpha.get_host(2).wait_reachable()
        await beta.get_host(1).wait_reachable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, beta.open_channel(0))
            channel = alpha.open_channel(0)
            for data in (b"hello", os.urandom(60000)):
                await channel.send(data, to=[2])
                answer = await channel.receive()
                assert (answer.data, answer.source) == (data, 2)
            nursery.cancel_scope.cancel()


async def run() -> None:
    """Do it within a bounded time."""
    with trio.fail_after(PATIENCE):
        await main()


if __name__ == "__main__":
    place = Path(knet_trio.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"{place} is not the installed one"
    assert version("knet-trio") == knet_trio.__version__
    assert place.with_name("py.typed").exists()
    trio.run(run)
    print(f"knet_trio {knet_trio.__version__}, installed in {sys.prefix}: an echo over loopback")
