"""A status page beside a handle, by hypercorn, a web server that runs on Trio.

``pip install 'hypercorn[trio]'``, then::

    python examples/web_status.py 8001 1=127.0.0.1:5405 2=127.0.0.2:5405
    python examples/web_status.py 8002 2=127.0.0.2:5405 1=127.0.0.1:5405
    curl -i http://127.0.0.1:8001/

The answer is 200 while all hosts can be reached, else 503, as load balancers and monitors want it.
Of the hosts, the first is this one. SIGTERM and Ctrl-C end it.
"""

from __future__ import annotations

import argparse
import signal
from functools import partial
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]  # a bare `dict`
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    LifespanShutdownCompleteEvent,
    LifespanStartupCompleteEvent,
    Scope,
)

from knet_trio import Handle, open_handle

HEADERS: Final = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


class StatusPage:
    """An ASGI application that shows what a handle knows of its hosts and links.

    The server calls it in tasks of the same Trio program, so it can ask the handle for anything.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request; or take part in the server's own start and end."""
        if scope["type"] == "lifespan":
            await receive()
            await send(LifespanStartupCompleteEvent(type="lifespan.startup.complete"))
            await receive()
            await send(LifespanShutdownCompleteEvent(type="lifespan.shutdown.complete"))
        elif scope["type"] == "http":
            await self._answer(send)

    async def _answer(self, send: ASGISendCallable) -> None:
        reachable = all(host.status.reachable for host in self._handle.hosts.values())
        await send(
            HTTPResponseStartEvent(
                type="http.response.start",
                status=200 if reachable else 503,
                headers=HEADERS,
                trailers=False,
            )
        )
        await send(
            HTTPResponseBodyEvent(
                type="http.response.body",
                body=f"{self._handle.explain()}\n".encode(),
                more_body=False,
            )
        )


async def show(port: int, me: tuple[int, str], peers: list[tuple[int, str]]) -> None:
    """Take part in the cluster, and show how it is, until a signal comes."""
    host_id, here = me
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_handle(host_id) as handle, trio.open_nursery() as nursery:
            for peer_id, there in peers:
                await handle.add_host(peer_id).add_link(0, here, there, ping_interval=0.2)
            # The server has no need of a signal handler of its own: it ends with its nursery.
            urls = await nursery.start(partial(serve, StatusPage(handle), config, mode="asgi"))
            print(f"the status is at {urls[0]}", flush=True)
            await anext(signals)
            nursery.cancel_scope.cancel()


def parse_host(text: str) -> tuple[int, str]:
    """Split ``1=127.0.0.1:5405``."""
    host_id, _, address = text.partition("=")
    return int(host_id), address


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description="Show the state of a cluster as a web page.")
    parser.add_argument("port", type=int, help="of the page, 0 for any")
    parser.add_argument("me", type=parse_host, metavar="ID=ADDRESS")
    parser.add_argument("peers", type=parse_host, metavar="ID=ADDRESS", nargs="+")
    arguments = parser.parse_args()
    trio.run(show, arguments.port, arguments.me, arguments.peers)


main()
