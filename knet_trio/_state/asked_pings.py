"""Pings that the program asked for beside those of the heartbeat, and who waits for pongs."""

from __future__ import annotations

import attrs
import trio


@attrs.define(eq=False)
class _AwaitedPong:
    """The pong that somebody waits for.

    Attributes:
        over: Set when it has come, or when nobody has to wait for it any more.
        seconds: The round trip, None while it has not come.
    """

    over: trio.Event = attrs.field(factory=trio.Event)
    seconds: float | None = None


class AskedPings:
    """Those of one link that wait for their pongs."""

    def __init__(self) -> None:
        # By the times that the pings carry, no two of which are the same.
        self._awaited: dict[float, _AwaitedPong] = {}

    def __bool__(self) -> bool:
        return bool(self._awaited)

    async def wait(self, sent: float, patience: float) -> float | None:
        """Wait for the pong to the ping of that time.

        Returns:
            The round trip in seconds; None if none came within ``patience`` seconds, or ``give_up``
            was called.
        """
        pong = self._awaited[sent] = _AwaitedPong()
        try:
            with trio.move_on_after(patience):
                await pong.over.wait()
        finally:
            del self._awaited[sent]
        return pong.seconds

    def answered(self, sent: float, seconds: float) -> None:
        """Note that the ping of that time was answered, if it is one of these."""
        pong = self._awaited.get(sent)
        if pong is not None and pong.seconds is None:
            pong.seconds = seconds
            pong.over.set()

    def give_up(self) -> None:
        """Have nobody wait any more: the link is down."""
        for pong in self._awaited.values():
            pong.over.set()
