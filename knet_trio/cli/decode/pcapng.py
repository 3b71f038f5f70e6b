"""The format pcapng: a file of blocks, each with its type and its length twice.

::

    block      type u32, length u32, body, length u32
    section    0x0A0D0D0A: byte order u32, version 2 × u16, length i64, options
    interface  1: link type u16, u16, snaplen u32, options (2 name, 9 resolution, 14 offset)
    frame      6: interface u32, time 2 × u32, captured u32, length u32, the bytes, options
    simple     3: length u32, the bytes
    old frame  2: interface u16, drops u16, then as in a frame

Each section has its own byte order and interfaces. Blocks of other types are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import LARGEST_FRAME, Frame

MAGIC: Final = b"\x0a\x0d\x0d\x0a"

_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OLD_FRAME: Final = 2
_SIMPLE: Final = 3
_FRAME: Final = 6

_NAME: Final = 2
_RESOLUTION: Final = 9
_OFFSET: Final = 14

_SMALLEST_BLOCK: Final = 12
_LARGEST_BLOCK: Final = 4 << 20
_SECTION_HEAD: Final = 12
_MOST_INTERFACES: Final = 1024
_SECOND: Final = 1_000_000_000
_ORDERS: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}


class CapturedInterface(NamedTuple):
    """An interface of a section.

    Attributes:
        name: The name of the interface, empty if not in the file.
        link_type: The LINKTYPE of its frames.
        snaplen: The most bytes captured of a frame, 0 for all.
        unit: The unit of times in nanoseconds, as numerator and denominator.
        offset: Nanoseconds to add to each time.
    """

    name: str
    link_type: int
    snaplen: int
    unit: tuple[int, int]
    offset: int


class PcapngFormat:
    """A reader of blocks."""

    def __init__(self) -> None:
        self._order = "<"
        self._interfaces: list[CapturedInterface] = []
        self._time = 0

    def read(self, buffer: bytes, start: int) -> tuple[int, Frame | None] | None:
        """Read the block that begins at ``start``.

        Returns:
            The offset of the next block, and the frame, None for a block of another type; None if
            ``buffer`` ends before.

        Raises:
            CaptureError: The block is damaged.
        """
        if len(buffer) < start + _SECTION_HEAD:
            return None
        if buffer[start : start + 4] == MAGIC:
            self._begin_section(buffer[start + 8 : start + 12])
        kind, size = struct.unpack_from(f"{self._order}II", buffer, start)
        if size < _SMALLEST_BLOCK or size % 4:
            raise CaptureError(f"a block of {size} bytes is not possible")
        if size > _LARGEST_BLOCK:
            raise CaptureError(f"a block of {size} bytes is too large to be valid")
        end = start + size
        if len(buffer) < end:
            return None
        (again,) = struct.unpack_from(f"{self._order}I", buffer, end - 4)
        if again != size:
            raise CaptureError(f"a block of {size} bytes has the size {again} at its end")
        body = buffer[start + 8 : end - 4]
        try:
            return end, self._read_body(kind, body)
        except struct.error:
            raise CaptureError(f"a block of type {kind} has only {size} bytes") from None

    def _begin_section(self, magic: bytes) -> None:
        if magic not in _ORDERS:
            raise CaptureError(f"a section has the unknown byte order 0x{magic.hex()}")
        self._order = _ORDERS[magic]
        self._interfaces = []

    def _read_body(self, kind: int, body: bytes) -> Frame | None:
        if kind == _FRAME:
            number, high, low, captured, length = self._unpack("IIIII", body)
            return self._frame(number, high << 32 | low, body, 20, captured, length)
        if kind == _INTERFACE:
            self._add_interface(body)
        elif kind == _OLD_FRAME:
            number, _, high, low, captured, length = self._unpack("HHIIII", body)
            return self._frame(number, high << 32 | low, body, 20, captured, length)
        elif kind == _SIMPLE:
            (length,) = self._unpack("I", body)
            snaplen = self._interface(0).snaplen or length
            # A simple block has no time.
            return self._frame(0, None, body, 4, min(length, snaplen), length)
        elif kind == _SECTION:
            _, major, minor = self._unpack("IHH", body)
            if major != 1:
                raise CaptureError(f"pcapng version {major}.{minor} is not supported, only 1.x")
        return None

    def _frame(
        self, number: int, time: int | None, body: bytes, start: int, captured: int, length: int
    ) -> Frame:
        interface = self._interface(number)
        if captured > LARGEST_FRAME or start + captured > len(body):
            raise CaptureError(f"a frame of {captured} bytes does not fit into its block")
        if time is not None:
            multiplier, divisor = interface.unit
            self._time = time * multiplier // divisor + interface.offset
        data = body[start : start + captured]
        return Frame(self._time, interface.name, interface.link_type, data, max(captured, length))

    def _interface(self, number: int) -> CapturedInterface:
        if number >= len(self._interfaces):
            raise CaptureError(
                f"a frame is of interface {number}, and only {len(self._interfaces)} are described"
            )
        return self._interfaces[number]

    def _add_interface(self, body: bytes) -> None:
        if len(self._interfaces) == _MOST_INTERFACES:
            raise CaptureError(f"a section has more than {_MOST_INTERFACES} interfaces")
        link_type, _, snaplen = self._unpack("HHI", body)
        name, unit, offset = "", (1000, 1), 0
        for code, value in self._options(body, 8):
            if code == _NAME:
                name = value.rstrip(b"\0").decode(errors="replace")
            elif code == _RESOLUTION and value:
                power = value[0] & 0x7F
                unit = _SECOND, 1 << power if value[0] & 0x80 else 10**power
            elif code == _OFFSET and len(value) == 8:
                (seconds,) = self._unpack("q", value)
                offset = seconds * _SECOND
        self._interfaces.append(CapturedInterface(name, link_type, snaplen, unit, offset))

    def _options(self, body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
        while start + 4 <= len(body):
            code, size = struct.unpack_from(f"{self._order}HH", body, start)
            if code == 0:
                return
            start += 4
            if start + size > len(body):
                raise CaptureError(f"an option of {size} bytes does not fit into its block")
            yield code, body[start : start + size]
            start += (size + 3) // 4 * 4

    def _unpack(self, fields: str, body: bytes) -> tuple[int, ...]:
        return struct.unpack_from(self._order + fields, body)
