"""The timers of a conversation with a host; ``docs/streams-protocol.md`` has the same table."""

from __future__ import annotations

import enum


class StreamTimer(enum.Enum):
    """A timer; its value says what happens when it expires."""

    HELLO = "the greeting is sent again: 0.1 s after the first, twice as long each time, up to 1 s"
    ACK = "an acknowledgement is sent: 10 ms after a packet that has to be acknowledged"
    LOSS = "packets are lost: 9/8 of a round trip after they were sent, if later ones have arrived"
    PROBE = (
        "two probes are sent: the smoothed round trip, four times its variation and 10 ms after"
        " the last packet, twice as long each time, up to 1 s"
    )
    KEEPALIVE = (
        "a ping is sent: 1 s, or a third of `patience` if that is less, after the last packet that"
        " has to be acknowledged"
    )
    SILENCE = (
        "the connection has failed: `patience` seconds after the last packet that has come, or"
        " after the last acknowledgement of something new while something is on its way"
    )
