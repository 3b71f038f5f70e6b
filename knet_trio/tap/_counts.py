"""The mutable counters of a tap."""

from __future__ import annotations

import attrs


@attrs.define
class TapCounts:
    """The counters behind ``TapStatistics``, updated by the device and by ``FrameCarrier``."""

    read: int = 0
    written: int = 0
    to_all: int = 0
    no_host: int = 0
    queue_full: int = 0
    refused: int = 0
    malformed: int = 0
