"""The wanted result of a change: a new key, and possibly another cipher, hash and model."""

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
    """Return a new change.

    Args:
        keys: The keys of this host.
        host_id: The id of this host.
        wanted: The new cipher, hash and model, as far as they are to change.

    Raises:
        RekeyError: Such a change is not possible.
        InvalidArgumentError: The cipher, hash or model does not exist.
    """
    check_known(keys, wanted)
    now, then = find_names(keys, None, wanted)
    is_for_key_alone = then.is_same_envelope(now)
    if not is_for_key_alone:
        if keys.cluster.is_corosync:
            raise RekeyError(ONLY_THE_KEY)
        if then.cipher == NONE:
            raise RekeyError(
                "cipher none does not encrypt, so the key could not be changed again: choose"
                " another one"
            )
    return KeyChange(
        change_id=secrets.token_hex(8),
        began_by=host_id,
        old=keys.key,
        new=secrets.token_bytes(len(keys.key)),
        old_names=None if is_for_key_alone else now,
        new_names=None if is_for_key_alone else then,
    )


def check_known(keys: HostKeys, wanted: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError if a wanted name does not exist, or the names do not go together.

    ``CryptoNames.is_same_envelope`` is not enough, since models other than ``aead`` are all the
    same to it, whether they exist or not.

    Args:
        keys: The keys of this host.
        wanted: The new cipher, hash and model, as far as they are to change.
    """
    if wanted:
        find_names(keys, keys.change, wanted)[1].check()


def check_wanted(keys: HostKeys, change: KeyChange, wanted: Mapping[str, str]) -> None:
    """Raise RekeyError if a change that has begun does not lead to the wanted names."""
    _, then = find_names(keys, change)
    if wanted and not find_names(keys, change, wanted)[1].is_same_envelope(then):
        raise RekeyError(
            f"a change of the key to {then.describe()} is in progress: finish it first, with rekey"
            " without cipher, hash and model, or drop it"
        )


def find_names(
    keys: HostKeys, change: KeyChange | None, wanted: Mapping[str, str] = _NOTHING
) -> tuple[CryptoNames, CryptoNames]:
    """Return the cipher, hash and model before a change, and after it.

    Args:
        keys: The keys of this host.
        change: The change, None if it has not begun.
        wanted: The wanted names after the change; empty for those of ``change``.
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
