"""Stamps: the 16 bytes that a ping carries and its pong brings back, a time and a proof.

::

    | time, 8 bytes | the first 8 bytes of HMAC-SHA256(secret, time, link, host, place, binding) |

The time is when the ping was sent, in seconds on the sender's clock, as a big-endian double. Each
handle has its own secret, and only the sender of the ping reads the stamp. So a pong is recognized
as false, whatever the clock says, if it was recorded before this handle was opened or for another
link, or if it comes from another place than its ping was sent to. Without the secret, one guess in
2**64 is right.
"""

from __future__ import annotations

import hmac
import struct
from typing import Final, TypeAlias, final

Place: TypeAlias = tuple[str, int]
"""The source or destination of a packet: an IP address and a port."""

SECRET_SIZE: Final = 32
"""The size of the secret in bytes."""

_TIME: Final = struct.Struct(">d")
_PROOF_SIZE: Final = 8
_WHERE: Final = struct.Struct(">HBi")


@final
class Stamps:
    """The maker and reader of one handle's stamps."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def describe(host_id: int, link_id: int, place: Place, binding: bytes = b"") -> bytes:
        """Return the bytes that bind the stamps of a link's pings to their destination.

        Args:
            host_id: The id of the host.
            link_id: The id of the link.
            place: The address and port that the pings go to.
            binding: More bytes that the stamps are bound to.
        """
        host, port = place
        # The address has no zero byte in it, and all before it has a fixed size: so different
        # arguments give different bytes.
        return b"".join((_WHERE.pack(host_id, link_id, port), host.encode(), b"\0", binding))

    def make(self, time: float, where: bytes) -> bytes:
        """Return the stamp of a ping.

        Args:
            time: When the ping is sent, in seconds.
            where: The answer of ``describe`` for its destination.
        """
        packed = _TIME.pack(time)
        return packed + hmac.digest(self._secret, packed + where, "sha256")[:_PROOF_SIZE]

    def read_untrusted(self, stamp: bytes, where: bytes) -> float | None:
        """Verify the stamp of a pong, and return when its ping was sent.

        Args:
            stamp: The stamp that the pong brings back.
            where: The answer of ``describe`` for the source of the pong.

        Returns:
            The time in seconds; None if this handle sent no such ping over that link to that place.
        """
        packed = stamp[: _TIME.size]
        proof = hmac.digest(self._secret, packed + where, "sha256")[:_PROOF_SIZE]
        if not hmac.compare_digest(proof, stamp[_TIME.size :]):
            return None
        (time,) = _TIME.unpack(packed)
        return float(time)
