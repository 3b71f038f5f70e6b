"""Two configurations with the same key and hash, but different ciphers.

The hash of an envelope is right for both, so it does not show which cipher was used. Most envelopes
open with the wrong cipher too, but to noise: whether the result is a packet decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from knet_trio._core.onwire import Data, Ping, Pong, decode_untrusted
from knet_trio.abc import Cipher
from knet_trio.errors import PacketError

# Receivers ignore bytes 4 and 5 of every packet, and byte 9 of a data packet. But all senders write
# these bytes, and the flag in byte 10, in the same way, which noise does with a chance of 2**-30.
_NEWEST_VERSION: Final = 1

_NOISE: Final = 0
_PACKET: Final = 1
_PACKET_AS_WRITTEN: Final = 2


class AlikePair(Cipher):
    """Two envelopes with the same hash, as one.

    Args:
        first: The envelope that seals, and is tried first.
        other: The envelope that is tried where the first one does not yield a packet.
    """

    def __init__(self, first: Cipher, other: Cipher) -> None:
        self._first = first
        self._other = other
        self.salt_size = first.salt_size
        self.hash_size = first.hash_size
        self.block_size = first.block_size

    def seal(self, packets: Sequence[bytes]) -> list[bytes]:
        """Seal with the first envelope."""
        return self._first.seal(packets)

    def open_untrusted(self, envelope: bytes) -> bytes:
        """Open with the envelope that yields a packet."""
        try:
            packet = self._first.open_untrusted(envelope)
        except PacketError:
            return self._other.open_untrusted(envelope)
        return self._judge(packet, envelope)

    def open_many_untrusted(self, envelopes: Sequence[bytes]) -> list[bytes | PacketError]:
        """Open each with the envelope that yields a packet."""
        opened = self._first.open_many_untrusted(envelopes)
        for i, (packet, envelope) in enumerate(zip(opened, envelopes, strict=True)):
            if isinstance(packet, bytes):
                opened[i] = self._judge(packet, envelope)
            else:
                (opened[i],) = self._other.open_many_untrusted([envelope])
        return opened

    def _judge(self, packet: bytes, envelope: bytes) -> bytes:
        """Return ``packet``, or the result of the other envelope if it is more like a packet."""
        likeness = _likeness(packet)
        if likeness == _PACKET_AS_WRITTEN:
            return packet
        try:
            another = self._other.open_untrusted(envelope)
        except PacketError:
            return packet
        return another if _likeness(another) > likeness else packet


def _likeness(packet: bytes) -> int:
    """Return how much the bytes are like a packet; a larger number means more."""
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
