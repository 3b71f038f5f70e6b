"""Messages for channels that are not open, with which nothing is lost.

The streams of a host greet other hosts, and repeat that; whether those have streams already, they
cannot know. When streams end, packets of others are still on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from knet_trio._core.greeting import is_greeting_untrusted

GREETED: Final = 3.0
"""Seconds in which greetings of a host mean only that it has started. Later ones mean that it waits
for an answer. After such a pause, a greeting is the first again."""

# With more pairs of a channel and a host, all are forgotten: their next greeting is a first one.
_MOST_GREETINGS: Final = 4096


class _LateTaker(NamedTuple):
    """Who takes the late messages of a channel, and until when."""

    take: Callable[[bytes], bool]
    until: float


class _Greetings(NamedTuple):
    """The times of the first and the last greeting of a host."""

    first: float
    last: float


class Unclaimed(NamedTuple):
    """The messages that nobody has taken.

    Attributes:
        lost: The number of messages that are lost.
        greetings: The number of greetings.
    """

    lost: int
    greetings: int


class ClosedChannels:
    """The late messages and the greetings for channels that are not open."""

    def __init__(self) -> None:
        self._late_takers: dict[int, _LateTaker] = {}
        self._greetings: dict[tuple[int, int], _Greetings] = {}

    def keep(self, channel: int, take: Callable[[bytes], bool], until: float) -> None:
        """Have ``take`` called with messages for a channel that was closed.

        The number of the channel is free meanwhile.

        Args:
            channel: The channel.
            take: Returns True if it has counted the message. It must not raise.
            until: The time at which this ends, in seconds.
        """
        self._late_takers[channel] = _LateTaker(take, until)

    def sort_out(self, channel: int, host_id: int, datas: Sequence[bytes], now: float) -> Unclaimed:
        """Return how many messages of a host, for a channel that is not open, are lost."""
        late = self._late_takers.get(channel)
        if late is not None:
            if now < late.until:
                datas = [data for data in datas if not late.take(data)]
            else:
                del self._late_takers[channel]
        greetings = sum(map(is_greeting_untrusted, datas))
        if greetings and self._has_waited(channel, host_id, now):
            greetings = 0
        return Unclaimed(len(datas) - greetings, greetings)

    def _has_waited(self, channel: int, host_id: int, now: float) -> bool:
        """Note a greeting; return whether the host has greeted for longer than ``GREETED``."""
        before = self._greetings.get((channel, host_id))
        if before is None or now - before.last > GREETED:
            before = _Greetings(now, now)
            if len(self._greetings) >= _MOST_GREETINGS:
                self._greetings.clear()
        self._greetings[channel, host_id] = before._replace(last=now)
        return now - before.first > GREETED
