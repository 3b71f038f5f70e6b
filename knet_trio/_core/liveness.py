"""The heartbeat of one link: from pings and pongs to up and down.

::

    DOWN --- a pong after `pong_count` counted ones ---> UP
     ^                                                   |
     +--- no pong within the adjusted timeout, or -------+
          this machine says the peer cannot be reached, or
          the network says so, and the peer does not answer

The adjusted timeout is ``pong_timeout * backoff + 2 * latency``. ``backoff`` is 10 when the link is
configured and each time it goes down. It falls by one a second to 1, so that a link that has just
come back does not go down again at its first hiccup.

Long before it goes down, a link can be ``suspect``: a pong is later than the usual round trip and
its variation (smoothed as in RFC 6298) allow, a send has failed since the last ping that was
answered, or the network says that the peer cannot be reached. A suspect link is still up, but
senders that have another link use that one too. Anybody can forge an error of the network:
`inquiry` says how such an error is checked.
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
# A poll this many seconds late shows that this process was not running. Packets that came meanwhile
# have not been read, and there is at least as much time to read them.
STALL: Final = 0.05
# The seconds that a busy machine adds to a round trip now and then.
SUSPECT_SLACK: Final = 0.02


class PongOutcome(enum.Enum):
    """The effect of a pong."""

    COUNTED = enum.auto()
    LATE = enum.auto()
    UNEXPECTED = enum.auto()
    WENT_UP = enum.auto()


class Liveness:
    """The heartbeat of one link. All times are seconds.

    Call ``poll`` when ``deadline`` has come, and send a ping carrying ``ping_time(now)`` when
    ``poll`` says so. Pass the time that each pong brings back to ``pong_received``.

    Args:
        now: The time.
        interval: The time between pings.
        timeout: The time without a pong after which the link is down, before it is adjusted.
        samples: The most round trips that the average latency is made of.
        pong_count: After how many counted pongs one more takes the link up.

    Attributes:
        connected: True if the link is up.
        latency: The average round trip.
        latency_min: The shortest round trip, None before the first.
        latency_max: The longest round trip, None before the first.
        latency_samples: The number of round trips in ``latency``.
        last_pong: When the last pong came in time, None before the first.
        late_pongs: The number of pongs that came later than ``timeout``.
        late_pong: The round trip of the last late pong, None before the first.
        late_at: When the last late pong came, None before the first.
        counted: The number of pongs that have counted towards taking the link up.
        next_ping: When the next scheduled ping is due.
        round_trips: The histogram of the pings that were answered in time. Read only.
        inquiry: The inquiry after an error of the network. Read only.
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
        # The time of the last ping to any place, of the last one to where the link leads, and of
        # the last one that was answered.
        self._newest = self._sent = self._answered = -math.inf
        # The time of the first ping without an answer, and of the last ping before a failed send.
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
        """When to call ``poll`` next, in seconds."""
        due = min(self.next_ping, self.inquiry.deadline)
        if not self.connected or not self._may_go_down(due):
            return due
        return min(due, self._down_at())

    def backoff(self, now: float) -> int:
        """Return the factor of the pong timeout at ``now``."""
        return max(1, INITIAL_BACKOFF - int(now - self._backoff_since))

    def adjusted_timeout(self, now: float) -> float:
        """Return the time without a pong after which the link is down, in seconds."""
        return self.timeout * self.backoff(now) + 2 * self.latency

    def overdue(self, now: float) -> float:
        """Return the seconds since the last pong in time, or since the start before the first."""
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
        """Suspect the link after a failed send, until a ping sent from now on is answered."""
        self._doubted_after = self._newest

    def question(self, now: float, grace: float = 0.0) -> bool:
        """Begin to ask the peer of a link that is up, since the network reports it unreachable.

        The link is suspect until a ping sent from now on is answered, and goes down if none is
        answered in time. ``poll`` says when to send a ping; call ``left`` when it has left.

        Args:
            now: The time in seconds.
            grace: Seconds that the peer has beyond the usual time.

        Returns:
            True if an inquiry begins; False if one is under way, or the link is down.
        """
        if not self.connected:
            return False
        patience = max(PATIENCE, PATIENCE_ROUND_TRIPS * self._smooth) + grace
        if not self.inquiry.report(now, self._newest, patience):
            return False
        self.doubt()
        return True

    def left(self, sent: float, now: float) -> None:
        """Note that the system took the ping of time ``sent`` to where the link leads."""
        self._last_pings.sent(sent, self.timeout)
        if self.inquiry.stage is not InquiryStage.QUIET:
            self.inquiry.asked(now, left=True)

    def found_no_room(self, now: float) -> None:
        """Note that a ping to where the link leads found no room in the socket."""
        self.inquiry.asked(now, left=False)

    def refused(self, now: float) -> None:
        """Note that this machine refused to send a ping to where the link leads."""
        self.inquiry.refused(now)

    def moved(self) -> None:
        """Forget all doubts about the old address, since the link leads elsewhere now."""
        self.inquiry.reset()
        self._doubted_after = None

    def excuse(self, now: float) -> None:
        """Do not count the time since ``deadline`` as silence: this process was not running.

        The peer has as long to answer a new ping as the process was stopped, but no longer than
        ``timeout``. Call this before a ``poll`` that is ``STALL`` seconds behind ``deadline``.
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
            # The peer began to answer and has stopped: the pongs so far do not count.
            self.counted = 0
        return ping_due or asks, went_down

    def poll_calm(self, now: float) -> bool:
        """Do the work of ``poll``, if a ping is due and nothing else can happen until the next one.

        Returns:
            True if a ping is due; False if nothing has changed and ``poll`` must be called.
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

        Links of one interval ping at the same moments, so that a process wakes once for all of
        them. A late call does not delay the next ping; missed pings are not made up for.
        """
        interval = self.interval
        due = math.ceil(now / interval) * interval
        return due + interval if due - now < interval / 2 else due

    def ping_time(self, now: float) -> float:
        """Return the time that a ping sent at ``now`` carries, unlike that of any other ping.

        The ping goes to where the link leads; its pong is awaited.
        """
        self._sent = self.challenge_time(now)
        if self._waiting_since is None:
            self._waiting_since = now
        return self._sent

    def challenge_time(self, now: float) -> float:
        """Return the time that a ping to another place carries; its pong is not awaited."""
        if now <= self._newest:
            now = math.nextafter(self._newest, math.inf)
        self._newest = now
        return now

    def expects(self, now: float, sent: float) -> bool:
        """Return whether a pong that brings back the time ``sent`` would count at ``now``."""
        return self._is_awaited(sent) and now - sent <= self.timeout

    def _is_awaited(self, sent: float) -> bool:
        """Return whether a ping of time ``sent`` was sent, and neither it nor a later one answered.

        Only the times of the last ping and of the last answer are known.
        """
        return self._since <= sent <= self._newest and self._answered < sent

    def pong_received(self, now: float, sent: float) -> PongOutcome:
        """Take a pong into account.

        Args:
            now: The time in seconds.
            sent: The time that the pong brings back: when its ping was sent.

        Returns:
            The effect of the pong.
        """
        latency = now - sent
        if latency < 0.0:
            latency = 0.0
        # On a path that reorders packets, an earlier ping may be answered after a later one.
        if latency <= self.timeout and self._last_pings.answered(sent, latency):
            self.round_trips.add(latency)
        if not self._is_awaited(sent):
            return PongOutcome.UNEXPECTED
        self._answered = sent
        # If several pings are on their way, the next one was sent an interval later.
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
        """Start again: the link is down, pings at once, and has counted no pong."""
        self.fail(now)
        self.last_pong = None
        self.next_ping = now
        self._since = now
        # Answers to earlier pings do not count.
        self._answered = self._newest
        self._waiting_since = self._doubted_after = None
        self._last_pings.clear()

    def set_timers(self, now: float, interval: float, timeout: float, samples: int) -> None:
        """Change the timers of a running link; the next ping is due within the new interval."""
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
        """Return the figures of the last pings, of those sent from ``since`` on."""
        return self._last_pings.figures(since)

    def _may_go_down(self, when: float) -> bool:
        """Return whether the link may be down by ``when``: a quick check that mostly says no."""
        return self.last_pong is None or when >= self.last_pong + self.timeout

    def _down_at(self) -> float:
        return max(self._silence_ends(), self._excused_until)

    def _silence_ends(self) -> float:
        """Return when silence since the last pong takes the link down."""
        last = self._since if self.last_pong is None else self.last_pong
        backoff = self.backoff(last)
        while True:
            # The backoff falls during the silence: each of its steps has its own end.
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
