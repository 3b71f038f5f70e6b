"""Credits: reports of a sink to its source, which has no more messages on their way than a window.

The sink reports the number of messages received after every step, and when it is asked. If credits
do not come, the messages on their way count as lost, and the source goes on.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

# Seconds without a credit after which the source asks; after as many more, messages are lost.
STALL: Final = 0.2
# Seconds that a source waits for its last messages.
DRAIN: Final = 0.6

_CREDIT: Final = b"C"
_PROBE: Final = b"P"
_FORMAT: Final = struct.Struct(">cQQ")

PROBE_MESSAGE: Final = _FORMAT.pack(_PROBE, 0, 0)


def credit_message(host: int, received: int) -> bytes:
    """Return the credit of the sink on ``host`` after ``received`` messages."""
    return _FORMAT.pack(_CREDIT, host, received)


def is_probe(message: bytes) -> bool:
    """Return whether a message asks for a credit."""
    return message[:1] == _PROBE


@attrs.define
class Credits:
    """The state of a source whose messages go to all sinks.

    Attributes:
        window: The largest number of messages on their way.
        sinks: The number of sinks.
        moved_at: When a credit with a greater number came last.
        sent: The number of messages sent.
        given_up: The number of messages that count as lost.
        probed_at: When the source last asked for credits.
    """

    window: int
    sinks: int
    moved_at: float
    sent: int = 0
    given_up: int = 0
    probed_at: float = 0.0
    _received: dict[int, int] = attrs.field(factory=dict[int, int])

    @property
    def in_flight(self) -> int:
        """The number of messages that are on their way to at least one sink."""
        fewest = min(self._received.values()) if len(self._received) == self.sinks else 0
        return max(0, self.sent - self.given_up - fewest)

    @property
    def room(self) -> int:
        """The number of messages that may be sent now."""
        return self.window - self.in_flight

    def take(self, message: bytes, now: float) -> None:
        """Process the credit of a sink; ignore other messages."""
        if len(message) != _FORMAT.size or message[:1] != _CREDIT:
            return
        _, host, received = _FORMAT.unpack(message)
        if received > self._received.get(host, 0):
            self.moved_at = now
        self._received[host] = received

    def must_probe(self, now: float, *, draining: bool) -> bool:
        """Return whether to ask the sinks now; after a question in vain, give messages up."""
        if now - self.moved_at < STALL or now - self.probed_at < STALL:
            return False
        if self.probed_at > self.moved_at and not draining:
            self.given_up += self.in_flight
        self.probed_at = now
        return True
