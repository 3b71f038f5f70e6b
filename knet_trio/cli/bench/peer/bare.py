"""The peer of bare Trio: a UDP socket and no protocol, the lower limit of programs on Trio."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from knet_trio.cli.bench.peer.calls import count_bare
from knet_trio.cli.bench.peer.commands import (
    Answer,
    Arguments,
    Command,
    CommandError,
    cpu_seconds,
    usage,
)
from knet_trio.cli.bench.peer.credits import PROBE_MESSAGE, is_probe
from knet_trio.cli.bench.peer.payload import payload

_DATAGRAM: Final = 65536
_PATIENCE: Final = 1.0
_GREETING: Final = 0.02


@asynccontextmanager
async def open_bare_peer() -> AsyncGenerator[dict[str, Command]]:
    """Open a peer with a UDP socket of Trio, and yield its commands."""
    async with trio.open_nursery() as nursery:
        peer = _BarePeer(nursery)
        yield peer.commands
        nursery.cancel_scope.cancel()
    peer.close()


class _BarePeer:
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._opened: trio.socket.SocketType | None = None
        self._other = ("", 0)
        self.commands: Final[dict[str, Command]] = {
            "usage": usage,
            "handle": self.accept,
            "host": self.accept,
            "link": self.open,
            "up": self.wait_up,
            "echo": self.start_echo,
            "roundtrip": self.round_trip,
            "calls": count_bare,
        }

    @property
    def _socket(self) -> trio.socket.SocketType:
        if self._opened is None:
            raise CommandError("there is no link")
        return self._opened

    def close(self) -> None:
        """Close the socket."""
        if self._opened is not None:
            self._opened.close()

    async def accept(self, arguments: Arguments) -> Answer:
        """Accept ``handle`` and ``host``, which need nothing here."""
        return {"ok": True}

    async def open(self, arguments: Arguments) -> Answer:
        """Carry out ``link``: bind the socket."""
        self._other = arguments.address("dst")
        self._opened = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await self._opened.bind(arguments.address("src"))
        return {"ok": True}

    async def wait_up(self, arguments: Arguments) -> Answer:
        """Carry out ``up``: wait until the other peer is there."""
        while True:
            await self._socket.sendto(PROBE_MESSAGE, self._other)
            with trio.move_on_after(_GREETING):
                await self._socket.recvfrom(_DATAGRAM)
                break
        # The other peer may not have heard this one yet.
        await self._socket.sendto(PROBE_MESSAGE, self._other)
        return {"seconds": 0.0, "mtu": 0}

    async def start_echo(self, arguments: Arguments) -> Answer:
        """Carry out ``echo``: send back the messages that arrive."""
        self._nursery.start_soon(self._echo)
        return {"ok": True}

    async def _echo(self) -> None:
        sock = self._socket
        while True:
            message, source = await sock.recvfrom(_DATAGRAM)
            if not is_probe(message):
                await sock.sendto(message, source)

    async def round_trip(self, arguments: Arguments) -> Answer:
        """Carry out ``roundtrip``: send a message when the one before has come back."""
        sock = self._socket
        message = payload("random", arguments.integer("size", 64))
        cpu, began = cpu_seconds(), time.monotonic()
        until = began + arguments.number("seconds", 1.0)
        samples: list[float] = []
        with trio.move_on_at(trio.current_time() + until - began + _PATIENCE):
            while (sent := time.perf_counter()) and time.monotonic() < until:
                await sock.sendto(message, self._other)
                while (await sock.recvfrom(_DATAGRAM))[0] != message:
                    pass
                samples.append(time.perf_counter() - sent)
        return {
            "lost": int(time.monotonic() > until + _PATIENCE / 2),
            "seconds": time.monotonic() - began,
            "cpu": cpu_seconds() - cpu,
            "samples_us": [round(sample * 1e6, 1) for sample in samples],
        }
