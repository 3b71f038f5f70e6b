"""A pipe over NNG, with pynng."""

from __future__ import annotations

from typing import Final, Protocol, cast

import pynng

from knet_trio.cli.bench.peer.pipe import WAIT

_WAIT_MS: Final = round(WAIT * 1000)
# Each end may dial before the other one listens.
_RECONNECT_MS: Final = 10


class _Socket(Protocol):
    """The types of the methods of pynng's sockets that are used."""

    def send(self, data: bytes) -> None: ...
    def recv(self, block: bool = True) -> bytes: ...
    def close(self) -> None: ...


class NngPipe:
    """A Push0 and a Pull0 socket of NNG over TCP."""

    def __init__(self, src: str, dst: str) -> None:
        self._pull = cast("_Socket", pynng.Pull0(listen=f"tcp://{src}", recv_timeout=_WAIT_MS))
        self._push = cast(
            "_Socket",
            pynng.Push0(dial=f"tcp://{dst}", block_on_dial=False, reconnect_time_min=_RECONNECT_MS),
        )

    def send(self, message: bytes) -> None:
        """Pass a message to NNG's threads."""
        self._push.send(message)

    def receive(self) -> bytes | None:
        """Return a message from NNG's threads, None if none comes in time."""
        try:
            return self._pull.recv()
        except pynng.Timeout:
            return None

    def receive_now(self) -> bytes | None:
        """Return a message without waiting, None if there is none."""
        try:
            return self._pull.recv(block=False)
        except pynng.TryAgain:
            return None

    def close(self) -> None:
        """Close both sockets."""
        self._push.close()
        self._pull.close()
