"""The files of a key change: the key file, and the change file beside it.

The key file always has the key that this host seals with. The change file, ``lab.key.rekey`` beside
``lab.key``, has the old and the new key while a host must open packets of both. So a host that was
killed at any moment knows both keys when it starts again::

    key file   change file    phase
    old        none           none
    old        old and new    set: the host seals with the old key, and opens packets of both
    new        old and new    use: the host seals with the new key, and opens packets of both
    new        none           clear

Each step to the next line is one rename or one removal of a file, synced to the disk before the
host acts on it. A change file that does not contain the key in the key file is ignored.

If cipher, hash or model change too, the change file has the names for each key, which override
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
# Used if more than the key changes, so that a release that only knows version 1 refuses the file.
_VERSION_WITH_NAMES: Final = 2
_MAX_FILE: Final = 4 * MAX_KEY_SIZE
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_KEY_MODE: Final = 0o400
_CHANGE_MODE: Final = 0o600
MAX_CHANGE_ID: Final = 64
"""The longest name of a change, in characters."""


@attrs.frozen(kw_only=True)
class KeyChange:
    """A change of the key that has begun at this host and has not ended.

    Attributes:
        change_id: The name of the change, the same on all hosts.
        began_by: The id of the host that began the change.
        old: The old key; never shown.
        new: The new key; never shown.
        old_names: The old cipher, hash and model; None if they do not change, and are those of the
            cluster file.
        new_names: The new cipher, hash and model; None if they do not change.
    """

    change_id: str
    began_by: int
    old: bytes = attrs.field(repr=False)
    new: bytes = attrs.field(repr=False)
    old_names: CryptoNames | None = None
    new_names: CryptoNames | None = None

    def get_names(self, key: bytes) -> CryptoNames | None:
        """Return the names for ``key``, None if they do not change or ``key`` is not in the change.

        Args:
            key: The old or the new key.
        """
        if key == self.old:
            return self.old_names
        return self.new_names if key == self.new else None

    def get_other(self, key: bytes) -> bytes | None:
        """Return the key that is accepted beside ``key``, None if ``key`` is not in the change.

        Args:
            key: The old or the new key.
        """
        if key == self.old:
            return self.new
        return self.old if key == self.new else None

    def make_accepted(self, crypto: CryptoConfig) -> CryptoConfig | None:
        """Return the configuration that is accepted beside another one.

        Args:
            crypto: The configuration of the old or the new key.

        Returns:
            The other configuration, None if the key of ``crypto`` is not in the change.
        """
        other = self.get_other(crypto.key)
        if other is None:
            return None
        names = self.get_names(other)
        return attrs.evolve(crypto, key=other) if names is None else names.make(other)


class KeyChangeFiles:
    """The key file and the change file of a key. Every write is synced to the disk on return.

    Args:
        key_file: The key file. If it is a symbolic link, its target is replaced.
        secret: Refuse a key file that other users may read or write.

    Attributes:
        key_file: The path of the key file.
        change_file: The path of the change file.
    """

    def __init__(self, key_file: str | os.PathLike[str], *, secret: bool = True) -> None:
        self.key_file: Final = Path(key_file)
        self._secret = secret
        # with_name would raise for a path without a name, such as /.
        self.change_file: Final = Path(f"{self.key_file}{SUFFIX}")

    def read_key(self) -> bytes:
        """Return the key in the key file.

        Raises:
            KeyFileError: The file cannot be read, has a wrong size, or is open to other users.
        """
        return read_key_file(self.key_file, secret=self._secret)

    def read_change(self) -> KeyChange | None:
        """Return the change that is in progress, None if there is none.

        Raises:
            KeyFileError: The file cannot be read, is damaged, or is open to other users.
        """
        change, trouble = self._read_change()
        if trouble:
            raise KeyFileError(trouble)
        return change

    def _read_change(self) -> tuple[KeyChange | None, str]:
        """Return the change, or the text of an error.

        An error raised in here would have a traceback that leads to a key.
        """
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
                    f"the key change file {self.change_file} is not a regular file that only its"
                    " owner may read: chmod 600 it"
                )
            content = os.read(descriptor, _MAX_FILE)
        except OSError as error:
            return None, self._say("read", self.change_file, error)
        finally:
            os.close(descriptor)
        change = _parse(content)
        if change is None:
            return None, (
                f"the key change file {self.change_file} is damaged: copy the key file of another"
                " host to this one and remove the damaged file"
            )
        return change, ""

    def write_change(self, change: KeyChange) -> None:
        """Write the change file, replacing an existing one.

        Args:
            change: The change.

        Raises:
            KeyFileError: The file cannot be written; an existing one is unchanged.
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
        """Replace the key in the key file by ``key``, as raw bytes.

        The owner of the file is kept if the system allows that.

        Args:
            key: The new key.

        Raises:
            KeyFileError: The file cannot be written; it is unchanged.
        """
        trouble = self._replace(self.key_file, key, _KEY_MODE)
        del key
        if trouble:
            raise KeyFileError(trouble)

    def remove_change(self) -> None:
        """Remove the change file, and temporary files that a killed process may have left.

        Raises:
            KeyFileError: The files cannot be removed.
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
        """Replace a file; return the text of an error, "" on success."""
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
            # A temporary file of this process was removed, or made, by another one.
            why += "; if another host on this machine has the same key file, give each its own"
        return f"{path} cannot be {doing}: {why}"


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + _TEMPORARY)


def _parse(content: bytes) -> KeyChange | None:
    """Return the change in the content of a file, None if it is not valid."""
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields = cast("dict[str, Any]", found)
    change_id, began_by = fields.get("change"), fields.get("began_by")
    old, new = (decode_key(fields.get(name)) for name in ("old", "new"))
    old_names, new_names = (_parse_names(fields.get(name)) for name in ("old_names", "new_names"))
    has_names = old_names is not None and new_names is not None
    if (
        fields.get("version") != (_VERSION_WITH_NAMES if has_names else _VERSION)
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


def _parse_names(fields: object) -> CryptoNames | None:
    """Return the names in a change file, None if there are none or they are not valid."""
    if not isinstance(fields, dict):
        return None
    values = [cast("dict[str, object]", fields).get(name) for name in CRYPTO_NAMES]
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
    """Return the key in base64 in ``text``, None if it is not valid."""
    if not isinstance(text, str):
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return key if MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE else None


def read_keys(path: Path, *, secret: bool = True) -> tuple[bytes, KeyChange | None]:
    """Return the key in a key file, and the change that is in progress, None if there is none.

    A change that does not contain the key is ignored. Both files are read consistently, even while
    a running host writes them.

    Raises:
        KeyFileError: A file cannot be read, is damaged, or is open to other users.
    """
    files = KeyChangeFiles(path, secret=secret)
    while True:
        # The key file comes first, so a fault of both, such as of the directory, is reported for
        # it.
        key, change = files.read_key(), files.read_change()
        if files.read_key() == key:
            return key, change if change is not None and change.get_other(key) else None
