"""Key files: reading, writing, and fingerprints to compare by phone."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from knet_trio.config import MAX_KEY_SIZE, MIN_KEY_SIZE
from knet_trio.errors import InvalidArgumentError, KnetError, shown

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FINGERPRINT_SIZE: Final = 12
_GROUP: Final = 4
_TOO_OPEN: Final = (
    "other users may read or write the key file {file} (mode {mode}): chmod 400 it, and make a new"
    " key if somebody may have read it"
)
_WRONG_SIZE: Final = (
    f"the key file {{file}} has {{size}} bytes: a key has {MIN_KEY_SIZE} to {MAX_KEY_SIZE}; make"
    " one with knet-trio keygen"
)


class KeyFileError(KnetError):
    """A key file cannot be used or written. Neither the text nor the traceback has the key."""


def read_key_file(path: str | os.PathLike[str], *, secret: bool = True) -> bytes:
    """Return the key in a file: its 128 to 4096 raw bytes.

    Args:
        path: The file.
        secret: Refuse a file that users other than its owner may read or write. Files in systemd's
            ``$CREDENTIALS_DIRECTORY``, which systemd protects itself, are not checked.

    Returns:
        The key.

    Raises:
        KeyFileError: The file cannot be read, has a wrong size, or is open to other users.
    """
    key, trouble = _read(path, secret=secret)
    if trouble is not None:
        raise KeyFileError(trouble[0], errno=trouble[1])
    return key


def _read(path: str | os.PathLike[str], *, secret: bool) -> tuple[bytes, tuple[str, int] | None]:
    """Return the key, or the text and errno of an error.

    An error raised in here would have a traceback that leads to the key.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        return b"", (_say(path, error), getattr(error, "errno", 0) or 0)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", (f"the key file {os.fspath(path)} is not a regular file", 0)
        if secret and status.st_mode & _OTHERS and not _is_credential(path):
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            return b"", (_TOO_OPEN.format(file=os.fspath(path), mode=mode), 0)
        # A regular file returns all requested bytes at once.
        key = os.read(descriptor, MAX_KEY_SIZE + 1)
    except OSError as error:
        return b"", (_say(path, error), error.errno or 0)
    finally:
        os.close(descriptor)
    if not MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE:
        return b"", (_WRONG_SIZE.format(file=os.fspath(path), size=status.st_size), 0)
    return key, None


def is_open_to_others(path: str | os.PathLike[str]) -> bool:
    """Return whether users other than the owner may use a file; False if it does not exist."""
    try:
        return bool(os.stat(path).st_mode & _OTHERS)
    except OSError:
        return False


def write_key_file(path: str | os.PathLike[str], key: bytes) -> None:
    """Write a key to a new file that only its owner may read, and sync it to the disk.

    Args:
        path: The file, which must not exist.
        key: The key.

    Raises:
        KeyFileError: The file exists or cannot be written; no new file is left.
    """
    trouble = _write(path, key)
    del key
    if trouble is not None:
        raise KeyFileError(trouble[0], errno=trouble[1])


def _write(path: str | os.PathLike[str], key: bytes) -> tuple[str, int] | None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o400)
    except FileExistsError as error:
        return (
            f"{os.fspath(path)} exists and is not overwritten: choose another name",
            error.errno or 0,
        )
    except (OSError, ValueError) as error:
        return _say(path, error, "written"), getattr(error, "errno", 0) or 0
    try:
        with open(descriptor, "wb") as file:
            # Independent of the umask.
            os.fchmod(descriptor, 0o400)
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        sync_directory(Path(path).parent)
    except BaseException as error:
        # A partial key is useless and would block the next attempt; so also after Ctrl-C.
        with suppress(OSError):
            os.unlink(path)
        if not isinstance(error, OSError):
            raise
        return _say(path, error, "written"), error.errno or 0
    return None


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_fingerprint(key: bytes, salt: bytes) -> str:
    """Return a fingerprint that two people can read to each other.

    The fingerprint is the beginning of HMAC-SHA-256 of the key with the salt. So two fingerprints
    with different salts do not show whether the keys are the same, and no fingerprint can be looked
    up in a table.

    Args:
        key: The key.
        salt: Any bytes, the same on both sides.

    Returns:
        Groups of four hexadecimal digits, separated by blanks.
    """
    digest = hmac.digest(b"knet_trio fingerprint" + salt, key, hashlib.sha256)
    text = digest[:_FINGERPRINT_SIZE].hex()
    return " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def parse_salt(text: str) -> bytes:
    """Return the salt that a person typed in hexadecimal.

    Args:
        text: The digits, with or without blanks.

    Raises:
        InvalidArgumentError: The text is empty or not hexadecimal.
    """
    try:
        salt = bytes.fromhex(text)
    except ValueError:
        salt = b""
    if not salt:
        raise InvalidArgumentError(
            f"{shown(text)} is not a salt: give hexadecimal digits, as keygen prints them"
        )
    return salt


def _is_credential(path: str | os.PathLike[str]) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and Path(path).resolve().is_relative_to(Path(str(directory)).resolve())


def _say(path: str | os.PathLike[str], error: OSError | ValueError, doing: str = "read") -> str:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return f"the key file {os.fspath(path)} cannot be {doing}: {why}"
