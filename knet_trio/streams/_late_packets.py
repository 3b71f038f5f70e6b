"""The packets of other hosts that arrive after the streams have ended."""

from __future__ import annotations

from collections import Counter
from typing import Final

from knet_trio.streams._core.conversation import is_of_incarnation
from knet_trio.streams._core.faults import Fault, StreamPacketError
from knet_trio.streams._core.wire_reading import read_header_untrusted

LATE: Final = 3.0
"""Seconds after the end of streams in which their packets are refused as late."""


class LatePackets:
    """Refuses the packets for streams that have ended, and leaves all others.

    Args:
        incarnation: The number that the endpoint drew when it started.
        faults: The counters of refused packets.
    """

    def __init__(self, incarnation: int, faults: Counter[Fault]) -> None:
        self._incarnation = incarnation
        self._faults = faults

    def take(self, data: bytes) -> bool:
        """Count a packet for these streams; return False for any other message."""
        try:
            receiver = read_header_untrusted(data).receiver
        except StreamPacketError:
            return False
        if receiver and not is_of_incarnation(receiver, self._incarnation):
            return False
        self._faults[Fault.NO_CONNECTION] += 1
        return True
