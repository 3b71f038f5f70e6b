"""The peer of TCP: Trio's streams over sockets, on request encrypted by TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from knet_trio.cli.bench.peer.certificate import make_certificate
from knet_trio.cli.bench.peer.commands import Answer, Arguments, Command, usage
from knet_trio.cli.bench.peer.streaming import Ask, Handler, Streaming


@asynccontextmanager
async def open_tcp_peer() -> AsyncGenerator[dict[str, Command]]:
    """Open a peer with TCP, and yield its commands."""
    async with trio.open_nursery() as nursery:
        yield {
            "usage": usage,
            "handle": _accept,
            "host": _accept,
            "link": _accept,
            "up": _accept,
            **Streaming(_Tcp(), nursery).commands,
        }
        nursery.cancel_scope.cancel()


class _Tcp:
    """Streams to the address ``at``, with TLS for ``tls=1``."""

    async def connect(self, arguments: Arguments) -> trio.abc.Stream:
        host, port = arguments.address("at")
        if not arguments.integer("tls"):
            return await trio.open_tcp_stream(host, port)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return await trio.open_ssl_over_tcp_stream(
            host, port, https_compatible=True, ssl_context=context
        )

    async def serve(
        self,
        arguments: Arguments,
        handler: Handler,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        host, port = arguments.address("at")
        if not arguments.integer("tls"):
            await trio.serve_tcp(handler, port, host=host, task_status=task_status)
        await trio.serve_ssl_over_tcp(
            handler,
            port,
            _server_context(),
            host=host,
            https_compatible=True,
            task_status=task_status,
        )

    async def answer(
        self,
        arguments: Arguments,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        size = arguments.integer("size", 100)

        async def answer_all(stream: trio.abc.Stream) -> None:
            async with stream:
                while question := await _read(stream, size):
                    await stream.send_all(question)

        await self.serve(arguments, answer_all, task_status=task_status)

    @asynccontextmanager
    async def asking(self, arguments: Arguments) -> AsyncGenerator[Ask]:
        async with await self.connect(arguments) as stream:
            yield partial(_ask, stream)


async def _ask(stream: trio.abc.Stream, question: bytes) -> bytes:
    await stream.send_all(question)
    return await _read(stream, len(question))


async def _read(stream: trio.abc.Stream, size: int) -> bytes:
    """Return ``size`` bytes, or none at the end of the stream."""
    data = bytes(await stream.receive_some(size))
    while data and len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            return b""
        data += more
    return data


def _server_context() -> ssl.SSLContext:
    certificate, key = make_certificate()
    context: Final = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # The module ssl reads both only from files.
    with TemporaryDirectory(prefix="knet-trio-bench-") as folder:
        path = Path(folder, "both.pem")
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        context.load_cert_chain(path)
    return context


async def _accept(arguments: Arguments) -> Answer:
    """Accept commands for handles, hosts and links, which need nothing here."""
    return {"ok": True, "seconds": 0.0, "mtu": 0}
