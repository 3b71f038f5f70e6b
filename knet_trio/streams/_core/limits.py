"""The constants of the protocol, in bytes and seconds.

``docs/streams-protocol.md`` lists them too; a test compares the two.
"""

from __future__ import annotations

from typing import Final

# Streams.

INITIAL_CREDIT: Final = 16 * 1024
"""Bytes that may be sent on a stream before the receiver gives credit."""
MAX_STREAMS: Final = 1024
"""Streams that the peer may have open at once, counting those it opened."""
MAX_OFFSET: Final = 2**62
"""The largest number of bytes of a stream."""
MAX_REASON: Final = 240
"""The largest reason of an end, in bytes of UTF-8."""

# Windows of the receiver, which may choose them freely.

FIRST_WINDOW: Final = 256 * 1024
"""The window of a stream when it is accepted, if the budget allows."""
MAX_WINDOW: Final = 4 * 1024 * 1024
"""The largest window of a stream."""
WINDOW_BUDGET: Final = 32 * 1024 * 1024
"""The sum of the windows of all streams with a host, without the initial credit of each."""
MAX_SEGMENTS: Final = 4096
"""Segments of a stream that are kept while bytes before them are missing."""
SEGMENT_CREDIT: Final = 256
"""Bytes of a stream's window that are required for each such segment."""

# Send buffers, which the sender may choose freely.

MAX_HELD: Final = 64 * 1024 * 1024
"""The budget for unacknowledged bytes of all streams with a host. A stream may buffer half of the
unused budget."""
MIN_HELD: Final = 64 * 1024
"""Bytes that each stream may buffer, even if the budget is used up."""

# Packets.

MAX_FRAMES: Final = 64
"""The largest number of frames in a packet: they are processed in one turn."""
MAX_CHECKED: Final = 16 * 1024
"""The largest packet with a checksum. Larger ones travel only in a machine's own memory: no network
carries them in one piece."""

# Acknowledgements.

MAX_ACK_DELAY: Final = 0.01
"""The longest delay of an acknowledgement."""
ASK_BYTES: Final = 1024 * 1024
"""Bytes after which a sender asks for an acknowledgement at the latest."""
ASK_SHARE: Final = 4
"""A sender asks for an acknowledgement after its congestion window divided by this number."""
MAX_ACK_RANGES: Final = 64
"""The largest number of packet number ranges after the first in an acknowledgement."""
MAX_KEPT_RANGES: Final = 256
"""Ranges of received packet numbers that are kept; lower numbers count as received."""
MAX_NUMBER: Final = 2**62
"""The highest packet number."""
MAX_JUMP: Final = 2**31
"""The largest jump of a packet number above the highest received: a sender would have to lose that
many packets in a row, and a larger gap does not fit in an acknowledgement."""

# Loss recovery (RFC 9002).

PACKET_THRESHOLD: Final = 3
"""A packet is lost when a packet sent this many packets later is acknowledged."""
MAX_PACKET_THRESHOLD: Final = 512
"""The limit of the packet threshold, which grows where packets overtake each other."""
TIME_THRESHOLD: Final = 9 / 8
"""A packet is lost this many round trips after it was sent, if a later one is acknowledged."""
MAX_TIME_THRESHOLD: Final = 2.0
"""The limit of the time threshold, which grows where packets overtake each other."""
GRANULARITY: Final = 0.001
"""The shortest timer of loss recovery."""
INITIAL_RTT: Final = 0.1
"""The round-trip time before the first measurement."""
MAX_PROBE_TIMEOUT: Final = 1.0
"""The longest probe timeout: the heartbeat of the links detects a host that is gone."""
PROBES: Final = 2
"""Packets that are sent when the probe timeout expires."""
PERSISTENT: Final = 3
"""Congestion is persistent after this many probe timeouts without an acknowledgement."""

# Connections.

HELLO_INTERVAL: Final = 0.1
"""Seconds until a greeting is repeated; the interval doubles each time."""
MAX_HELLO_INTERVAL: Final = 1.0
"""The longest interval between greetings."""
GREETINGS: Final = 4
"""Greetings that are sent to a host while no stream to it is open."""
KEEPALIVE: Final = 1.0
"""Seconds after the last ack-eliciting packet at which a ping is sent while streams are open; a
third of `patience` if that is less."""
STALL: Final = 0.5
"""A poll this many seconds late means that this process was not running."""
MAX_REPLIES: Final = 16
"""The largest number of replies that wait to be sent."""
