"""The numbers of the protocol. ``docs/streams-protocol.md`` has the same, and a test compares them.

Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from typing import Final

# Streams.

INITIAL_CREDIT: Final = 16 * 1024
"""Bytes that may be sent on a stream before the receiver has given credit for it."""
MAX_STREAMS: Final = 1024
"""Streams that the other side may have open at once, those it opened."""
MAX_OFFSET: Final = 2**62
"""No stream has more bytes."""
MAX_REASON: Final = 240
"""Bytes of UTF-8 that say why something is ended."""

# Windows of the receiver, which it chooses freely.

FIRST_WINDOW: Final = 256 * 1024
"""The window of a stream when it is accepted, if the budget has that much."""
MAX_WINDOW: Final = 4 * 1024 * 1024
"""The largest window of a stream."""
WINDOW_BUDGET: Final = 32 * 1024 * 1024
"""What the windows of all streams with a host may add up to, beside the initial credit of each."""
MAX_SEGMENTS: Final = 4096
"""Pieces of a stream that are kept while something before them is missing."""
SEGMENT_CREDIT: Final = 256
"""Bytes of a stream's window for each such piece: no more pieces are kept than go into it."""

# What the sending side holds, which it chooses freely.

MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes that a program may have handed over for a host and that have not arrived: each stream has
room for as many as half of what is left of it."""
MIN_HELD: Final = 64 * 1024
"""Each stream has room for that many bytes, whatever others hold."""

# Packets.

MAX_FRAMES: Final = 64
"""Frames in a packet, at most: all that they set going is done in one go."""
MAX_CHECKED: Final = 16 * 1024
"""Larger packets have no checksum: no network carries them in one piece, only a machine's own
memory does."""

# Acknowledgements.

MAX_ACK_DELAY: Final = 0.01
"""The longest that an acknowledgement is put off."""
ASK_BYTES: Final = 1024 * 1024
"""Bytes after which a sender asks for an acknowledgement, at most."""
ASK_SHARE: Final = 4
"""A sender asks for an acknowledgement after that part of its congestion window."""
MAX_ACK_RANGES: Final = 64
"""Ranges of packet numbers in an acknowledgement, at most."""
MAX_KEPT_RANGES: Final = 256
"""Ranges of received packet numbers that are kept; what is below them counts as received."""
MAX_NUMBER: Final = 2**62
"""No packet has a higher number."""
MAX_JUMP: Final = 2**31
"""How far the number of a packet may be above the highest that has come: a sender would have to
lose that many in a row, and a gap that is larger has no room in an acknowledgement."""

# Loss recovery (RFC 9002).

PACKET_THRESHOLD: Final = 3
"""A packet is lost when one that was sent this many later is acknowledged."""
MAX_PACKET_THRESHOLD: Final = 512
"""As far as that number grows where packets overtake each other."""
TIME_THRESHOLD: Final = 9 / 8
"""A packet is lost when one that was sent later is acknowledged, after this many round trips."""
MAX_TIME_THRESHOLD: Final = 2.0
"""As far as that factor grows where packets overtake each other."""
GRANULARITY: Final = 0.001
"""No timer of loss recovery is shorter."""
INITIAL_RTT: Final = 0.1
"""The round trip before one is measured."""
MAX_PROBE_TIMEOUT: Final = 1.0
"""As far as the probe timeout grows: the heartbeat of the links finds out who is gone."""
PROBES: Final = 2
"""Packets that are sent when the probe timeout is over."""
PERSISTENT: Final = 3
"""Probe timeouts without an acknowledgement after which congestion is persistent."""

# Connections.

HELLO_INTERVAL: Final = 0.1
"""Seconds until a greeting is sent again; twice as many each time."""
MAX_HELLO_INTERVAL: Final = 1.0
"""As far as that grows."""
GREETINGS: Final = 4
"""Greetings to a host that nobody here wants anything of yet."""
KEEPALIVE: Final = 1.0
"""Seconds without a packet that has to be acknowledged, after which a ping is sent while streams
are open; a third of `patience` if that is less."""
STALL: Final = 0.5
"""A poll this late says that this process was not running."""
MAX_REPLIES: Final = 16
"""Replies to packets of no connection that wait to be sent, at most."""
