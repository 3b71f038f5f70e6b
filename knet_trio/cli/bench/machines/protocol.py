"""The protocol of client and server: requests of ``knet_trio.streams``, JSON both ways.

- ``hello``: begin a session; the answer has ``session``, a name for all that follows, and
  ``machine``.
- ``open``: open a case, on channels of its own.
- ``call``, with ``command`` and ``arguments``: the answer is that of a peer of the bench.
- ``close``: close the case: its tasks have ended, and links are as before.
- ``watch``: answered when the server ends the session, with ``error`` and ``over``.
- ``bye``: end the session.

Every question has its name in ``do``, and every message has ``bench``, the version of the protocol;
an answer may have ``error`` instead of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import knet_trio
from knet_trio.cli.bench.process import BenchError

VERSION: Final = 1
# Bytes, far more than any question or answer has.
MAX_SIZE: Final = 16 * 1024 * 1024
# Seconds of silence after which the other side is gone.
PATIENCE: Final = 10.0


class ProtocolError(BenchError):
    """A message of the other side is not of this protocol, or of another version."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes, with the version."""
    return json.dumps({"bench": VERSION, "knet_trio": knet_trio.__version__, **message}).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Return a message of the other side.

    Raises:
        ProtocolError: The data is not a message, or one of another version.
    """
    try:
        message: object = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or "bench" not in message:
        raise ProtocolError("the other side is not a bench: is it `knet-trio bench --serve`?")
    fields: dict[str, Any] = {str(name): value for name, value in message.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if fields["bench"] != VERSION:
        raise ProtocolError(
            f"the other side speaks version {fields['bench']!r} of the bench's protocol (knet_trio"
            f" {fields.get('knet_trio', 'of some version')}), this side version {VERSION}"
            f" (knet_trio {knet_trio.__version__}): install the same knet_trio on both"
        )
    return fields
