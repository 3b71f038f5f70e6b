"""The 16 bytes that a ping carries and its pong brings back: when it was sent, and a proof.

::

    | time, 8 bytes | the first 8 bytes of HMAC-SHA256(secret, host, link, place, time) |

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
_WHO: Final = struct.Struct(">HBH")


@final
class Stamps:
    """Makes and reads the stamps of one handle."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, time: float, host_id: int, link_id: int, place: Place) -> bytes:
        """Return the stamp of a ping that is sent at ``time`` to ``place``, over that link."""
        packed = _TIME.pack(time)
        return packed + self._proof(packed, host_id, link_id, place)

    def read_untrusted(
        self, stamp: bytes, host_id: int, link_id: int, place: Place
    ) -> float | None:
        """Return when the ping was sent whose pong came from ``place``.

        Returns:
            None if this handle sent no such ping over that link to that place.
        """
        packed = stamp[: _TIME.size]
        proof = self._proof(packed, host_id, link_id, place)
        if not hmac.compare_digest(proof, stamp[_TIME.size :]):
            return None
        (time,) = _TIME.unpack(packed)
        return float(time)

    def _proof(self, packed: bytes, host_id: int, link_id: int, place: Place) -> bytes:
        host, port = place
        # All but the last have a fixed size, so no two mean the same bytes.
        what = _WHO.pack(host_id, link_id, port) + packed + host.encode()
        return hmac.digest(self._secret, what, "sha256")[:_PROOF_SIZE]
