"""The file beside a key file that says that the key is being changed, and what becomes of both.

The key file has the key that this host seals with, at any time. The other file, ``lab.key.rekey``
beside ``lab.key``, has the old key and the new one as long as a host has to open packets of both.
So a host that starts again knows both, whenever it was killed::

    key file   the other file   phase
    old        none             none
    old        old and new      set: it seals with the old one, and opens packets of both
    new        old and new      use: it seals with the new one, and opens packets of both
    new        none             clear

Each step from a line to the next is one rename or one removal of a file, on the disk before the
host acts on it. The file of a change of other keys than that in the key file is of no use.

Where cipher, hash or model change too, it has the names that go with each key, which count before
those of the cluster file.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import attrs

from knet_trio.cluster._crypto_names import CRYPTO_NAMES, CryptoNames
from knet_trio.cluster._key_file import KeyFileError, read_key_file, sync_directory
from knet_trio.config import MAX_KEY_SIZE, MIN_KEY_SIZE, CryptoConfig
from knet_trio.errors import InvalidArgumentError

SUFFIX: Final = ".rekey"
_TEMPORARY: Final = ".new"
_VERSION: Final = 1
# Of a change of more than the key, which whoever knows version 1 alone must not do by halves.
_VERSION_WITH_NAMES: Final = 2
_MAX_FILE: Final = 4 * MAX_KEY_SIZE
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_KEY_MODE: Final = 0o400
_CHANGE_MODE: Final = 0o600
MAX_CHANGE_ID: Final = 64
"""Characters of the name of a change at most."""


@attrs.frozen(kw_only=True)
class KeyChange:
    """A change of the key that has begun at this host and is not over.

    Attributes:
        change_id: What it is called on all hosts.
        began_by: The id of the host that began it.
        old: The key before; never shown.
        new: The key after; never shown.
        old_names: Cipher, hash and model before; None if they stay, and are those of the cluster
            file.
        new_names: Cipher, hash and model after, None likewise.
    """

    change_id: str
    began_by: int
    old: bytes = attrs.field(repr=False)
    new: bytes = attrs.field(repr=False)
    old_names: CryptoNames | None = None
    new_names: CryptoNames | None = None

    def get_names(self, key: bytes) -> CryptoNames | None:
        """Return the names that go with ``key``; None if the change is not about them."""
        if key == self.old:
            return self.old_names
        return self.new_names if key == self.new else None

    def get_other(self, key: bytes) -> bytes | None:
        """Return the key that is accepted beside ``key``; None if the change is not about it."""
        if key == self.old:
            return self.new
        return self.old if key == self.new else None

    def make_accepted(self, crypto: CryptoConfig) -> CryptoConfig | None:
        """Return what is accepted beside ``crypto``; None if the change is not about its key."""
        other = self.get_other(crypto.key)
        if other is None:
            return None
        names = self.get_names(other)
        return attrs.evolve(crypto, key=other) if names is None else names.make(other)


class KeyChangeFiles:
    """The files of a key and its change. What it writes is on the disk when it returns.

    Args:
        key_file: The key file. If it is a symbolic link, what that leads to is replaced.
        secret: Refuse a key file that others may read or write.
    """

    def __init__(self, key_file: str | os.PathLike[str], *, secret: bool = True) -> None:
        self.key_file: Final = Path(key_file)
        self._secret = secret
        # Also of a path without a name, such as /, which cannot be read.
        self.change_file: Final = Path(f"{self.key_file}{SUFFIX}")

    def read_key(self) -> bytes:
        """Return the key in the key file.

        Raises:
            KeyFileError: It cannot be read, has another size, or is open to others.
        """
        return read_key_file(self.key_file, secret=self._secret)

    def read_change(self) -> KeyChange | None:
        """Return the change that is under way, None if there is none.

        Raises:
            KeyFileError: The file cannot be read, is damaged, or open to others.
        """
        change, trouble = self._read_change()
        if trouble:
            raise KeyFileError(trouble)
        return change

    def _read_change(self) -> tuple[KeyChange | None, str]:
        """Return the change, or what is wrong: an error raised in here could lead to a key."""
        try:
            descriptor = os.open(self.change_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError) as error:
            return None, self._say("read", self.change_file, error)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS:
                return None, (
                    f"{self.change_file}, of a change of the key, is no file that only its owner"
                    " may read: chmod 600 it"
                )
            content = os.read(descriptor, _MAX_FILE)
        except OSError as error:
            return None, self._say("read", self.change_file, error)
        finally:
            os.close(descriptor)
        change = _parse(content)
        if change is None:
            return None, (
                f"{self.change_file}, of a change of the key, is damaged: copy the key file of"
                " another host to this one and remove that file"
            )
        return change, ""

    def write_change(self, change: KeyChange) -> None:
        """Write the change, in the place of another one.

        Raises:
            KeyFileError: It cannot be written; what was there is there.
        """
        names = {
            name: attrs.asdict(value)
            for name, value in (("old_names", change.old_names), ("new_names", change.new_names))
            if value is not None
        }
        content = json.dumps(
            {
                "version": _VERSION_WITH_NAMES if names else _VERSION,
                "change": change.change_id,
                "began_by": change.began_by,
                "old": encode_key(change.old),
                "new": encode_key(change.new),
                **names,
            }
        )
        trouble = self._replace(self.change_file, content.encode() + b"\n", _CHANGE_MODE)
        del content
        if trouble:
            raise KeyFileError(trouble)

    def write_key(self, key: bytes) -> None:
        """Write a key in the place of the one in the key file, as its raw bytes.

        The owner of the file stays if the system allows that.

        Raises:
            KeyFileError: It cannot be written; the key file is as it was.
        """
        trouble = self._replace(self.key_file, key, _KEY_MODE)
        del key
        if trouble:
            raise KeyFileError(trouble)

    def remove_change(self) -> None:
        """Remove the change, and what a process that was killed may have left.

        Raises:
            KeyFileError: It cannot be removed.
        """
        try:
            for path in (self.key_file, self.change_file):
                _temporary(path).unlink(missing_ok=True)
            self.change_file.unlink(missing_ok=True)
            sync_directory(self.change_file.parent)
        except OSError as error:
            raise KeyFileError(
                self._say("removed", self.change_file, error), errno=error.errno
            ) from None

    def _replace(self, path: Path, content: bytes, mode: int) -> str:
        """Write a file in the place of another one; return what is wrong, "" if nothing is."""
        try:
            path = path.resolve()
            temporary = _temporary(path)
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, mode)
            try:
                with open(descriptor, "wb") as file:
                    os.fchmod(descriptor, mode)
                    self._keep_owner(descriptor)
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                temporary.replace(path)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            sync_directory(path.parent)
        except OSError as error:
            return self._say("written", path, error)
        return ""

    def _keep_owner(self, descriptor: int) -> None:
        with suppress(OSError):
            owner = self.key_file.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    @staticmethod
    def _say(doing: str, path: Path, error: OSError | ValueError) -> str:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        if isinstance(error, FileNotFoundError | FileExistsError) and path.parent.is_dir():
            # What only this process makes was there, or was gone.
            why += "; if another host of this machine has the same key file, give each its own"
        return f"{path} cannot be {doing}: {why}"


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + _TEMPORARY)


def _parse(content: bytes) -> KeyChange | None:
    """Return the change that a file describes, None if it describes none."""
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    said = cast("dict[str, Any]", found)
    change_id, began_by = said.get("change"), said.get("began_by")
    old, new = (decode_key(said.get(name)) for name in ("old", "new"))
    old_names, new_names = (_parse_names(said.get(name)) for name in ("old_names", "new_names"))
    has_names = old_names is not None and new_names is not None
    if (
        said.get("version") != (_VERSION_WITH_NAMES if has_names else _VERSION)
        or not isinstance(change_id, str)
        or not 0 < len(change_id) <= MAX_CHANGE_ID
        or type(began_by) is not int
        or old is None
        or new is None
    ):
        return None
    return KeyChange(
        change_id=change_id,
        began_by=began_by,
        old=old,
        new=new,
        old_names=old_names if has_names else None,
        new_names=new_names if has_names else None,
    )


def _parse_names(said: object) -> CryptoNames | None:
    """Return the names that there are, None for none."""
    if not isinstance(said, dict):
        return None
    values = [cast("dict[str, object]", said).get(name) for name in CRYPTO_NAMES]
    if not all(isinstance(value, str) for value in values):
        return None
    names = CryptoNames(*map(str, values))
    try:
        names.check()
    except InvalidArgumentError:
        return None
    return names


def encode_key(key: bytes) -> str:
    """Return a key in base64."""
    return base64.b64encode(key).decode()


def decode_key(text: object) -> bytes | None:
    """Return the key that stands in base64 in ``text``, None if there is none."""
    if not isinstance(text, str):
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE else None


def read_keys(path: Path, *, secret: bool = True) -> tuple[bytes, KeyChange | None]:
    """Return the key in a key file, and the change that is under way, None if there is none.

    A change of other keys is none. Both are of one moment, whatever a running host writes.

    Raises:
        KeyFileError: One of the files cannot be read, is damaged, or open to others.
    """
    files = KeyChangeFiles(path, secret=secret)
    while True:
        # What is wrong with both, such as the directory, is said of the key file.
        key, change = files.read_key(), files.read_change()
        if files.read_key() == key:
            return key, change if change is not None and change.get_other(key) else None
