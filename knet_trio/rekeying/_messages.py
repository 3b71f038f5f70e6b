"""The requests between hosts during a change of the key: JSON in requests of ``knet_trio.streams``.

Only hosts that have the key can read or send them. Keys are sent once for each host and change, in
``set`` or in the answer to ``tell``.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeVar, cast

import attrs

from knet_trio.cluster import CryptoNames
from knet_trio.control.codec import Json, MisfitError, dump, from_json, load

T = TypeVar("T", "RekeyQuestion", "RekeyAnswer")

VERSION: Final = 1
MAX_REQUEST: Final = 16384
"""The longest request or answer in bytes: two keys of the largest size, and more, fit."""
_MEMBER: Final = "knet_trio_rekey"


class RekeyAction(enum.StrEnum):
    """The action of a request."""

    STATUS = "status"
    """Return the key in use, the change in progress, and the call of ``rekey`` that is running."""
    CLAIM = "claim"
    """Reserve the host for a coordinator until ``release``: no other host may change the key."""
    RELEASE = "release"
    TELL = "tell"
    """Return the keys of the change. A host does this without ``claim``, too."""
    SET = "set"
    SET_CRYPTO = "set_crypto"
    """Set, if cipher, hash or model change too. A host that does not know this action refuses it,
    and does not set the key alone."""
    CONFIRMED = "confirmed"
    """Return the hosts that have not answered this one under the new key yet."""
    USE = "use"
    CHECK_FILE = "check_file"
    """Check that the cluster file already has the names that are valid after the change."""
    CLEAR = "clear"
    DROP = "drop"
    """Drop the new key before it is used."""


@attrs.frozen(kw_only=True)
class RekeyQuestion:
    """A request.

    Attributes:
        action: The action.
        run: The random id of the call of ``rekey``, which is also the salt of fingerprints.
        instead_of: With ``claim``, the call that has ended, or whose host is gone.
        hosts: With ``claim``, the hosts in the cluster file of the coordinator
            (``encode_hosts``). With ``confirmed``, the hosts of which answers are needed.
        change: The id of the change.
        began_by: With ``set``, the id of the host that began the change.
        mark: With ``set``, ``use`` and ``clear``, the fingerprint of the new key.
        old_mark: With ``set``, the fingerprint of the old key.
        key: With ``set``, the new key in base64; never shown.
        old_names: With ``set_crypto``, the cipher, hash and model of the old key.
        new_names: With ``set_crypto``, the cipher, hash and model of the new key.
    """

    action: str
    run: str
    instead_of: str | None = None
    hosts: str | None = None
    change: str | None = None
    began_by: int | None = None
    mark: str | None = None
    old_mark: str | None = None
    key: str | None = attrs.field(default=None, repr=False)
    old_names: CryptoNames | None = None
    new_names: CryptoNames | None = None


@attrs.frozen(kw_only=True)
class RekeyAnswer:
    """The answer of a host.

    Attributes:
        mark: The fingerprint of the key that the host seals with.
        change: The id of the change in progress at the host, None for none.
        began_by: The id of the host that began the change.
        coordinates: The call of ``rekey`` that is running at the host, None for none.
        refused: The reason why the host did not do it, None if it did.
        holder: The id of another host that is changing the key, None for none.
        holder_run: The call of ``rekey`` at that other host.
        old: With ``tell``, the old key in base64; never shown.
        new: With ``tell``, the new key in base64; never shown.
        old_names: With ``tell``, the cipher, hash and model of the old key, if they change too.
        new_names: With ``tell``, the cipher, hash and model of the new key, if they change too.
        unconfirmed: With ``confirmed``, the hosts that have not answered yet (``encode_hosts``).
    """

    mark: str
    change: str | None = None
    began_by: int | None = None
    coordinates: str | None = None
    refused: str | None = None
    holder: int | None = None
    holder_run: str | None = None
    old: str | None = attrs.field(default=None, repr=False)
    new: str | None = attrs.field(default=None, repr=False)
    old_names: CryptoNames | None = None
    new_names: CryptoNames | None = None
    unconfirmed: str | None = None


def encode_hosts(host_ids: Iterable[int]) -> str:
    """Return host ids as a bit set in base64, so that all possible ids fit into a request."""
    bits = 0
    for host_id in host_ids:
        bits |= 1 << host_id
    return base64.b64encode(bits.to_bytes(-(-bits.bit_length() // 8), "little")).decode()


def find_missing(text: str, host_ids: Iterable[int]) -> list[int]:
    """Return those of the ids that are not in ``text``, made by ``encode_hosts``."""
    bits = _decode_bits(text)
    return [host_id for host_id in host_ids if not bits >> host_id & 1]


def find_present(text: str, host_ids: Iterable[int]) -> list[int]:
    """Return those of the ids that are in ``text``, made by ``encode_hosts``."""
    bits = _decode_bits(text)
    return [host_id for host_id in host_ids if bits >> host_id & 1]


def _decode_bits(text: str) -> int:
    with suppress(binascii.Error, ValueError):
        return int.from_bytes(base64.b64decode(text, validate=True), "little")
    return 0


class BadMessageError(ValueError):
    """Bytes are not a valid request or answer. The text of the error does not contain them."""


def encode(message: RekeyQuestion | RekeyAnswer) -> bytes:
    """Return a request or an answer as bytes."""
    members = {name: value for name, value in attrs.asdict(message).items() if value is not None}
    return dump(cast(Json, {_MEMBER: VERSION, **members})).encode()


def decode_question(data: bytes) -> RekeyQuestion:
    """Return the request in ``data``.

    Raises:
        BadMessageError: The bytes are not a request.
    """
    question = _decode(RekeyQuestion, data)
    if question.action not in set(RekeyAction):
        raise BadMessageError(f"this host does not know {question.action[:20]!r}")
    return question


def decode_answer(data: bytes) -> RekeyAnswer:
    """Return the answer in ``data``.

    Raises:
        BadMessageError: The bytes are not an answer.
    """
    return _decode(RekeyAnswer, data)


def _decode(kind: type[T], data: bytes) -> T:
    message: T | None = None
    if len(data) <= MAX_REQUEST:
        try:
            fields = load(data)
            if isinstance(fields, dict) and fields.get(_MEMBER) == VERSION:
                message = from_json(kind, fields)
        except MisfitError:
            # The text of the error may contain a part of the bytes.
            message = None
    if message is None:
        raise BadMessageError(f"this is not version {VERSION} of the requests to change the key")
    return message
