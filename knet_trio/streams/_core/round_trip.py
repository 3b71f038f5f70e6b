"""The round-trip estimate of RFC 9002, section 5."""

from __future__ import annotations

import math

from knet_trio.streams._core.limits import GRANULARITY, INITIAL_RTT, MAX_ACK_DELAY


class RoundTripEstimate:
    """The smoothed round-trip time and its variation, in seconds.

    Attributes:
        smooth: The smoothed round-trip time.
        variation: Its mean deviation.
        latest: The last measurement.
        least: The smallest measurement; infinity before the first.
        probe_timeout: The time to wait for an acknowledgement before a probe is sent.
    """

    __slots__ = ("latest", "least", "probe_timeout", "smooth", "variation")

    def __init__(self) -> None:
        self.smooth: float = INITIAL_RTT
        self.latest: float = INITIAL_RTT
        self.variation: float = INITIAL_RTT / 2
        self.least: float = math.inf
        self._set_probe_timeout()

    @property
    def is_measured(self) -> bool:
        """True after the first measurement."""
        return self.least < math.inf

    def measure(self, latest: float, ack_delay: float) -> None:
        """Add a measurement.

        Args:
            latest: The time from the packet to its acknowledgement [seconds].
            ack_delay: The delay of the acknowledgement, as the peer reports it [seconds].
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
        # Stored, as it is read for each packet and changes seldom.
        spread = 4 * self.variation
        if spread < GRANULARITY:
            spread = GRANULARITY
        self.probe_timeout: float = self.smooth + spread + MAX_ACK_DELAY
