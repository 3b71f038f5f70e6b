"""A cluster from one file: greet everybody, and take over a new version of the file on SIGHUP.

Start each host in a terminal of its own, in a directory with a copy of ``examples/lab.toml``::

    knet-trio keygen lab.key
    python examples/cluster.py lab.toml alpha
    python examples/cluster.py lab.toml beta
    python examples/cluster.py lab.toml gamma

Then change the file, and send one of them SIGHUP. Where the hosts are machines, none has to be told
which host it is: it finds itself by its addresses.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator

import trio

from knet_trio import Channel, Handle, Host, KnetError
from knet_trio.cluster import open_cluster, reload


async def greet(channel: Channel, host: Host) -> None:
    """Greet a host as soon as it can be reached."""
    await host.wait_reachable()
    await channel.send(b"hello", to=host)


async def listen(channel: Channel, handle: Handle) -> None:
    """Print what the others say."""
    async for message in channel:
        name = handle.get_host(message.source).name
        print(f"{name} says {message.data.decode(errors='replace')}", flush=True)


async def follow(path: str, handle: Handle, signals: AsyncIterator[int]) -> None:
    """Take over the file each time SIGHUP comes, until another signal does.

    What is wrong with the file is said, and harms nobody.
    """
    async for number in signals:
        if number != signal.SIGHUP:
            return
        try:
            print(await reload(handle, path), flush=True)
        except KnetError as error:
            print(error, flush=True)


async def run(path: str, host: str | None) -> None:
    """Take part in the cluster until Ctrl-C or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGHUP, signal.SIGINT, signal.SIGTERM) as signals:
        async with open_cluster(path, host=host) as handle, trio.open_nursery() as nursery:
            channel = handle.open_channel(0)
            nursery.start_soon(listen, channel, handle)
            for other in handle.hosts.values():
                nursery.start_soon(greet, channel, other)
            await follow(path, handle, signals)
            nursery.cancel_scope.cancel()


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(description="Greet the hosts of a cluster.")
    parser.add_argument("file", help="the cluster file")
    parser.add_argument("host", nargs="?", help="which host this is, if its addresses do not tell")
    arguments = parser.parse_args()
    try:
        trio.run(run, arguments.file, arguments.host)
    except KnetError as error:
        sys.exit(str(error))


main()
