"""Reading of a capture in either format, with one record and one chunk in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import Frame
from knet_trio.cli.decode.pcap import HEADER_SIZE, PcapFormat, is_pcap
from knet_trio.cli.decode.pcapng import MAGIC, PcapngFormat

# Compressed files, by their first bytes.
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip: try `gunzip`",
    b"\x28\xb5\x2f\xfd": "zstd: try `unzstd`",
    b"\xfd7zXZ": "xz: try `unxz`",
    b"BZh": "bzip2: try `bunzip2`",
}
_OLD_MAGICS: Final = (b"\xa1\xb2\xcd\x34", b"\x34\xcd\xb2\xa1")


class Capture:
    """Splits the bytes of a capture into frames.

    Attributes:
        frames: The number of frames so far.
        place: The offset of the next record in the file, in bytes.
    """

    def __init__(self) -> None:
        self.frames: int = 0
        self.place: int = 0
        self._format: PcapFormat | PcapngFormat | None = None
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with ``data``, the next bytes of the file.

        Raises:
            CaptureError: The file is damaged or not a capture. The frames before have been yielded.
        """
        buffer = self._rest + data
        start = 0
        if self._format is None:
            if len(buffer) < HEADER_SIZE:
                self._rest = buffer
                return
            start = self._begin(buffer)
            self.place = start
        reader = self._format
        assert reader is not None
        while True:
            try:
                found = reader.read(buffer, start)
            except CaptureError as error:
                raise CaptureError(f"damaged {self._where()}: {error}") from None
            if found is None:
                break
            end, frame = found
            self.place += end - start
            start = end
            if frame is not None:
                self.frames += 1
                yield frame
        self._rest = buffer[start:]

    def finish(self) -> None:
        """Check that the file ends with a complete record.

        Raises:
            CaptureError: The file ends in a record, or is too short to be a capture.
        """
        if self._format is None:
            if not self._rest:
                raise CaptureError("the file is empty")
            self._begin(self._rest)
        if self._rest:
            raise CaptureError(
                f"cut off {self._where()}: {len(self._rest)} bytes are not a complete record"
            )

    def _where(self) -> str:
        return f"after {self.frames} frames, at byte {self.place}"

    def _begin(self, buffer: bytes) -> int:
        """Choose the format by the first bytes; return the offset of the first record."""
        magic = buffer[:4]
        if magic == MAGIC:
            self._format = PcapngFormat()
            return 0
        if not is_pcap(magic):
            raise CaptureError(_what_it_is(buffer))
        if len(buffer) < HEADER_SIZE:
            raise CaptureError(f"cut off in its header, which has {HEADER_SIZE} bytes")
        self._format = PcapFormat(buffer)
        return HEADER_SIZE


def _what_it_is(buffer: bytes) -> str:
    for start, what in _COMPRESSED.items():
        if buffer.startswith(start):
            return f"the file is compressed with {what}"
    if buffer[:4] in _OLD_MAGICS:
        return "this variant of pcap is not supported: convert the file with `editcap`"
    return f"neither pcap nor pcapng: the file begins with 0x{buffer[:4].hex()}"
