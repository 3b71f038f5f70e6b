"""The 16 bytes that a ping carries and its pong brings back: when it was sent, and a proof.

::

    | time, 8 bytes | the first 8 bytes of HMAC-SHA256(secret, time, link, host, place, binding) |

The time is seconds, as a big-endian double on the clock of whoever sent the ping. The secret is of
one handle, and nobody else reads the stamp. So a pong that was recorded in an earlier life of this
host, for another link, or that comes from another place than its ping was sent to, is recognized
whatever the clock says. Without the secret, one guess in 2**64 is right.
"""

from __future__ import annotations

import hmac
import struct
from typing import Final, TypeAlias, final

Place: TypeAlias = tuple[str, int]
"""Where a packet came from or goes to: an IP address and a port."""

SECRET_SIZE: Final = 32
"""Bytes of the secret."""

_TIME: Final = struct.Struct(">d")
_PROOF_SIZE: Final = 8
_WHERE: Final = struct.Struct(">HBi")


@final
class Stamps:
    """Makes and reads the stamps of one handle."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def describe(host_id: int, link_id: int, place: Place, binding: bytes = b"") -> bytes:
        """Return what the stamps of a link's pings to ``place`` have in common.

        Args:
            host_id: The host.
            link_id: The link.
            place: The place.
            binding: What else they are good for.
        """
        host, port = place
        # All but the host have a fixed size, and that has no zero in it: so no two mean the same
        # bytes.
        return b"".join((_WHERE.pack(host_id, link_id, port), host.encode(), b"\0", binding))

    def make(self, time: float, where: bytes) -> bytes:
        """Return the stamp of a ping that is sent at ``time``; ``describe`` has said where."""
        packed = _TIME.pack(time)
        return packed + hmac.digest(self._secret, packed + where, "sha256")[:_PROOF_SIZE]

    def read_untrusted(self, stamp: bytes, where: bytes) -> float | None:
        """Return when the ping was sent whose pong came from where ``describe`` says.

        Returns:
            None if this handle sent no such ping over that link to that place.
        """
        packed = stamp[: _TIME.size]
        proof = hmac.digest(self._secret, packed + where, "sha256")[:_PROOF_SIZE]
        if not hmac.compare_digest(proof, stamp[_TIME.size :]):
            return None
        (time,) = _TIME.unpack(packed)
        return float(time)
