"""The size arithmetic of packets.

"Onwire" sizes include the IP and transport headers, as an interface's MTU does. "Room" is the size
without these headers, for the envelope. "Payload" is the size of the user's bytes in one data
packet.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from knet_trio._core.onwire import FULL_HEADER_SIZE

MAX_ONWIRE: Final = 65535
IPV4_HEADER: Final = 20
IPV6_HEADER: Final = 40
UDP_HEADER: Final = 8
SCTP_HEADERS: Final = 28
MIN_IPV4_MTU: Final = 576
MIN_IPV6_MTU: Final = 1280


class EnvelopeSizes(NamedTuple):
    """The bytes that an envelope adds to a packet.

    Attributes:
        salt: The bytes of the salt.
        hash: The bytes of the hash.
        block: The block size in bytes that the ciphertext is padded to; 0 without padding.
    """

    salt: int = 0
    hash: int = 0
    block: int = 0

    def largest_plaintext(self, room: int) -> int:
        """Return the size of the largest packet whose envelope fits into ``room`` bytes.

        Padding always takes at least one byte, so the plaintext never fills the last block. A
        stream cipher counts as ``block`` 1 and leaves one byte unused, as in the C library, so that
        both sides of a link report the same MTU.

        Returns:
            The size in bytes; less than 1 if no packet fits.
        """
        left = room - self.salt - self.hash
        if self.block:
            return left - left % self.block - 1
        return left


CLEAR: Final = EnvelopeSizes()


class PathSizes(NamedTuple):
    """The arithmetic of one path.

    Attributes:
        ipv6: True if the path is of IPv6.
        transport: The bytes of the transport's headers.
        envelope: The sizes of the envelope in use.
    """

    ipv6: bool
    transport: int
    envelope: EnvelopeSizes

    @property
    def headers(self) -> int:
        """The bytes of IP and transport headers."""
        return (IPV6_HEADER if self.ipv6 else IPV4_HEADER) + self.transport

    def probe_length(self, onwire: int) -> int:
        """Return the size of the PMTUD packet, before its envelope, that fills ``onwire`` bytes."""
        length = self.envelope.largest_plaintext(onwire - self.headers)
        # With a stream cipher the unused byte is needed to fill the size exactly.
        return length + 1 if self.envelope.block == 1 else length

    def sealed_length(self, onwire: int) -> int:
        """Return the real size on the wire, in bytes, of the probe for ``onwire`` bytes."""
        block = self.envelope.block
        if block <= 1:
            return onwire
        return onwire - (onwire - self.headers - self.envelope.salt - self.envelope.hash) % block

    def payload(self, onwire: int) -> int:
        """Return the user bytes of a packet of ``onwire`` bytes on this path; under 1 for none."""
        return self.envelope.largest_plaintext(onwire - self.headers) - FULL_HEADER_SIZE

    @property
    def minimum_payload(self) -> int:
        """The user bytes that every path of this IP version carries."""
        return self.payload(MIN_IPV6_MTU if self.ipv6 else MIN_IPV4_MTU)

    @property
    def overhead(self) -> int:
        """The bytes of all headers, salt and hash. Padding is not counted.

        See knet_link_get_status(3), ``proto_overhead``.
        """
        return self.headers + FULL_HEADER_SIZE + self.envelope.salt + self.envelope.hash


def minimum_data_mtu(envelope: EnvelopeSizes) -> int:
    """Return the data MTU before discovery: that of the smallest path with the largest headers."""
    room = MIN_IPV4_MTU - IPV6_HEADER - SCTP_HEADERS
    return envelope.largest_plaintext(room) - FULL_HEADER_SIZE
