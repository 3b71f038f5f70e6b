"""A pipe over ZeroMQ, with pyzmq."""

from __future__ import annotations

import zmq

from knet_trio.cli.bench.peer.pipe import WAIT


class ZmqPipe:
    """A PUSH and a PULL socket of ZeroMQ over TCP."""

    def __init__(self, src: str, dst: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pull = self._context.socket(zmq.PULL)
        self._push = self._context.socket(zmq.PUSH)
        self._pull.setsockopt(zmq.RCVTIMEO, round(WAIT * 1000))
        self._push.setsockopt(zmq.LINGER, 0)
        self._pull.bind(f"tcp://{src}")
        self._push.connect(f"tcp://{dst}")

    def send(self, message: bytes) -> None:
        """Pass a message to ZeroMQ's thread."""
        self._push.send(message)

    def receive(self) -> bytes | None:
        """Return a message from ZeroMQ's thread, None if none comes in time."""
        try:
            return self._pull.recv()
        except zmq.Again:
            return None

    def receive_now(self) -> bytes | None:
        """Return a message without waiting, None if there is none."""
        try:
            return self._pull.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close both sockets, and drop messages that were not sent."""
        self._context.destroy(linger=0)
