"""The format pcap: a header of 24 bytes, then a record for each frame.

::

    header   magic u32, major u16, minor u16, zone i32, accuracy u32, snaplen u32, link type u32
    record   seconds u32, fraction u32, captured u32, length u32, then the captured bytes

The magic number determines the byte order, and the unit of fractions: micro- or nanoseconds.
"""

from __future__ import annotations

import struct
from typing import Final

from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import LARGEST_FRAME, Frame

HEADER_SIZE: Final = 24
_RECORD_SIZE: Final = 16
_MAJOR: Final = 2
_SECOND: Final = 1_000_000_000

# The first four bytes of a file: the byte order, and the nanoseconds in a fraction's unit.
_MAGICS: Final = {
    struct.pack(f"{order}I", magic): (order, unit)
    for magic, unit in ((0xA1B2C3D4, 1000), (0xA1B23C4D, 1))
    for order in "<>"
}


def is_pcap(magic: bytes) -> bool:
    """Return whether a file that begins with these four bytes has this format."""
    return magic in _MAGICS


class PcapFormat:
    """A reader of records.

    Args:
        header: The first 24 bytes of the file.

    Raises:
        CaptureError: The header is damaged.
    """

    def __init__(self, header: bytes) -> None:
        order, self._unit = _MAGICS[header[:4]]
        major, minor, _, _, _, network = struct.unpack_from(f"{order}HHiIII", header, 4)
        if major != _MAJOR:
            raise CaptureError(
                f"its header has pcap version {major}.{minor}, which does not exist (only"
                f" {_MAJOR}.x): the file is damaged"
            )
        # The upper bits have the size of a checksum at the end of each frame, which is ignored.
        self._link_type = network & 0xFFFF
        self._record = struct.Struct(f"{order}IIII")

    def read(self, buffer: bytes, start: int) -> tuple[int, Frame] | None:
        """Read the record that begins at ``start``.

        Returns:
            The offset of the next record, and the frame; None if ``buffer`` ends before.

        Raises:
            CaptureError: The record is damaged.
        """
        data_start = start + _RECORD_SIZE
        if len(buffer) < data_start:
            return None
        seconds, fraction, captured, length = self._record.unpack_from(buffer, start)
        if captured > LARGEST_FRAME:
            raise CaptureError(f"a frame of {captured} bytes is too large to be valid")
        end = data_start + captured
        if len(buffer) < end:
            return None
        time = seconds * _SECOND + fraction * self._unit
        data = buffer[data_start:end]
        return end, Frame(time, "", self._link_type, data, max(captured, length))
