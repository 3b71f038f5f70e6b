"""The counters of a channel's socket, and its log with a rate limit."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Final

import attrs
import trio

from knet_trio._core.rate_limit import FIRST, RateLimiter, Repeated

_LOGGER: Final = logging.getLogger("knet_trio.channel_socket")


@attrs.frozen
class ChannelSocketStatistics:
    """The counters of a channel's socket, from its opening on.

    Attributes:
        clients: Programs that are connected now.
        sent: Messages of programs that the channel took.
        unsent: Messages of programs that wait for the channel; at the end, those that were dropped
            because it had no room.
        received: Messages of other hosts that arrived on the channel, each counted once.
        no_client: Messages dropped because no program was connected, or because a program hung up
            before it read them; the latter count for each program.
        queue_full: Messages dropped because the queue of a program was full, counted for each
            program.
        malformed: Packets of programs that were empty or had more than 65536 bytes.
    """

    clients: int
    sent: int
    unsent: int
    received: int
    no_client: int
    queue_full: int
    malformed: int


@attrs.define
class ChannelSocketCounts:
    """The counters behind ``ChannelSocketStatistics``."""

    sent: int = 0
    unsent: int = 0
    received: int = 0
    no_client: int = 0
    queue_full: int = 0
    malformed: int = 0


class ChannelSocketLog:
    """A log with a rate limit: repeated messages are logged once, then counted."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._repeats: RateLimiter[tuple[int, str]] = RateLimiter()

    def say(self, level: int, what: str, key: Hashable, times: int = 1) -> None:
        """Log an event, or count it if it is a repetition.

        Args:
            level: The level, as in ``logging``.
            what: The message.
            key: Events with the same key are repetitions.
            times: How often the event has happened.
        """
        if self._repeats.first(key, (level, what), trio.current_time(), times):
            _LOGGER.log(level, "[channel %d] %s", self._channel, what)

    async def tell_counts(self) -> None:
        """Log the counts of repeated events, until cancelled."""
        try:
            while True:
                await trio.sleep(FIRST)
                for repeated in self._repeats.due(trio.current_time()):
                    self._write(repeated)
        finally:
            for repeated in self._repeats.end():
                self._write(repeated)

    def _write(self, repeated: Repeated[tuple[int, str]]) -> None:
        level, what = repeated.last
        _LOGGER.log(level, "[channel %d] %s %s", self._channel, what, repeated.text)
