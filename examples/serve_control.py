"""A host that can be looked into from outside: ``python examples/serve_control.py /tmp/node.sock``.

It has two links to a peer, which runs beside it here. While it runs, in another terminal::

    knet-trio status --socket /tmp/node.sock
    knet-trio top --socket /tmp/node.sock
    knet-trio events --socket /tmp/node.sock

It also offers ``reload``, which is up to the program: here it sets how often the links ping. And it
looks into itself as such a command does. SIGTERM and Ctrl-C end it.
"""

from __future__ import annotations

import argparse
import signal
from typing import Any

import trio

from knet_trio import Handle, Host, InvalidArgumentError, open_handle
from knet_trio.control import connect_control, serve_control

LINKS = [
    (("127.0.0.1", 5427), ("127.0.0.2", 5427)),
    (("127.0.0.1", 5428), ("127.0.0.2", 5428)),
]


async def add_links(host: Host, *, mirrored: bool) -> None:
    """Give a host its links; the peer has the mirror image of ours."""
    for link_id, (here, there) in enumerate(LINKS):
        src, dst = (there, here) if mirrored else (here, there)
        await host.add_link(link_id, src, dst, ping_interval=0.1, pong_count=1)


class Program:
    """What this program does besides messages."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def reload(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Set the ping interval of all links, as a real program would read its file again.

        What is wrong is told to whoever asked, by the library's errors and by those raised here.
        """
        await trio.lowlevel.checkpoint()
        if set(parameters) != {"ping_interval"}:
            raise InvalidArgumentError("reload takes ping_interval, in seconds")
        changed = 0
        for host in self._handle.hosts.values():
            for link in host.links.values():
                config = link.config
                link.set_ping_timers(
                    parameters["ping_interval"], config.pong_timeout, config.latency_samples
                )
                changed += 1
        return {"links": changed}


async def look(path: str) -> None:
    """Do what the command ``knet-trio status`` does, and a little more."""
    async with connect_control(path) as client:
        print(f"process {client.hello.pid} serves host {client.hello.host_id}", flush=True)
        for host in (await client.status()).hosts:
            for link in host.links:
                state = "up" if link.connected else "down"
                print(f"link {link.link_id} to {host.name} is {state}: {link.reason}", flush=True)
        print(f"reloaded: {await client.reload(ping_interval=0.5)}", flush=True)


async def main(path: str) -> None:
    """Serve a handle until a signal comes."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_handle(1) as handle,
            open_handle(2) as peer,
            serve_control(handle, path, reload=Program(handle).reload),
        ):
            await add_links(handle.add_host(2, name="peer"), mirrored=False)
            await add_links(peer.add_host(1), mirrored=True)
            for link in handle.hosts[2].links.values():
                await link.wait_connected()
            await look(path)
            await anext(signals)


parser = argparse.ArgumentParser(description="Serve a handle at a control socket.")
parser.add_argument("socket", help="the path of the socket")
trio.run(main, parser.parse_args().socket)
