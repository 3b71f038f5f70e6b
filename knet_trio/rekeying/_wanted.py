"""What a change of the key is to lead to: a new key, and maybe another cipher, hash and model."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from knet_trio._crypto.envelope import NONE
from knet_trio.cluster import CryptoNames, KeyChange
from knet_trio.rekeying._host_keys import ONLY_THE_KEY, HostKeys
from knet_trio.rekeying.errors import RekeyError

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def make_change(keys: HostKeys, host_id: int, wanted: Mapping[str, str]) -> KeyChange:
    """Return a change that begins.

    Args:
        keys: The keys of this host.
        host_id: This host.
        wanted: Cipher, hash and model after the change, as far as they are to change.

    Raises:
        RekeyError: There can be no such change.
        InvalidArgumentError: There is no such cipher, hash or model.
    """
    now, then = find_names(keys, None, wanted)
    is_for_key_alone = then.is_same_envelope(now)
    if not is_for_key_alone:
        if keys.cluster.is_corosync:
            raise RekeyError(ONLY_THE_KEY)
        then.check()
        if then.cipher == NONE:
            raise RekeyError("cipher none hides nothing, so the key could not be changed again")
    return KeyChange(
        change_id=secrets.token_hex(8),
        began_by=host_id,
        old=keys.key,
        new=secrets.token_bytes(len(keys.key)),
        old_names=None if is_for_key_alone else now,
        new_names=None if is_for_key_alone else then,
    )


def check_wanted(keys: HostKeys, change: KeyChange, wanted: Mapping[str, str]) -> None:
    """Raise RekeyError if a change that has begun is not what is asked for."""
    _, then = find_names(keys, change)
    if wanted and not find_names(keys, change, wanted)[1].is_same_envelope(then):
        raise RekeyError(
            f"a change of the key to {then.describe()} is under way: finish it first, by rekey"
            " without cipher, hash and model, or drop it"
        )


def find_names(
    keys: HostKeys, change: KeyChange | None, wanted: Mapping[str, str] = _NOTHING
) -> tuple[CryptoNames, CryptoNames]:
    """Return how the key is used before a change, and after it.

    Args:
        keys: The keys of this host.
        change: The change, None if it has not begun.
        wanted: What is asked for after it; nothing for what has begun.
    """
    now = None if change is None else change.old_names
    if now is None:
        crypto = keys.cluster.crypto
        assert crypto is not None
        now = CryptoNames.of(crypto)
    if wanted:
        return now, now.change(**wanted)
    then = None if change is None else change.new_names
    return now, then or now
