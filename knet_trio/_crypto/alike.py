"""Two configurations whose envelopes have the same hash: the same key, but another cipher.

Then the hash is right for both, and does not tell which of them sealed a packet. With the wrong
cipher most envelopes open all the same, to noise. What comes out is a packet, or not: that tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knet_trio._core.onwire import Data, Ping, Pong, decode_untrusted
from knet_trio.abc import Cipher
from knet_trio.errors import PacketError

# Bytes 4 and 5 of every packet, and 9 of a data packet, are read by nobody, so receivers leave them
# alone. Everybody writes them like that: noise has one chance in 2**30 to do so too.
_NEWEST_VERSION: Final = 1

_NOISE: Final = 0
_PACKET: Final = 1
_PACKET_AS_WRITTEN: Final = 2


class AlikePair(Cipher):
    """Opens the envelopes of two ciphers that have the same hash.

    Args:
        first: Seals, and is tried first.
        other: Is tried on what does not become a packet with the first.
    """

    def __init__(self, first: Cipher, other: Cipher) -> None:
        self._first = first
        self._other = other
        self.salt_size = first.salt_size
        self.hash_size = first.hash_size
        self.block_size = first.block_size

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Seal with the first."""
        return self._first.seal(packets)

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Return what becomes a packet with one of them."""
        try:
            packet = self._first.open_untrusted(envelope)
        except PacketError:
            return self._other.open_untrusted(envelope)
        return self._judge(packet, envelope)

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """Return for each what becomes a packet with one of them."""
        opened = self._first.open_many_untrusted(envelopes)
        for i, (packet, envelope) in enumerate(zip(opened, envelopes, strict=True)):
            if isinstance(packet, bytes):
                opened[i] = self._judge(packet, envelope)
            else:
                (opened[i],) = self._other.open_many_untrusted([envelope])
        return opened

    def _judge(self, packet: bytes, envelope: bytes) -> bytes:
        """Return ``packet``, or what the other opens if that is more like a packet."""
        likeness = _likeness(packet)
        if likeness == _PACKET_AS_WRITTEN:
            return packet
        try:
            another = self._other.open_untrusted(envelope)
        except PacketError:
            return packet
        return another if _likeness(another) > likeness else packet


def _likeness(packet: bytes) -> int:
    """Return how much like a packet ``packet`` is: more for more."""
    try:
        decoded = decode_untrusted(packet)
    except PacketError:
        return _NOISE
    written = packet[4] <= _NEWEST_VERSION and not packet[5]
    if isinstance(decoded, Data):
        written = written and not packet[9] and packet[10] <= 1
    elif isinstance(decoded, Ping | Pong):
        written = written and packet[25] <= 1
    return _PACKET_AS_WRITTEN if written else _PACKET
