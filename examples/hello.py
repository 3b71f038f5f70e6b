"""Two hosts in one program, and a message that arrives: ``python examples/hello.py``."""

from __future__ import annotations

import os

import trio

from knet_trio import CryptoConfig, open_handle


async def main() -> None:
    """Send one message from alpha to beta."""
    # Every host of a cluster has the same key; a real one reads it from a file.
    crypto = CryptoConfig(key=os.urandom(128))
    here, there = ("127.0.0.1", 5415), ("127.0.0.2", 5415)
    async with open_handle(1, crypto=crypto) as alpha, open_handle(2, crypto=crypto) as beta:
        inbox = beta.open_channel(0)
        await alpha.add_host(2, name="beta").add_link(0, here, there, ping_interval=0.1)
        await beta.add_host(1, name="alpha").add_link(0, there, here, ping_interval=0.1)
        # A link takes some pongs to come up, each way.
        await alpha.get_host("beta").wait_reachable()
        await beta.get_host("alpha").wait_reachable()
        await alpha.open_channel(0).send(b"hello, beta")
        message = await inbox.receive()
        print(f"host {message.source} says {message.data.decode()!r} on channel {message.channel}")


trio.run(main)
