"""Pings and pongs to up and down, for one link.

::

    DOWN --- a pong after `pong_count` counted ones ---> UP
     ^                                                   |
     +--- no pong within the adjusted timeout, or -------+
          this machine says the peer cannot be reached, or
          the network does, and the peer does not answer

The adjusted timeout is ``pong_timeout * backoff + 2 * latency``. ``backoff`` is 10 when the link is
configured and each time it goes down, and falls by one a second to 1, so that a link that has
just come back is not declared dead again by its first hiccup.

Long before that a link that is up can be ``suspect``: a pong is later than the usual round trip and
its variation (as RFC 6298 smooths them) allow, or a send has failed since the last ping that was
answered, or the network says that the peer cannot be reached. It is still up; whoever has another
link will use that too. What the network says is anybody's word: `inquiry` has what follows from it.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from knet_trio._core.inquiry import PATIENCE, PATIENCE_ROUND_TRIPS, Inquiry, InquiryStage
from knet_trio._core.last_pings import LastPings, PingFigures
from knet_trio._core.round_trips import RoundTrips

DEFAULT_PING_INTERVAL: Final = 1.0
DEFAULT_PONG_TIMEOUT: Final = 2.0
DEFAULT_LATENCY_SAMPLES: Final = 2048
DEFAULT_PONG_COUNT: Final = 5
INITIAL_BACKOFF: Final = 10
# A poll this many seconds late says that this process was not running. What arrived meanwhile has
# not been looked at, and gets at least as long for that.
STALL: Final = 0.05
# What a busy machine adds to a round trip now and then, in seconds.
SUSPECT_SLACK: Final = 0.02


class PongOutcome(enum.Enum):
    """What a pong meant."""

    COUNTED = enum.auto()
    LATE = enum.auto()
    UNEXPECTED = enum.auto()
    WENT_UP = enum.auto()


class Liveness:
    """The heartbeat of one link. ``interval`` and ``timeout`` are seconds.

    Call ``poll`` when ``deadline`` has come, and send a ping carrying ``ping_time(now)`` when it
    says so; hand the time that each pong brings back to ``pong_received``.

    Attributes:
        inquiry: What is done about an error of the network, to be read only.
        late_pongs: How many pongs came later than ``timeout``.
        late_pong: The round trip of the last of them, None before the first.
        late_at: When that came.
        round_trips: How long the pings took that were answered in time, to be read only.
    """

    def __init__(
        self,
        now: float,
        *,
        interval: float = DEFAULT_PING_INTERVAL,
        timeout: float = DEFAULT_PONG_TIMEOUT,
        samples: int = DEFAULT_LATENCY_SAMPLES,
        pong_count: int = DEFAULT_PONG_COUNT,
    ) -> None:
        self.interval: float = interval
        self.timeout: float = timeout
        self.samples: int = samples
        self.pong_count = pong_count
        self.connected: bool = False
        self.latency: float = 0.0
        self.latency_min: float | None = None
        self.latency_max: float | None = None
        self.latency_samples: int = 0
        self.last_pong: float | None = None
        self.late_pongs: int = 0
        self.late_pong: float | None = None
        self.late_at: float | None = None
        self.counted: int = 0
        self.next_ping: float = now
        # The times of the last ping to wherever, of the last one to where the link leads to, and of
        # the last one that was answered.
        self._newest = self._sent = self._answered = -math.inf
        # When the first ping without an answer was sent, and the last ping before a send failed.
        self._waiting_since: float | None = None
        self._doubted_after: float | None = None
        self._smooth = 0.0
        self._variation = 0.0
        self._backoff_since = now
        self._since = now
        self._excused_until = now
        self._last_pings = LastPings()
        self.round_trips: RoundTrips = RoundTrips()
        self.inquiry: Inquiry = Inquiry()

    @property
    def deadline(self) -> float:
        """When ``poll`` has to be called next."""
        due = min(self.next_ping, self.inquiry.deadline)
        if not self.connected or not self._may_go_down(due):
            return due
        return min(due, self._down_at())

    def backoff(self, now: float) -> int:
        """Return the factor by which the pong timeout is stretched at ``now``."""
        return max(1, INITIAL_BACKOFF - int(now - self._backoff_since))

    def adjusted_timeout(self, now: float) -> float:
        """Return after how many seconds without a pong the link is down."""
        return self.timeout * self.backoff(now) + 2 * self.latency

    def overdue(self, now: float) -> float:
        """Return the seconds since the last pong, or since the start while there was none."""
        return now - (self._since if self.last_pong is None else self.last_pong)

    def suspect(self, now: float) -> bool:
        """Return whether the link may be dead, though it is not yet down."""
        if self._doubted_after is not None:
            return True
        if self._waiting_since is None:
            return False
        patience = self._smooth + max(SUSPECT_SLACK, 4 * self._variation)
        return now - self._waiting_since > patience

    def doubt(self) -> None:
        """Suspect the link, since a send has failed, until a ping from now on is answered."""
        self._doubted_after = self._newest

    def question(self, now: float, grace: float = 0.0) -> bool:
        """Ask the peer of a link that is up whether it is there: the network says that it is not.

        The link is in doubt until a ping from now on is answered, and goes down if none is in time.
        ``poll`` says when to send one; tell ``left`` that it has left.

        Args:
            now: The time in seconds.
            grace: Seconds that the peer has beyond the usual.

        Returns:
            Whether that is news; it is not while the peer is being asked.
        """
        if not self.connected:
            return False
        patience = max(PATIENCE, PATIENCE_ROUND_TRIPS * self._smooth) + grace
        if not self.inquiry.report(now, self._newest, patience):
            return False
        self.doubt()
        return True

    def left(self, sent: float, now: float) -> None:
        """Note that the system took the ping of that time, to where the link leads to."""
        self._last_pings.sent(sent, self.timeout)
        if self.inquiry.stage is not InquiryStage.QUIET:
            self.inquiry.asked(now, left=True)

    def found_no_room(self, now: float) -> None:
        """Note that a ping to where the link leads to found no room in the socket."""
        self.inquiry.asked(now, left=False)

    def refused(self, now: float) -> None:
        """Note that this machine refused to send a ping to where the link leads to."""
        self.inquiry.refused(now)

    def moved(self) -> None:
        """Forget what was said of where the link led to: it leads elsewhere."""
        self.inquiry.reset()
        self._doubted_after = None

    def excuse(self, now: float) -> None:
        """Do not count the time since ``deadline`` as silence: this process was not running.

        The peer has as long to answer a new ping as the process was away, but no longer than
        ``timeout``. Call it before a ``poll`` that is ``STALL`` seconds behind ``deadline``.
        """
        patience = max(STALL, min(now - self.deadline, self.timeout))
        self._excused_until = now + patience + 2 * self.latency
        self.inquiry.excuse(now, self._excused_until)

    def poll(self, now: float) -> tuple[bool, bool]:
        """Return whether a ping is due, and whether the link has just gone down."""
        ping_due = now >= self.next_ping
        if ping_due:
            self.next_ping = self._ping_after(now)
        asks, gone = self.inquiry.poll(now)
        silent = self.connected and self._may_go_down(now) and now >= self._down_at()
        went_down = gone or silent
        if went_down:
            self.fail(now)
        elif self.counted and self.overdue(now) > self.adjusted_timeout(now):
            # A peer that began to answer and does not any more is not on its way up.
            self.counted = 0
        return ping_due or asks, went_down

    def poll_calm(self, now: float) -> bool:
        """Do what ``poll`` does when a ping is due, and by the next one nothing else can be.

        Returns:
            Whether that is so; if not, nothing has changed.
        """
        due, last_pong = self.next_ping, self.last_pong
        if (
            not self.connected
            or not due <= now <= due + STALL
            or last_pong is None
            or self.inquiry.stage is not InquiryStage.QUIET
        ):
            return False
        next_ping = self._ping_after(now)
        if next_ping >= last_pong + self.timeout:
            return False
        self.next_ping = next_ping
        return True

    def _ping_after(self, now: float) -> float:
        """Return when the ping after one at ``now`` is due.

        Links of one interval share the moments of their pings, so that a process wakes once for all
        of them. Whatever the delay of this call, the next is on time; missed ones are not made up
        for.
        """
        interval = self.interval
        due = math.ceil(now / interval) * interval
        return due + interval if due - now < interval / 2 else due

    def ping_time(self, now: float) -> float:
        """Return what a ping sent at ``now`` carries: the time, different from that of any other.

        The ping goes to where the link leads to, and is waited for.
        """
        self._sent = self.challenge_time(now)
        if self._waiting_since is None:
            self._waiting_since = now
        return self._sent

    def challenge_time(self, now: float) -> float:
        """Return the same for a ping to another place, from where no answer is waited for."""
        if now <= self._newest:
            now = math.nextafter(self._newest, math.inf)
        self._newest = now
        return now

    def expects(self, now: float, sent: float) -> bool:
        """Return whether a pong to a ping of that time would count now."""
        return self._is_news(sent) and now - sent <= self.timeout

    def _is_news(self, sent: float) -> bool:
        """Whether a ping of that time was sent, and neither it nor a later one was answered."""
        return self._since <= sent <= self._newest and self._answered < sent

    def pong_received(self, now: float, sent: float) -> PongOutcome:
        """Take the pong to a ping of that time into account, and return what it meant."""
        latency = now - sent
        if latency < 0.0:
            latency = 0.0
        # On a path that changes their order, it may be the answer to one before the last.
        if latency <= self.timeout and self._last_pings.answered(sent, latency):
            self.round_trips.add(latency)
        if not self._is_news(sent):
            return PongOutcome.UNEXPECTED
        self._answered = sent
        # Where several are on their way, the next was sent an interval later.
        self._waiting_since = None if sent >= self._sent else sent + self.interval
        if self._doubted_after is not None and sent > self._doubted_after:
            self._doubted_after = None
        if self.inquiry.stage is not InquiryStage.QUIET:
            self.inquiry.answered(sent)
        if latency > self.timeout:
            self.late_pongs += 1
            self.late_pong, self.late_at = latency, now
            return PongOutcome.LATE
        if self.connected:
            self._sample(latency)
            self.last_pong = now
            return PongOutcome.COUNTED
        if self.overdue(now) > self.adjusted_timeout(now):
            self.counted = 0
        self._sample(latency)
        self.last_pong = now
        if self.counted >= self.pong_count:
            self.connected = True
            return PongOutcome.WENT_UP
        self.counted += 1
        return PongOutcome.COUNTED

    def fail(self, now: float) -> None:
        """Take the link down."""
        self.connected = False
        self.counted = 0
        self._backoff_since = now
        self.inquiry.reset()

    def restart(self, now: float) -> None:
        """Start from the beginning: down, pinging at once, with no pongs counted."""
        self.fail(now)
        self.last_pong = None
        self.next_ping = now
        self._since = now
        # Nobody waits for what was sent before.
        self._answered = self._newest
        self._waiting_since = self._doubted_after = None
        self._last_pings.clear()

    def set_timers(self, now: float, interval: float, timeout: float, samples: int) -> None:
        """Change the timers of a running link; the next ping keeps to the new interval."""
        self.interval = interval
        self.timeout = timeout
        self.samples = samples
        self.next_ping = min(self.next_ping, now + interval)

    def clear_latency(self) -> None:
        """Start the latency statistics again."""
        self.latency_min = self.latency_max = None
        self.latency_samples = 0
        self._last_pings.clear()
        self.round_trips.clear()

    def last_pings(self, since: float = -math.inf) -> PingFigures:
        """Return how many of the last pings, sent since then, were lost, and how long they took."""
        return self._last_pings.figures(since)

    def _may_go_down(self, when: float) -> bool:
        """Whether the link may be down by ``when``; with pongs coming in, no is a quick answer."""
        return self.last_pong is None or when >= self.last_pong + self.timeout

    def _down_at(self) -> float:
        return max(self._silence_ends(), self._excused_until)

    def _silence_ends(self) -> float:
        """When silence since the last pong takes the link down."""
        last = self._since if self.last_pong is None else self.last_pong
        backoff = self.backoff(last)
        while True:
            # The backoff falls while the silence lasts: each step of it has its own end.
            down_at = last + self.timeout * backoff + 2 * self.latency
            if backoff == 1:
                return down_at
            step_ends = self._backoff_since + INITIAL_BACKOFF - backoff + 1
            if down_at < step_ends:
                return down_at
            backoff -= 1
            if last + self.timeout * backoff + 2 * self.latency <= step_ends:
                return step_ends

    def _sample(self, latency: float) -> None:
        self.latency_samples = min(self.latency_samples + 1, self.samples)
        self.latency += (latency - self.latency) / self.latency_samples
        if self._smooth:
            self._variation += (abs(latency - self._smooth) - self._variation) / 4
            self._smooth += (latency - self._smooth) / 8
        else:
            self._smooth, self._variation = latency, latency / 2
        if self.latency_min is None or latency < self.latency_min:
            self.latency_min = latency
        if self.latency_max is None or latency > self.latency_max:
            self.latency_max = latency
