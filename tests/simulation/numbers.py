"""What a host can know of the numbers of another, by what came to it.

Numbers are all that the protocol has to tell a copy from a message. After a window's worth of them
a copy is no longer known for one, and a host that started again uses the old ones anew: whoever did
not hear that it did takes its messages for copies.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

import attrs

from knet_trio.testing import Fate
from tests.simulation.timeline import Timeline
from tests.simulation.witness import Control, Sender, Track

WINDOW: Final = 4096
NUMBERS: Final = 65536


def is_behind(number: int, other: int) -> bool:
    """Whether ``number`` is before ``other``: up to half of all are."""
    return (number - other) % NUMBERS >= NUMBERS // 2


def distance(number: int, other: int) -> int:
    """How far two numbers are from each other."""
    ahead = (number - other) % NUMBERS
    return min(ahead, NUMBERS - ahead)


class _ReceivedPing(NamedTuple):
    at: float
    number: int
    link: int
    timed: bool


def _offset(number: int, reference: int) -> int:
    """How far ``number`` is after ``reference``, less than 0 if it is before."""
    return (number - reference + NUMBERS // 2) % NUMBERS - NUMBERS // 2


def _when(said: tuple[float, ...]) -> float:
    return said[0]


def _counting(pings: Iterable[_ReceivedPing]) -> set[int]:
    """The links that told of messages since one that had done so told of none."""
    links: set[int] = set()
    for ping in pings:
        if ping.timed and ping.number:
            links.add(ping.link)
        elif ping.timed and ping.link in links:
            links = set()
    return links


@attrs.define
class _Heard:
    """Of one life of a host: the numbers of its data, with when they came, and of its pings."""

    data: list[tuple[float, int]] = attrs.field(factory=list[tuple[float, int]])
    pings: list[_ReceivedPing] = attrs.field(factory=list["_ReceivedPing"])
    # Of the pings that are not scheduled.
    forced: list[tuple[float, int]] = attrs.field(factory=list[tuple[float, int]])
    # With each of its data, the newest number of what had come by then.
    newest: list[int] = attrs.field(factory=list[int])

    def sort(self) -> None:
        """Put what was added in its order; it came after what was there before."""
        self.data.sort()
        self.pings.sort()
        self.forced = [(ping.at, ping.number) for ping in self.pings if not ping.timed]
        for _, number in self.data[len(self.newest) :]:
            newest = self.newest[-1] if self.newest else number
            if not is_behind(number, newest) or distance(number, newest) >= WINDOW:
                newest = number
            self.newest.append(newest)

    def newest_before(self, time: float) -> int | None:
        """Return the newest number of the data that came before ``time``, None without any."""
        count = bisect_left(self.data, time, key=_when)
        return self.newest[count - 1] if count else None


class Numbers:
    """Of all hosts, in all their lives."""

    def __init__(self) -> None:
        # By host and listener, then by life.
        self._heard: dict[tuple[int, Sender], dict[int, _Heard]] = defaultdict(
            lambda: defaultdict(_Heard)
        )
        # The last answers: a number, and how far before and after it others were at that time.
        self._spreads: dict[tuple[Sender, Sender, float, float], tuple[int, int, int]] = {}

    def note(
        self,
        tracks: Iterable[Track],
        controls: dict[tuple[Sender, Sender], list[Control]],
        disabled: dict[tuple[int, int, int], Timeline],
    ) -> None:
        """Add what was seen on the network."""
        self._spreads.clear()
        for track in tracks:
            sender = track.sender
            for crossing in track.crossings:
                if crossing.fate is Fate.DELIVERED:
                    heard = self._heard[sender.host, crossing.to][sender.life]
                    heard.data.append((crossing.ended, track.number))
        for (sender, to), packets in controls.items():
            # What comes for a link that is switched off is not looked at.
            heard = self._heard[sender.host, to][sender.life]
            heard.pings += [
                _ReceivedPing(packet.ended, packet.number, packet.link, packet.timed)
                for packet in packets
                if packet.number is not None
                and not disabled[to.host, sender.host, packet.link].at(packet.ended)
            ]
        for lives in self._heard.values():
            for heard in lives.values():
                heard.sort()

    def left_window(
        self, sender: Sender, to: Sender, number: int, begin: float, end: float
    ) -> bool:
        """Whether numbers that a host heard between, and ``number``, are a window apart.

        Then the window began anew for one of them. A scheduled ping does not move the window. The
        newest number of before counts as well, if ``number`` is in the window that ends there: what
        is beyond that window, though near to ``number``, has it begin anew and forget ``number``.
        """
        heard = self._heard[sender.host, to][sender.life]
        spread = self._spreads.get((sender, to, begin, end))
        if spread is None:
            offsets = [
                _offset(each[1], number)
                for said in (heard.data, heard.forced)
                for each in said[
                    bisect_left(said, begin, key=_when) : bisect_right(said, end, key=_when)
                ]
            ]
            low, high = min(offsets, default=0), max(offsets, default=0)
            self._spreads[sender, to, begin, end] = spread = number, low, high
        reference, low, high = spread
        own = _offset(number, reference)
        newest = heard.newest_before(begin)
        if newest is not None and (newest - number) % NUMBERS < WINDOW:
            high = max(high, _offset(newest, reference))
        return max(own, high) - min(own, low) >= WINDOW

    def restarted(self, sender: Sender, to: Sender, begin: float, end: float) -> bool:
        """Whether a host heard of a later life of ``sender`` at some time between."""
        return any(
            begin <= each[0] <= end
            for life, heard in self._heard[sender.host, to].items()
            for said in (heard.data, heard.pings)
            for each in said
            if life > sender.life
        )

    def went_back(self, sender: Sender, to: Sender, number: int, begin: float, end: float) -> bool:
        """Whether a ping that a host heard between told a number from before another one.

        That is ``number``, or one that was heard earlier.
        """
        heard = self._heard[sender.host, to][sender.life]
        newest = number
        said = sorted((*heard.data, *((ping.at, ping.number) for ping in heard.pings)))
        pings = {(ping.at, ping.number) for ping in heard.pings}
        for at, each in said:
            if at > end:
                break
            if not is_behind(each, newest):
                newest = each
            elif at >= begin and (at, each) in pings:
                return True
        return False

    def is_mixed(self, sender: Sender, to: Sender, number: int, end: float) -> bool:
        """Whether something with ``number`` came of an earlier life of ``sender`` after this began.

        It takes the place of a message that has the number now.
        """
        lives = self._heard[sender.host, to]
        own = lives[sender.life]
        began = min((each[0] for said in (own.data, own.pings) for each in said), default=math.inf)
        return any(
            each == number and began <= at <= end
            for life, heard in lives.items()
            if life < sender.life
            for at, each in heard.data
        )

    def is_mistaken(self, sender: Sender, to: Sender, number: int, at: float, lost: float) -> bool:
        """Whether a message that came at ``at`` can only be taken for one of an earlier life.

        ``lost`` is when contact was lost since that life, infinity if it was not. From then on
        numbers that go back tell that the host started again, whenever a 0 where there was none.
        """
        lives = self._heard[sender.host, to]
        earlier = [lives[life] for life in sorted(lives) if life < sender.life]
        if not any(number == other for heard in earlier for _, other in heard.data):
            return False
        newest = [heard.newest[-1] for heard in earlier if heard.data][-1]
        pings = [ping for ping in lives[sender.life].pings if ping.at <= at]
        counting = _counting(ping for heard in earlier for ping in heard.pings)
        if any(ping.timed and ping.number == 0 and ping.link in counting for ping in pings):
            return False
        if lost > at:
            return True
        since = [ping.number for ping in pings if ping.at >= lost]
        if not since:
            # Its data tells as well.
            return not is_behind(number, newest)
        return not any(is_behind(other, newest) for other in since)
