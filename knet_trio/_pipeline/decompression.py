"""Opening compressed messages, which come from anybody who can send data."""

from __future__ import annotations

import time
from typing import NamedTuple

from knet_trio._compress import Decompressors
from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._state.context import Context
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause, PacketError


class Opened(NamedTuple):
    """A decompressed message, its size before, and how many seconds it took."""

    data: bytes
    size: int
    elapsed: float


class Decompression:
    """What opens messages, whatever this host itself compresses with."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decompressors = Decompressors()

    def find(self, wire_id: int, host_id: int, times: int = 1) -> Compressor | None:
        """Return what opens messages of that algorithm; count ``times`` of them if nothing does."""
        accepted = self._context.accept_compression
        try:
            if accepted is None or wire_id in accepted:
                return self._decompressors.find_untrusted(wire_id)
        except PacketError as error:
            self._context.refuse(error.cause, host_id, error.args[0], times=times, key=host_id)
        else:
            self._context.refuse(
                DropCause.COMPRESSION_REFUSED,
                host_id,
                f"compression id {wire_id} is not in accept_compression",
                times=times,
                key=host_id,
            )
        return None

    def open(self, compressor: Compressor, data: bytes) -> Opened | PacketError:
        """Decompress ``data``. Touches nothing else, so that a thread can do it."""
        began = time.perf_counter()
        try:
            plain = compressor.decompress_untrusted(data, MAX_MESSAGE)
        except PacketError as error:
            # A new one: that one's traceback keeps all that the decompressor took, 64 MiB with
            # lzma.
            return PacketError(error.cause, error.args[0])
        except Exception as error:
            # No memory, above all: that concerns this message, and not the handle.
            return PacketError(DropCause.BAD_COMPRESSION, f"the decompressor failed: {error!r}")
        if not plain:
            return PacketError(DropCause.BAD_COMPRESSION, "nothing is left of it")
        return Opened(plain, len(data), time.perf_counter() - began)

    def count(self, opened: Opened | PacketError, host_id: int) -> bytes | None:
        """Count a message of that host, and return it if it could be opened."""
        if isinstance(opened, PacketError):
            self._context.refuse(opened.cause, host_id, opened.args[0], key=host_id)
            return None
        self._context.counters.rx_compress.add(len(opened.data), opened.size, opened.elapsed)
        return opened.data
