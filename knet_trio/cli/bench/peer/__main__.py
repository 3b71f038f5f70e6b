"""``python -m knet_trio.cli.bench.peer knet``: a peer, driven over stdin and stdout."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractAsyncContextManager

import trio

from knet_trio.cli.bench.peer.commands import Command, serve


def _open(engine: str) -> AbstractAsyncContextManager[dict[str, Command]]:
    """Open the peer of an engine, with as few imports as possible, since memory is measured."""
    if engine == "knet":
        from knet_trio.cli.bench.peer.knet import open_knet_peer

        return open_knet_peer()
    if engine == "trio":
        from knet_trio.cli.bench.peer.bare import open_bare_peer

        return open_bare_peer()
    if engine == "tcp":
        from knet_trio.cli.bench.peer.tcp import open_tcp_peer

        return open_tcp_peer()
    if engine == "quic":
        from knet_trio.cli.bench.peer.quic import open_quic_peer

        return open_quic_peer()
    if engine == "zmq":
        from knet_trio.cli.bench.peer.zeromq_requests import open_zmq_peer

        return open_zmq_peer()
    from knet_trio.cli.bench.peer.plain import open_plain_peer

    if engine == "udp":
        from knet_trio.cli.bench.peer.udp import UdpPipe

        return open_plain_peer(UdpPipe)
    from knet_trio.cli.bench.peer.nng import NngPipe

    return open_plain_peer(NngPipe)


async def _main(engine: str) -> None:
    async with _open(engine) as commands:
        await serve(commands)


logging.getLogger("knet_trio").addHandler(logging.NullHandler())
trio.run(_main, sys.argv[1])
