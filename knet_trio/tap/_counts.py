"""What became of the frames of a tap, while it is counted."""

from __future__ import annotations

import attrs


@attrs.define
class TapCounts:
    """The counts of a ``TapStatistics``, written by the device and by what carries its frames."""

    read: int = 0
    written: int = 0
    to_all: int = 0
    no_host: int = 0
    queue_full: int = 0
    refused: int = 0
    malformed: int = 0
