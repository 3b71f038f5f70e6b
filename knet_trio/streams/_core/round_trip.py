"""The round trip between two hosts, as RFC 9002 (section 5) estimates it."""

from __future__ import annotations

import math

from knet_trio.streams._core.limits import GRANULARITY, INITIAL_RTT, MAX_ACK_DELAY


class RoundTripEstimate:
    """The smoothed round trip and its variation, in seconds.

    Attributes:
        smooth: The smoothed round trip.
        variation: Its mean deviation.
        latest: The last one that was measured.
        least: The shortest one, infinity before the first.
        probe_timeout: How long to wait for an acknowledgement before a probe is sent.
    """

    __slots__ = ("latest", "least", "probe_timeout", "smooth", "variation")

    def __init__(self) -> None:
        self.smooth = self.latest = INITIAL_RTT
        self.variation = INITIAL_RTT / 2
        self.least = math.inf
        self._set_probe_timeout()

    @property
    def is_measured(self) -> bool:
        """Whether there was a measurement."""
        return self.least < math.inf

    def measure(self, latest: float, ack_delay: float) -> None:
        """Take a round trip into account.

        Args:
            latest: Seconds from the packet to its acknowledgement.
            ack_delay: As long the other side says that it put that off.
        """
        self.latest = latest
        if self.least == math.inf:
            self.least = self.smooth = latest
            self.variation = latest / 2
            self._set_probe_timeout()
            return
        if latest < self.least:
            self.least = latest
        if ack_delay > MAX_ACK_DELAY:
            ack_delay = MAX_ACK_DELAY
        adjusted = latest - ack_delay if latest >= self.least + ack_delay else latest
        self.variation += (abs(self.smooth - adjusted) - self.variation) / 4
        self.smooth += (adjusted - self.smooth) / 8
        self._set_probe_timeout()

    def _set_probe_timeout(self) -> None:
        # For each packet it is asked for, and seldom it changes.
        spread = 4 * self.variation
        if spread < GRANULARITY:
            spread = GRANULARITY
        self.probe_timeout = self.smooth + spread + MAX_ACK_DELAY
