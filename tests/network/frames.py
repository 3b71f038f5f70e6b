"""Ethernet frames, as far as a relay has to understand what it carries."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

ETHERNET: Final = 14
_IPV4: Final = b"\x08\x00"
_IPV6: Final = b"\x86\xdd"
_IPV6_HEADER: Final = 40
_UDP: Final = 17
_UDP_HEADER: Final = 8
_KNET_DATA: Final = b"\x01\x00"


class Datagram(NamedTuple):
    """Where the UDP header is in a frame, where its payload begins, and where that ends."""

    header: int
    payload: int
    end: int


def find_datagram(frame: bytes) -> Datagram | None:
    """The whole UDP datagram in a frame, None if there is anything else in it."""
    kind = frame[12:14]
    if kind == _IPV4:
        header = ETHERNET + (frame[ETHERNET] & 0xF) * 4
        # More fragments, or an offset: neither is made of what says that it must not be cut.
        cut = int.from_bytes(frame[ETHERNET + 6 : ETHERNET + 8], "big") & 0x3FFF
        if frame[ETHERNET + 9] != _UDP or cut:
            return None
    elif kind == _IPV6:
        header = ETHERNET + _IPV6_HEADER
        if frame[ETHERNET + 6] != _UDP:
            return None
    else:
        return None
    size = int.from_bytes(frame[header + 4 : header + 6], "big")
    return Datagram(header, header + _UDP_HEADER, header + size)


def find_message(frame: bytes, datagram: Datagram) -> bytes | None:
    """The sequence number of the message that a packet with data, in clear, is of."""
    payload = datagram.payload
    if frame[payload : payload + 2] != _KNET_DATA:
        return None
    return frame[payload + 6 : payload + 8]


def flip_bit(frame: bytes, datagram: Datagram, chance: random.Random) -> bytes:
    """The frame with one bit of the payload turned over, and a checksum that is right for that.

    As what got past a checksum, which is 16 bits long. With the old one the kernel would drop it.
    """
    damaged = bytearray(frame)
    place = chance.randrange(datagram.payload, datagram.end)
    # The checksum is of words, counted from the header.
    word = place - (place - datagram.header) % 2
    before = _word(damaged, word, datagram.end)
    damaged[place] ^= 1 << chance.randrange(8)
    after = _word(damaged, word, datagram.end)
    field = slice(datagram.header + 6, datagram.header + 8)
    checksum = int.from_bytes(damaged[field], "big")
    # None was asked for, in IPv4, where it is none.
    if checksum:
        # RFC 1624: from what a word was and is follows what the sum of all is.
        total = (~checksum & 0xFFFF) + (~before & 0xFFFF) + after
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        # No zero: that says that there is no checksum.
        damaged[field] = ((~total & 0xFFFF) or 0xFFFF).to_bytes(2, "big")
    return bytes(damaged)


def _word(frame: bytearray, start: int, end: int) -> int:
    """Two bytes as the checksum takes them: the last one may be alone."""
    return int.from_bytes(frame[start : min(start + 2, end)].ljust(2, b"\0"), "big")
