"""How a source learns what has arrived, so that it never has more under way than a window.

The sink says every so many messages how many it has got; it also says so when it is asked. Credits
that stay away mean loss: what is out then counts as lost, and the source goes on.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

# Seconds without a credit after which the source asks, and after as many more gives up.
STALL: Final = 0.2
# Seconds a source waits for its last messages.
DRAIN: Final = 0.6

_CREDIT: Final = b"C"
_PROBE: Final = b"P"
_FORMAT: Final = struct.Struct(">cQQ")

PROBE_MESSAGE: Final = _FORMAT.pack(_PROBE, 0, 0)


def credit_message(host: int, received: int) -> bytes:
    """Return what the sink on ``host`` sends when it has received ``received`` messages."""
    return _FORMAT.pack(_CREDIT, host, received)


def is_probe(message: bytes) -> bool:
    """Return whether a message asks for a credit."""
    return message[:1] == _PROBE


@attrs.define
class Credits:
    """The source's account of ``sinks`` sinks, all of which are to get everything."""

    window: int
    sinks: int
    moved_at: float
    sent: int = 0
    given_up: int = 0
    probed_at: float = 0.0
    _received: dict[int, int] = attrs.field(factory=dict[int, int])

    @property
    def in_flight(self) -> int:
        """Messages that were sent, and neither arrived everywhere nor were given up."""
        fewest = min(self._received.values()) if len(self._received) == self.sinks else 0
        return max(0, self.sent - self.given_up - fewest)

    @property
    def room(self) -> int:
        """The number of messages that may be sent now."""
        return self.window - self.in_flight

    def take(self, message: bytes, now: float) -> None:
        """Take a sink's credit; other messages are ignored."""
        if len(message) != _FORMAT.size or message[:1] != _CREDIT:
            return
        _, host, received = _FORMAT.unpack(message)
        if received > self._received.get(host, 0):
            self.moved_at = now
        self._received[host] = received

    def must_probe(self, now: float, *, draining: bool) -> bool:
        """Return whether to ask the sinks now; what an earlier question did not find is lost."""
        if now - self.moved_at < STALL or now - self.probed_at < STALL:
            return False
        if self.probed_at > self.moved_at and not draining:
            self.given_up += self.in_flight
        self.probed_at = now
        return True
