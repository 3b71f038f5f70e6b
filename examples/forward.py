"""TCP connections between two hosts over all their networks: HTTP, SSH, databases, anything.

With this, a web server of host 2 is at http://127.0.0.1:8080 of host 1, whatever cable is cut::

    one=1=10.0.0.1:5405,10.1.0.1:5405 two=2=10.0.0.2:5405,10.1.0.2:5405
    python examples/forward.py key $two $one --to 80      # on host 2
    python examples/forward.py key $one $two --at 8080    # on host 1
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from trio.abc import HalfCloseableStream as Stream

from knet_trio import CryptoConfig, open_handle
from knet_trio.streams import open_streams


async def pump(source: Stream, sink: Stream) -> None:
    """Pass on all that comes, and the end."""
    async for part in source:
        await sink.send_all(part)
    await sink.send_eof()


async def join(connect: Callable[[], Awaitable[Stream]], stream: Stream) -> None:
    """Make another connection, and pass everything between it and the stream."""
    try:
        async with stream, await connect() as other, trio.open_nursery() as nursery:
            nursery.start_soon(pump, stream, other)
            nursery.start_soon(pump, other, stream)
    except* (trio.BrokenResourceError, OSError) as errors:
        # That is no trouble of the other connections.
        print(f"a connection failed: {errors.exceptions[0]!r}", flush=True)


async def main(key: bytes, me: str, peer: str, to: int | None, at: int) -> None:
    """Take connections on one side, and make them on the other."""
    (my_id, _, here), (peer_id, _, there) = me.partition("="), peer.partition("=")
    async with open_handle(int(my_id), crypto=CryptoConfig(key=key)) as handle:
        host = handle.add_host(int(peer_id))
        for link, addresses in enumerate(zip(here.split(","), there.split(","), strict=True)):
            await host.add_link(link, *addresses, ping_interval=0.2, pong_timeout=1)
        async with open_streams(handle, channel=7) as streams, streams.listener() as listener:
            if to is not None:
                connect = partial(trio.open_tcp_stream, "127.0.0.1", to)
                await trio.serve_listeners(partial(join, connect), [listener])
            listeners = await trio.open_tcp_listeners(at, host="127.0.0.1")
            print(f"connect to port {listeners[0].socket.getsockname()[1]}", flush=True)
            await trio.serve_listeners(partial(join, partial(streams.connect, host)), listeners)


parser = argparse.ArgumentParser(description="Forward TCP connections to another host.")
parser.add_argument("key", type=lambda path: Path(path).read_bytes())
parser.add_argument("me", metavar="ID=ADDRESS,ADDRESS,…")
parser.add_argument("peer", metavar="ID=ADDRESS,ADDRESS,…")
parser.add_argument("--to", type=int, metavar="PORT", help="where they are made to")
parser.add_argument("--at", type=int, metavar="PORT", help="where they are taken", default=0)
trio.run(partial(main, **vars(parser.parse_args())))
