"""The heartbeat of a link: its pings, and the timeout of their pongs."""

from __future__ import annotations

import math
from collections.abc import Callable

from knet_trio._core.inquiry import InquiryStage
from knet_trio._core.last_pings import PingFigures
from knet_trio._core.liveness import STALL, Liveness, PongOutcome
from knet_trio._state.context import Context
from knet_trio._state.control_output import NO_ROOM, ControlOutput
from knet_trio.abc import Cipher
from knet_trio.address import Address
from knet_trio.config import LinkConfig
from knet_trio.status import LinkCause


class Heartbeat:
    """Sends pings while it runs, and notices when they are not answered.

    Args:
        context: The shared state of the handle.
        config: The settings of the link.
        output: Sends the pings.
        silent: Called with the time, a reason and its cause when no pong has come for too long.
        lapsed: Called when the same happens before the link is up.

    Attributes:
        liveness: The state that follows from the pongs, read only.
        running: True while pings are sent.
        started_at: When the heartbeat was started last, in seconds on Trio's clock.
        refused: True if this machine refused to send the last ping.
    """

    def __init__(
        self,
        context: Context,
        config: LinkConfig,
        output: ControlOutput,
        silent: Callable[[float, str, LinkCause], None],
        lapsed: Callable[[], None],
    ) -> None:
        now = context.now()
        self.liveness: Liveness = Liveness(
            now,
            interval=config.ping_interval,
            timeout=config.pong_timeout,
            samples=config.latency_samples,
            pong_count=config.pong_count,
        )
        self.running: bool = False
        self.started_at: float = now
        self.refused: bool = False
        self._heartbeats = context.heartbeats
        self._output = output
        self._silent = silent
        self._lapsed = lapsed
        # One bound method, so that the schedule finds it quickly.
        self._beat = self.beat
        # When the connection was made, None if there is none or none is needed.
        self._connected_at: float | None = None
        # The report of the network because of which the peer is asked.
        self._report = ""

    @property
    def connected(self) -> bool:
        """True if the link is up by its pongs."""
        return self.liveness.connected

    @property
    def counted(self) -> int:
        """The pongs that have come in a row while the link is down."""
        return self.liveness.counted

    @property
    def doubt_reason(self) -> str | None:
        """The report of the network because of which the peer is being asked, None if none."""
        return self._report if self.liveness.inquiry.active else None

    def start(self, now: float) -> None:
        """Start from the beginning, with a ping at once."""
        self.running = True
        self.started_at = now
        if self._connected_at is not None:
            # The connection was not tested before.
            self._connected_at = now
        self.liveness.restart(now)
        self._heartbeats.set(self._beat, now)

    def stop(self) -> None:
        """Send no more pings."""
        self.running = False
        self._heartbeats.discard(self._beat)

    def fail(self, now: float) -> None:
        """Take the link down, so that pongs are counted from the first one again."""
        self.liveness.fail(now)

    def beat(self, now: float) -> None:
        """Send the ping that is due, and notice silence."""
        if not self.running:
            return
        liveness = self.liveness
        if liveness.poll_calm(now):
            self.ping(now, timed=True)
            # If this machine refused the ping, the next deadline is sooner.
            calm = liveness.inquiry.stage is InquiryStage.QUIET
            self._heartbeats.set(self._beat, liveness.next_ping if calm else liveness.deadline)
            return
        if now - liveness.deadline > STALL:
            liveness.excuse(now)
        inquiry = liveness.inquiry
        if inquiry.is_over(now) and not self._output.drained:
            inquiry.postpone(now)
        asked_for, refused_for = now - inquiry.began_at, now - inquiry.refused_at
        backoff = self.liveness.backoff(now)
        counted = self.liveness.counted
        ping_due, went_down = self.liveness.poll(now)
        if counted and not self.liveness.counted and not went_down:
            self._lapsed()
        if went_down:
            if asked_for > 0:
                cause = LinkCause.UNREACHABLE
                reason = (
                    f"{self._report}, and the peer has not answered a ping for {asked_for:.3f} s"
                )
            elif refused_for > 0:
                cause = LinkCause.REFUSED
                reason = f"{self._report}, and no ping has left it for {refused_for:.3f} s"
            else:
                cause = LinkCause.NO_PONG
                young = (
                    f", {backoff} times pong_timeout as the link is young" if backoff > 1 else ""
                )
                reason = f"no pong for {self.liveness.overdue(now):.3f} s{young}"
            self._silent(now, reason, cause)
        if ping_due:
            self.ping(now, timed=True)
        self._heartbeats.set(self._beat, self.liveness.deadline)

    def ping(self, now: float, *, timed: bool) -> float | None:
        """Send a ping, unless a dynamic link has not learned the address of its peer.

        Args:
            now: The time in seconds.
            timed: True for a scheduled ping, False for a forced one.

        Returns:
            The time that the ping carries; None if it was not sent.
        """
        output, liveness = self._output, self.liveness
        place = output.address.destination
        if place is None or not self._can_send(now):
            return None
        sent = liveness.ping_time(now)
        error = output.ping(sent, place, timed=timed)
        if error is None:
            self.refused = False
            liveness.left(sent, now)
            if timed and liveness.connected:
                output.ping_beside(sent, place)
            return sent
        self.refused = error.errno not in NO_ROOM
        if self.refused:
            liveness.refused(now)
        else:
            liveness.found_no_room(now)
        return None

    def _can_send(self, now: float) -> bool:
        """Return whether there is a connection, or none is needed.

        A connection over which the peer has not answered for too long is closed and made again: it
        may be dead at the other end, which the system notices only after minutes.
        """
        if self._output.fault is not None:
            return False
        liveness = self.liveness
        if liveness.connected or self._connected_at is None:
            return True
        since = max(self._connected_at, liveness.last_pong or -math.inf)
        if now - since <= liveness.adjusted_timeout(now):
            return True
        self.disconnected()
        self._output.reset(f"no pong has come over it for {now - since:.3f} s")
        return self._output.fault is None

    def now_connected(self, now: float) -> None:
        """Send a ping at once, since there is a connection to the peer now."""
        self._connected_at = now
        if self.running:
            self.liveness.next_ping = now
            self._heartbeats.set(self._beat, now)

    def disconnected(self) -> None:
        """Note that there is no connection to the peer any more."""
        self._connected_at = None

    def question(self, now: float, report: str, grace: float) -> bool:
        """Send a ping at once, since the network reports the peer unreachable.

        Args:
            now: The time in seconds.
            report: The report of the network, in words.
            grace: The additional time to answer, in seconds.

        Returns:
            True if the peer is asked because of this, False if it was being asked already.
        """
        if not self.liveness.question(now, grace):
            return False
        self._report = report
        self.beat(now)
        # The link may have gone down with that.
        return self.liveness.inquiry.active

    def moved(self) -> None:
        """Forget reports about the old destination, since the link has a new one."""
        self.liveness.moved()

    def ask(self, place: Address, now: float, answer: Cipher | None) -> None:
        """Send a ping to ``place`` to find out if the peer is there, sealed with ``answer``."""
        self._output.ask(self.liveness.challenge_time(now), place, answer)

    def expects(self, sent: float, now: float) -> bool:
        """Return whether a pong to a ping of time ``sent`` would count now."""
        return self.liveness.expects(now, sent)

    def pong_received(self, sent: float, now: float) -> PongOutcome:
        """Handle the pong to a ping of time ``sent``; return its effect."""
        outcome = self.liveness.pong_received(now, sent)
        if outcome is PongOutcome.WENT_UP:
            # From now on the link can go down. Later pongs only postpone the deadline.
            self._heartbeats.set(self._beat, self.liveness.deadline)
        return outcome

    def suspect(self, now: float) -> bool:
        """Return whether the link may be dead though it is not down yet."""
        return self.liveness.suspect(now)

    def last_pings(self, since: float = -math.inf) -> PingFigures:
        """Return the loss and the round trips of the last pings.

        Args:
            since: Leave out pings that were sent before, in seconds on Trio's clock.
        """
        return self.liveness.last_pings(since)

    def doubt(self) -> None:
        """Suspect the link until a later ping is answered, since sending has failed."""
        self.liveness.doubt()

    def set_timers(self, now: float, config: LinkConfig) -> None:
        """Use the timers of ``config`` from now on."""
        self.liveness.set_timers(
            now, config.ping_interval, config.pong_timeout, config.latency_samples
        )
        if self.running:
            self._heartbeats.set(self._beat, self.liveness.deadline)

    def set_pong_count(self, pong_count: int) -> None:
        """Set the number of pongs after which the next one takes the link up."""
        self.liveness.pong_count = pong_count

    def clear_latency(self) -> None:
        """Start the latency statistics again."""
        self.liveness.clear_latency()
