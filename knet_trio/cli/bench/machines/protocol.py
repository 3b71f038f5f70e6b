"""What client and server say to each other: requests of ``knet_trio.streams``, JSON both ways.

- ``hello``: begin a session; the answer has ``session``, a name for all that follows, and
  ``machine``.
- ``open``: a case begins, on channels of its own.
- ``call``, with ``command`` and ``arguments``: the answer is that of a peer of the bench.
- ``close``: the case is over: what it started has ended, and links are as before.
- ``watch``: answered when the server ends the session, with ``error`` and ``over``.
- ``bye``: the session is over.

Every question has its name in ``do``, and every message ``bench``, the version of this; an answer
may have ``error`` instead of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import knet_trio
from knet_trio.cli.bench.process import BenchError

VERSION: Final = 1
# Far more than any question or answer has.
MAX_SIZE: Final = 16 * 1024 * 1024
# Seconds in which the other side is not heard of, after which it is gone.
PATIENCE: Final = 10.0


class ProtocolError(BenchError):
    """The other side says something that is not of this protocol, or of another version of it."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes, with the version."""
    return json.dumps({"bench": VERSION, "knet_trio": knet_trio.__version__, **message}).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Return a message of the other side.

    Raises:
        ProtocolError: It is none, or of another version.
    """
    try:
        message: object = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or "bench" not in message:
        raise ProtocolError("the other side is no bench: is it `knet-trio bench --serve`?")
    said: dict[str, Any] = {str(name): value for name, value in message.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if said["bench"] != VERSION:
        raise ProtocolError(
            f"the other side speaks version {said['bench']!r} of the bench's protocol (knet_trio"
            f" {said.get('knet_trio', 'of some version')}), this side version {VERSION} (knet_trio"
            f" {knet_trio.__version__}): install the same knet_trio on both"
        )
    return said
