"""Decompressing messages, which may be hostile."""

from __future__ import annotations

import time
from typing import NamedTuple

from knet_trio._compress import Decompressors, model_of
from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._state.context import Context
from knet_trio.abc import Compressor
from knet_trio.errors import DropCause, PacketError


class Opened(NamedTuple):
    """A decompressed message.

    Attributes:
        data: The message.
        size: Its compressed size, in bytes.
        elapsed: The time it took, in seconds.
    """

    data: bytes
    size: int
    elapsed: float


class Decompression:
    """Decompresses messages of any algorithm, not only the one this host compresses with."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decompressors = Decompressors()

    def find(self, wire_id: int, host_id: int) -> Compressor | None:
        """Return the decompressor of an algorithm.

        Args:
            wire_id: The number of the algorithm on the wire.
            host_id: The host that sent the message.

        Returns:
            None if there is none, or ``accept_compression`` does not allow it. A message of the
            host is counted as dropped then.
        """
        accepted = self._context.accept_compression
        try:
            if accepted is None or wire_id in accepted:
                return self._decompressors.find_untrusted(wire_id)
        except PacketError as error:
            self._context.counters.rx_failed_to_decompress += 1
            self._context.refuse(error.cause, host_id, error.args[0], key=host_id)
        else:
            self._context.refuse(
                DropCause.COMPRESSION_REFUSED,
                host_id,
                f"{model_of(wire_id)} is not in accept_compression",
                key=host_id,
            )
        return None

    def open(self, compressor: Compressor, data: bytes) -> Opened | PacketError:
        """Decompress ``data``. Has no side effects, so that a thread can call it."""
        began = time.perf_counter()
        try:
            plain = compressor.decompress_untrusted(data, MAX_MESSAGE)
        except PacketError as error:
            # A new error: the traceback of the old one keeps the decompressor's memory alive, 64
            # MiB with lzma.
            return PacketError(error.cause, error.args[0])
        except MemoryError as error:
            # Too little memory concerns this message, not the handle. Any other error is a bug.
            return PacketError(DropCause.BAD_COMPRESSION, f"the decompressor failed: {error!r}")
        if not plain:
            return PacketError(DropCause.BAD_COMPRESSION, "the decompressed message is empty")
        return Opened(plain, len(data), time.perf_counter() - began)

    def count(self, opened: Opened | PacketError, host_id: int) -> bytes | None:
        """Count a message of a host and return its bytes, None if it could not be decompressed."""
        if isinstance(opened, PacketError):
            self._context.counters.rx_failed_to_decompress += 1
            self._context.refuse(opened.cause, host_id, opened.args[0], key=host_id)
            return None
        self._context.counters.rx_compress.add(len(opened.data), opened.size, opened.elapsed)
        return opened.data
