"""An asyncio program with a handle: Trio is a guest in asyncio's loop, in the same thread.

Lines that clients send over TCP go to the other hosts; what those send goes to all clients::

    python examples/guest.py 8001 1=127.0.0.1:5405 2=127.0.0.2:5405
    python examples/guest.py 8002 2=127.0.0.2:5405 1=127.0.0.1:5405
    nc 127.0.0.1 8001
    nc 127.0.0.1 8002

Of the hosts, the first is this one. SIGTERM and Ctrl-C end it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable

import trio
from outcome import Outcome

from knet_trio import Channel, open_handle

Clients = set[asyncio.StreamWriter]


async def run_guest(main: Callable[[], Awaitable[None]]) -> None:
    """Run a Trio program within the asyncio task that calls this, and cancel it with that."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome[None]] = loop.create_future()
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await main()

    trio.lowlevel.start_guest_run(
        run,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=done.set_result,
        # asyncio learns of signals by the same means as Trio does, and there is only one.
        host_uses_signal_set_wakeup_fd=True,
    )
    try:
        await asyncio.wait([done])
    finally:
        scope.cancel()
        (await done).unwrap()


async def member(
    me: tuple[int, str],
    peers: list[tuple[int, str]],
    clients: Clients,
    leave: trio.CancelScope,
    joined: asyncio.Future[Channel],
) -> None:
    """Take part in the cluster. This is the Trio part: what it awaits is Trio's."""
    host_id, here = me
    async with open_handle(host_id) as handle:
        channel = handle.open_channel(0)
        for peer_id, there in peers:
            await handle.add_host(peer_id).add_link(0, here, there, ping_interval=0.2)
        joined.set_result(channel)
        with leave:
            async for message in channel:
                for client in clients:
                    client.write(b"host %d: %s\n" % (message.source, message.data))


async def serve(port: int, me: tuple[int, str], peers: list[tuple[int, str]]) -> None:
    """Serve clients. This is the asyncio part: what it awaits is asyncio's."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clients: Clients = set()
    leave = trio.CancelScope()
    joined: asyncio.Future[Channel] = loop.create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_guest(lambda: member(me, peers, clients, leave, joined)))
        channel = await joined

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            clients.add(writer)
            try:
                async for line in reader:
                    # Calls without an await may come from both sides. This one raises
                    # trio.WouldBlock, and ends the connection, where 1024 messages wait already.
                    channel.send_nowait(line.rstrip(b"\r\n"))
            finally:
                clients.discard(writer)
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", port)
        print(f"clients connect to port {server.sockets[0].getsockname()[1]}", flush=True)
        await stop.wait()
        server.close()
        for client in clients:
            client.close()
        leave.cancel()


def parse_host(text: str) -> tuple[int, str]:
    """Split ``1=127.0.0.1:5405``."""
    host_id, _, address = text.partition("=")
    return int(host_id), address


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description="Join TCP clients of several hosts.")
    parser.add_argument("port", type=int, help="where clients connect, 0 for any")
    parser.add_argument("me", type=parse_host, metavar="ID=ADDRESS")
    parser.add_argument("peers", type=parse_host, metavar="ID=ADDRESS", nargs="+")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.me, arguments.peers))


main()
