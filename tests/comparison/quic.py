"""QUIC by aioquic: each message on one stream of one connection."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

from aioquic.asyncio.client import connect  # pyright: ignore[reportUnknownVariableType]
from aioquic.asyncio.server import serve  # pyright: ignore[reportUnknownVariableType]
from aioquic.quic.configuration import QuicConfiguration

from knet_trio.cli.bench.peer.certificate import make_certificate
from tests.comparison.message import PORT, SIZE, Log, messages, say, wait_word

ALPN: Final = ["knet-trio-comparison"]
_running = set[asyncio.Task[None]]()


def receive_quic(here: str) -> None:
    """Receive until there is a word."""

    async def receive() -> None:
        log = Log()

        async def take(reader: asyncio.StreamReader) -> None:
            while True:
                log.add(await reader.readexactly(SIZE))

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _running.add(asyncio.ensure_future(take(reader)))

        configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN)
        configuration.certificate, configuration.private_key = make_certificate()
        await serve(here, PORT, configuration=configuration, stream_handler=accept)
        say("ready")
        await asyncio.to_thread(wait_word)
        log.report()

    asyncio.run(receive())


def send_quic(there: str, seconds: float) -> None:
    """Send for so many seconds."""

    async def send() -> None:
        configuration = QuicConfiguration(alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
        async with connect(there, PORT, configuration=configuration) as client:
            _, writer = await client.create_stream()
            say("ready")
            await asyncio.to_thread(wait_word)
            for due, message in messages(seconds):
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                writer.write(message)
            say("sent")
            await asyncio.to_thread(wait_word)

    asyncio.run(send())
