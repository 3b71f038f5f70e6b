"""Requests over ZeroMQ: a REQ and a REP socket over TCP, in blocking loops."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
import zmq

from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    cpu_seconds,
)
from knet_trio.cli.bench.peer.payload import payload
from knet_trio.cli.bench.peer.plain import open_plain_peer
from knet_trio.cli.bench.peer.zeromq import ZmqPipe

# Milliseconds to wait for an answer.
_PATIENCE = 5000


@asynccontextmanager
async def open_zmq_peer() -> AsyncGenerator[dict[str, Command]]:
    """Open a peer with ZeroMQ, and yield its commands: those of a pipe, and requests."""
    async with open_plain_peer(ZmqPipe) as commands, trio.open_nursery() as nursery:

        async def answer(arguments: Arguments) -> Answer:
            """Carry out ``answer``: answer each request with its own data."""
            socket = _open(zmq.REP)
            socket.bind(f"tcp://{arguments.text('at')}")
            nursery.start_soon(_answer_in_thread, socket)
            return {"ok": True}

        yield {**commands, "answer": answer, "ask": _ask}
        nursery.cancel_scope.cancel()


def _open(kind: int) -> zmq.Socket[bytes]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    return socket


async def _answer_in_thread(socket: zmq.Socket[bytes]) -> None:
    # When the peer ends, it does not wait for the loop.
    await trio.to_thread.run_sync(_answer_all, socket, abandon_on_cancel=True)


def _answer_all(socket: zmq.Socket[bytes]) -> None:
    while True:
        socket.send(socket.recv())


async def _ask(arguments: Arguments) -> Answer:
    """Carry out ``ask``: send one request after the other for ``seconds``."""
    return await trio.to_thread.run_sync(_ask_on, arguments)


def _ask_on(arguments: Arguments) -> Answer:
    question = payload("random", arguments.integer("size", 100))
    samples: list[float] = []
    socket = _open(zmq.REQ)
    socket.setsockopt(zmq.RCVTIMEO, _PATIENCE)
    socket.connect(f"tcp://{arguments.text('at')}")
    cpu, began = cpu_seconds(), time.monotonic()
    until = began + arguments.number("seconds", 1.0)
    try:
        while (asked := time.perf_counter()) and time.monotonic() < until:
            socket.send(question)
            if socket.recv() != question:
                raise CommandError("an answer was wrong")
            samples.append(time.perf_counter() - asked)
    except zmq.Again as error:
        raise CommandError("no answer came") from error
    finally:
        socket.close()
    return {
        "seconds": time.monotonic() - began,
        "cpu": cpu_seconds() - cpu,
        "samples_us": [round(sample * 1e6, 1) for sample in samples],
    }
