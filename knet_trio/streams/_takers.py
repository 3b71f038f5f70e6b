"""The takers of streams that other hosts open: listener, request receiver, message receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from knet_trio import BusyError
from knet_trio.streams._core.connection import Connection
from knet_trio.streams._core.stream_state import StreamState
from knet_trio.streams._core.wire import Code, StreamKind
from knet_trio.streams._fair_queue import SWEPT
from knet_trio.streams._stream_user import BOTH

if TYPE_CHECKING:
    from knet_trio.streams._host_pump import HostPump
    from knet_trio.streams.listener import StreamListener
    from knet_trio.streams.messages import MessageReceiver
    from knet_trio.streams.requests import RequestReceiver

    _Held: TypeAlias = dict[HostPump, list[tuple[Connection, StreamState]]]

GRACE: Final = 1.0
"""Seconds after the start in which streams without a taker are held and not refused: a program that
has just started may not have opened its taker yet."""

_CALLS: Final = {
    StreamKind.STREAM: "listener()",
    StreamKind.REQUEST: "requests()",
    StreamKind.MESSAGE: "messages()",
}


class Takers:
    """The takers, at most one for each kind of stream."""

    def __init__(self) -> None:
        self._takers: dict[StreamKind, StreamListener | RequestReceiver | MessageReceiver] = {}
        # Streams that were opened before there was a taker; None after the grace period.
        self._held: _Held | None = {}

    def check(self, kind: StreamKind) -> None:
        """Raise BusyError if there is a taker for this kind of stream."""
        if kind in self._takers:
            raise BusyError(f"{_CALLS[kind]} is open already: leave its block first")

    def set(
        self, kind: StreamKind, taker: StreamListener | RequestReceiver | MessageReceiver
    ) -> None:
        """Register ``taker`` for a kind of stream, and give it the streams that were held."""
        self._takers[kind] = taker
        if self._held:
            held, self._held = self._held, {}
            self._give(held)

    def remove(self, kind: StreamKind) -> None:
        """Remove the taker for a kind of stream."""
        del self._takers[kind]

    def opened(self, pump: HostPump, connection: Connection, state: StreamState) -> None:
        """Give a stream that a host has opened to its taker, hold it, or refuse it."""
        taker = self._takers.get(state.kind)
        if taker is not None:
            taker.offer(pump, connection, state)
        elif self._held is not None:
            self._hold(self._held.setdefault(pump, []), connection, state)
        else:
            reason = f"it has no {_CALLS[state.kind]} open"
            connection.reset(state, BOTH, Code.REFUSED, reason)

    async def end_grace(self) -> None:
        """Wait for the end of the grace period; then refuse streams without a taker."""
        await trio.sleep(GRACE)
        held, self._held = self._held or {}, None
        self._give(held)

    @staticmethod
    def _hold(
        held: list[tuple[Connection, StreamState]], connection: Connection, state: StreamState
    ) -> None:
        held.append((connection, state))
        if len(held) >= SWEPT:
            # At least half of them belong to connections that have ended.
            held[:] = [one for one in held if one[0].failure is None]

    def _give(self, held: _Held) -> None:
        """Give the streams that were held to their takers."""
        for pump, opened in held.items():
            for connection, state in opened:
                self.opened(pump, connection, state)
            pump.flush()
