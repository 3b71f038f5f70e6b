"""What is counted at the socket of a channel, and what is logged of it."""

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
    """What became of the messages of a channel's socket, from its opening on.

    Attributes:
        clients: How many programs are connected now.
        sent: Messages of programs that were handed over to the channel.
        unsent: Messages of programs that are being handed over, at the end those for which there
            was no room in time.
        received: Messages of other hosts that came for the programs here, each counted once.
        no_client: Those of them that nobody was connected for, or that were not read before a
            program hung up; these count for each program.
        queue_full: Messages that a program did not get, since too many waited for it to read.
        malformed: Packets of programs that are no messages: empty, or of more than 65536 bytes.
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
    """Logs what programs can repeat as often as they like: once, and then how many there were."""

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self._repeats: RateLimiter[tuple[int, str]] = RateLimiter()

    def say(self, level: int, what: str, key: Hashable, times: int = 1) -> None:
        """Log that something has happened.

        Args:
            level: That of ``logging``.
            what: In words.
            key: Of one key the first is logged, and then how many there were.
            times: How often it has happened.
        """
        if self._repeats.first(key, (level, what), trio.current_time(), times):
            _LOGGER.log(level, "[channel %d] %s", self._channel, what)

    async def tell_counts(self) -> None:
        """Log how often things were repeated, until cancelled."""
        try:
            while True:
                await trio.sleep(FIRST)
                for repeated in self._repeats.due(trio.current_time()):
                    self._tell(repeated)
        finally:
            for repeated in self._repeats.end():
                self._tell(repeated)

    def _tell(self, repeated: Repeated[tuple[int, str]]) -> None:
        level, what = repeated.last
        _LOGGER.log(level, "[channel %d] %s %s", self._channel, what, repeated.text)
