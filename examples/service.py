"""A member of a cluster as a daemon: it ends when it is told to, and says goodbye first.

Each host tells the others how busy it is. Start one in each of two terminals, and end one of them
by Ctrl-C, ``kill`` or systemd::

    head -c 128 /dev/urandom > key
    python examples/service.py key 1=127.0.0.1:5405 2=127.0.0.2:5405
    python examples/service.py key 2=127.0.0.2:5405 1=127.0.0.1:5405

Of the hosts, the first is this one. The exit status is 0 after a signal and 1 after an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import cast

import trio

from knet_trio import Channel, CryptoConfig, KnetError, open_handle


async def report_load(channel: Channel) -> None:
    """Report to the others every second how busy this machine is."""
    while True:
        await channel.send(b"load %.2f" % os.getloadavg()[0])
        await trio.sleep(1)


async def listen(channel: Channel) -> None:
    """Print what the others say."""
    async for message in channel:
        print(f"host {message.source}: {message.data.decode(errors='replace')}", flush=True)


async def serve(me: tuple[int, str], peers: list[tuple[int, str]], crypto: CryptoConfig) -> None:
    """Take part in the cluster until a signal comes."""
    host_id, here = me
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_handle(host_id, crypto=crypto) as handle:
            channel = handle.open_channel(0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, channel)
                nursery.start_soon(report_load, channel)
                for peer_id, there in peers:
                    peer = handle.add_host(peer_id)
                    await peer.add_link(0, here, there, ping_interval=0.2, pong_timeout=1)
                print(f"host {host_id} is running", flush=True)
                number = await anext(signals)
                print(f"host {host_id} ends: {signal.Signals(number).name}", flush=True)
                nursery.cancel_scope.cancel()
            # Our own tasks have ended, but the handle has not: it sends this before it does.
            await channel.send(b"goodbye")


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for one in group.exceptions for leaf in leaves(one)]
    return [error]


def parse_host(text: str) -> tuple[int, str]:
    """Split ``1=127.0.0.1:5405``."""
    host_id, _, address = text.partition("=")
    return int(host_id), address


def main() -> None:
    """Run until a signal or an error."""
    parser = argparse.ArgumentParser(description="Tell the other hosts how busy this one is.")
    parser.add_argument("key", type=Path, help="file with the cluster's key, 128 to 4096 bytes")
    parser.add_argument("me", type=parse_host, metavar="ID=ADDRESS")
    parser.add_argument("peers", type=parse_host, metavar="ID=ADDRESS", nargs="+")
    arguments = parser.parse_args()
    status = 0
    try:
        crypto = CryptoConfig(key=arguments.key.read_bytes())
        trio.run(serve, arguments.me, arguments.peers, crypto)
    except* (KnetError, OSError) as errors:
        for error in leaves(errors):
            print(f"error: {error}", file=sys.stderr)
        # Not sys.exit(1): what is raised in here leaves in a group, as a traceback.
        status = 1
    sys.exit(status)


main()
