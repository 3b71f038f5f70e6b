"""A file is copied while a cable is pulled: ``python examples/copy_file.py SOURCE COPY``."""

from __future__ import annotations

import sys

import trio

from knet_trio import Handle, open_handle
from knet_trio.streams import open_streams


async def send(handle: Handle, path: str) -> None:
    """Send a file to host 2; leaving the block waits until all of it has arrived."""
    async with (
        open_streams(handle, channel=7) as streams,
        await streams.connect(2) as stream,
        await trio.open_file(path, "rb") as file,
    ):
        while part := await file.read(1 << 20):
            await stream.send_all(part)


async def receive(handle: Handle, path: str) -> None:
    """Write a file that another host sends; one that is given up raises an error."""
    async with (
        open_streams(handle, channel=7) as streams,
        streams.listener() as listener,
        await listener.accept() as stream,
        await trio.open_file(path, "wb") as file,
    ):
        async for part in stream:
            await file.write(part)


async def main(source: str, copy: str) -> None:
    """Copy a file from alpha to beta, over two networks of which one fails."""
    async with open_handle(1) as alpha, open_handle(2) as beta:
        to_beta, to_alpha = alpha.add_host(2), beta.add_host(1)
        for number, net in enumerate(("127.0.1", "127.0.2")):
            here, there = (f"{net}.1", 5416), (f"{net}.2", 5416)
            await to_beta.add_link(number, here, there, ping_interval=0.1, pong_timeout=0.5)
            await to_alpha.add_link(number, there, here, ping_interval=0.1, pong_timeout=0.5)
        for host in (to_beta, to_alpha):
            for link in host.links.values():
                await link.wait_connected()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, alpha, source)
            nursery.start_soon(receive, beta, copy)
            await trio.sleep(0.1)
            # The way data goes. It comes to a stop there without a word.
            to_alpha.links[0].enabled = False
        print(f"copied {source} to {copy}, over what was left")


trio.run(main, sys.argv[1], sys.argv[2])
