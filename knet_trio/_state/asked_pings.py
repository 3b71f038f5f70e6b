"""Pings that the program asked for, and the tasks that wait for their pongs."""

from __future__ import annotations

import attrs
import trio


@attrs.define(eq=False)
class _AwaitedPong:
    """A pong that a task waits for.

    Attributes:
        over: Set when the pong has come, or when waiting is over.
        seconds: The round trip in seconds, None before the pong.
    """

    over: trio.Event = attrs.field(factory=trio.Event)
    seconds: float | None = None


class AskedPings:
    """The pings of one link that the program waits for."""

    def __init__(self) -> None:
        # By the times that the pings carry, which are all different.
        self._awaited: dict[float, _AwaitedPong] = {}

    def __bool__(self) -> bool:
        return bool(self._awaited)

    async def wait(self, sent: float, patience: float) -> float | None:
        """Wait for the pong to a ping.

        Args:
            sent: The time that the ping carries.
            patience: How long to wait, in seconds.

        Returns:
            The round trip in seconds; None if no pong came in time, or ``give_up`` was called.
        """
        pong = self._awaited[sent] = _AwaitedPong()
        try:
            with trio.move_on_after(patience):
                await pong.over.wait()
        finally:
            del self._awaited[sent]
        return pong.seconds

    def answered(self, sent: float, seconds: float) -> None:
        """Wake the task that waits for the pong to the ping of time ``sent``, if there is one."""
        pong = self._awaited.get(sent)
        if pong is not None and pong.seconds is None:
            pong.seconds = seconds
            pong.over.set()

    def give_up(self) -> None:
        """Wake all tasks that wait, since the link is down."""
        for pong in self._awaited.values():
            pong.over.set()
