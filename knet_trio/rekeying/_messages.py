"""What hosts ask each other while the key changes, as JSON in requests of ``knet_trio.streams``.

Only hosts that have the key can read it, or ask. Keys go in it once for each host and change, in
``set``, or in the answer to ``tell``.
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
"""Bytes of a request or an answer at most: two keys of the largest size, and more."""
_MEMBER: Final = "knet_trio_rekey"


class RekeyAction(enum.StrEnum):
    """What is asked for."""

    STATUS = "status"
    """How far is the host, and does it change the key of all at present?"""
    CLAIM = "claim"
    """The host that asks is going to change the key: no other one may, until ``release``."""
    RELEASE = "release"
    TELL = "tell"
    """Which keys is the change about?"""
    SET = "set"
    SET_CRYPTO = "set_crypto"
    """Set, where cipher, hash or model change too. A host that does not know that refuses it, and
    does not set the key alone."""
    CONFIRMED = "confirmed"
    """Which hosts have not answered this one yet under the new key?"""
    USE = "use"
    CHECK_FILE = "check_file"
    """Does the cluster file there say already what is so when the change is over?"""
    CLEAR = "clear"
    DROP = "drop"
    """Forget the new key again, before it is used."""


@attrs.frozen(kw_only=True)
class RekeyQuestion:
    """A request.

    Attributes:
        action: What is asked for.
        run: The call of ``rekey`` that asks, drawn at random; the salt of fingerprints, too.
        instead_of: With ``claim``, the call whose host has been found dead or done.
        hosts: With ``claim``, the hosts in the cluster file of the host that asks
            (``encode_hosts``). With ``confirmed``, the hosts that matter.
        change: The change that it is about.
        began_by: With ``set``, who began that.
        mark: With ``set``, ``use`` and ``clear``, the fingerprint of the new key.
        old_mark: With ``set``, that of the old one.
        key: With ``set``, the new key in base64; never shown.
        old_names: With ``set_crypto``, how the old key is used.
        new_names: And the new one.
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
    """What a host answers.

    Attributes:
        mark: The fingerprint of the key that it seals with.
        change: The change that is under way there, None for none.
        began_by: Who began that.
        coordinates: The call of ``rekey`` that runs there, None for none.
        refused: Why it did not do it, None if it did.
        holder: If another host is changing the key, which.
        holder_run: And the call of ``rekey`` there.
        old: With ``tell``, the old key in base64; never shown.
        new: And the new one.
        old_names: With ``tell``, how the old key is used, if that changes too.
        new_names: And the new one.
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
    """Return ids of hosts, a bit each in base64: all that there can be fit into a request."""
    bits = 0
    for host_id in host_ids:
        bits |= 1 << host_id
    return base64.b64encode(bits.to_bytes(-(-bits.bit_length() // 8), "little")).decode()


def find_missing(text: str, host_ids: Iterable[int]) -> list[int]:
    """Return which of the ids are not in what ``encode_hosts`` has made."""
    bits = _decode_bits(text)
    return [host_id for host_id in host_ids if not bits >> host_id & 1]


def find_present(text: str, host_ids: Iterable[int]) -> list[int]:
    """Return which of the ids are in what ``encode_hosts`` has made."""
    bits = _decode_bits(text)
    return [host_id for host_id in host_ids if bits >> host_id & 1]


def _decode_bits(text: str) -> int:
    with suppress(binascii.Error, ValueError):
        return int.from_bytes(base64.b64decode(text, validate=True), "little")
    return 0


class BadMessageError(ValueError):
    """Bytes are no request or answer of a change of the key. The text has nothing of them."""


def encode(message: RekeyQuestion | RekeyAnswer) -> bytes:
    """Return a request or an answer as bytes."""
    members = {name: value for name, value in attrs.asdict(message).items() if value is not None}
    return dump(cast(Json, {_MEMBER: VERSION, **members})).encode()


def decode_question(data: bytes) -> RekeyQuestion:
    """Return the request in ``data``.

    Raises:
        BadMessageError: There is none in it.
    """
    question = _decode(RekeyQuestion, data)
    if question.action not in set(RekeyAction):
        raise BadMessageError(f"this host knows no {question.action[:20]!r}")
    return question


def decode_answer(data: bytes) -> RekeyAnswer:
    """Return the answer in ``data``.

    Raises:
        BadMessageError: There is none in it.
    """
    return _decode(RekeyAnswer, data)


def _decode(kind: type[T], data: bytes) -> T:
    message: T | None = None
    if len(data) <= MAX_REQUEST:
        try:
            said = load(data)
            if isinstance(said, dict) and said.get(_MEMBER) == VERSION:
                message = from_json(kind, said)
        except MisfitError:
            # Its text may show a part of what came.
            message = None
    if message is None:
        raise BadMessageError(f"it is not of version {VERSION} of the requests to change the key")
    return message
