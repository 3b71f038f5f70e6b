"""Segmentation offload of UDP: many datagrams in one system call, both ways.

UDP_SEGMENT sends one buffer as a train of datagrams of equal size; the last may be shorter. UDP_GRO
receives such trains uncut. On the wire they are plain datagrams, whether or not the peer uses
offload. A kernel or device without offload refuses; then each datagram takes its own call.
Source: man 7 udp, linux/udp.h.
"""

from __future__ import annotations

import functools
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

from knet_trio._core.coupled import Coupled
from knet_trio.address import Address

# The socket module lacks these names.
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

# The most that a kernel takes in one call: UDP_MAX_SEGMENTS of older kernels, and the largest IPv4
# datagram.
MOST_DATAGRAMS: Final = 64
MOST_BYTES: Final = 65507

CROWDED: Final = 10.0
"""The seconds without trains to a destination after a queue on the way to it was full."""
_MOST_CROWDED: Final = 4096

_SIZE_OUT: Final = struct.Struct("=H")
_SIZE_IN: Final = struct.Struct("=i")
ANCILLARY_SIZE: Final = socket.CMSG_SPACE(_SIZE_IN.size)

Ancillary = list[tuple[int, int, bytes]]


def receive_coalesced(sock: socket.socket) -> bool:
    """Receive trains uncut from now on; return False if the kernel cannot do that."""
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def cut_into(size: int) -> Ancillary:
    """Return the ancillary data with which ``sendmsg`` cuts its buffer into ``size`` bytes each."""
    return [(SOL_UDP, UDP_SEGMENT, _SIZE_OUT.pack(size))]


def received_size(ancillary: Ancillary) -> int | None:
    """Return the size of the datagrams in a received train; None for a single datagram."""
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO and len(data) == _SIZE_IN.size:
            return int(_SIZE_IN.unpack(data)[0])
    return None


def train_length(datagrams: Sequence[bytes], start: int) -> int:
    """Return how many of ``datagrams``, from index ``start`` on, can go in one call, at least 1."""
    if isinstance(datagrams, Coupled):
        most = max(1, min(MOST_DATAGRAMS, MOST_BYTES // datagrams.size))
        return min(most, len(datagrams) - start)
    size = len(datagrams[start])
    most = max(1, min(MOST_DATAGRAMS, MOST_BYTES // size)) if size else 1
    sizes = list(map(len, datagrams[start : start + most]))
    if sizes.count(size) == len(sizes):
        return len(sizes)
    length = next(place for place, other in enumerate(sizes) if other != size)
    # A shorter datagram may end the train, but not an empty one.
    return length + 1 if 0 < sizes[length] < size else length


class Crowded:
    """The destinations without trains for a while, since a queue on the way was full.

    If a queue is nearly full, the kernel drops parts of a train without an error. For single
    datagrams it reports an error (ENOBUFS).
    """

    def __init__(self) -> None:
        # Until when there are no trains, on the system's monotonic clock.
        self._until: dict[Address, float] = {}

    def add(self, destination: Address) -> None:
        """Add ``destination``, since a queue on the way to it is full."""
        if len(self._until) >= _MOST_CROWDED:
            self._until.clear()
        self._until[destination] = time.monotonic() + CROWDED

    def __contains__(self, destination: Address) -> bool:
        until = self._until.get(destination)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        del self._until[destination]
        return False
