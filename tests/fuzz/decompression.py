"""Any bytes become a message within the limit, and in bounded memory, or they are a PacketError.

The first bytes choose the algorithm and the limit. The rest is what arrived, or in the other half
of the cases a message, which has to come back, and does not where the limit is a byte less.
"""

from __future__ import annotations

import tracemalloc
from typing import Final

from knet_trio._compress import MODELS, Decompressors, is_usable, make_compressor
from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio.abc import Compressor
from knet_trio.config import CompressConfig
from knet_trio.errors import DropCause, PacketError
from tests.fuzz.script import Script

MIB: Final = 1024 * 1024
# What the libraries take beside the message: the dictionary that an .xz container asks for, the
# blocks of bzip2. A message is copied a few times on its way.
WORKING: Final = {"lzma": 73 * MIB, "bzip2": 8 * MIB}
COPIES: Final = 4
# Asking for them imports their modules, which otherwise would come too late to be watched.
USABLE: Final = frozenset(filter(is_usable, MODELS))
# Levels that make any difference to what is decompressed, and cost little.
LEVELS: Final = (None, 1, 2, 5, 6)


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    script = Script(data)
    wire_id, kind = script.number(), script.number()
    limit = script.number(2) or MAX_MESSAGE
    try:
        opener = Decompressors().find_untrusted(wire_id)
    except PacketError as error:
        assert error.cause is DropCause.UNKNOWN_COMPRESSION
        assert not 1 <= wire_id <= len(MODELS) or MODELS[wire_id - 1] not in USABLE
        return
    model = MODELS[wire_id - 1]
    assert opener.wire_id == wire_id
    if kind % 2 == 0:
        decompress(model, opener, script.rest(), limit)
        return
    level = LEVELS[kind // 2 % len(LEVELS)]
    message = script.rest() * (1 + kind // 16)
    packed = make_compressor(CompressConfig(model, level)).compress(message)
    if not message:
        return
    for enough in (MAX_MESSAGE, len(message)):
        assert decompress(model, opener, packed, enough) == message
    if len(message) > 1:
        assert decompress(model, opener, packed, len(message) - 1) is None


def decompress(model: str, opener: Compressor, data: bytes, limit: int) -> bytes | None:
    """The message in ``data``, None if there is none; what that takes is weighed."""
    tracemalloc.start()
    try:
        message = opener.decompress_untrusted(data, limit)
    except PacketError as error:
        assert error.cause is DropCause.BAD_COMPRESSION
        message = None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= COPIES * limit + WORKING.get(model, MIB), peak
    if message is not None:
        assert len(message) <= limit
    return message
