"""The greetings of streams, as a handle without streams recognizes them.

The format is that of HELLO in ``docs/streams-protocol.md``.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

_HELLO: Final = struct.Struct(">IBBHQQQ")
_VERSION: Final = 1
_KIND: Final = 1


def is_greeting_untrusted(data: bytes) -> bool:
    """Return whether a message of a channel is a greeting: a HELLO that answers no other."""
    if len(data) != _HELLO.size:
        return False
    checksum, version, kind, _, sender, receiver, number = _HELLO.unpack(data)
    if (version, kind, receiver, number) != (_VERSION, _KIND, 0, 0) or not sender:
        return False
    return not checksum or checksum == (crc32(memoryview(data)[4:]) or 0xFFFFFFFF)
