"""A socket in the file system: created with a mode, replacing an unused one, removed at the end.

A program that serves a path holds a lock on the directory while it checks whether another program
listens there and puts its own socket in place. So two programs that start at the same time do not
remove each other's socket.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import attrs
import trio

from knet_trio import KnetError
from knet_trio.control.errors import ControlSocketError

MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_BACKLOG: Final = 64
# The size of the path in the system's structure, without the zero byte at its end.
MAX_PATH: Final = 107
# Seconds to wait for the lock of a directory, which other programs hold only for an instant.
_LOCK_PATIENCE: Final = 5.0
_LOCK_PERIOD: Final = 0.01
_PEER: Final = struct.Struct("3i")


class Peer(NamedTuple):
    """The process at the other end of a socket, as reported by the system.

    Attributes:
        pid: The id of the process.
        uid: The effective user of the process when it connected or listened.
        gid: The effective group of the process when it connected or listened.
    """

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket | trio.socket.SocketType) -> Peer:
    """Return the process at the other end of a connected socket."""
    return Peer(*_PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)))


def check_path(path: Path, error: type[KnetError] = ControlSocketError) -> str:
    """Return ``path`` as text if it is short enough for a socket, else raise ``error``."""
    text = str(path)
    size = len(os.fsencode(text))
    if size > MAX_PATH:
        raise error(
            f"the path {text} has {size} bytes, too many for a socket: use one of at most"
            f" {MAX_PATH} bytes",
            errno=errno.ENAMETOOLONG,
        )
    return text


@attrs.frozen
class SocketFile:
    """The wanted properties of a socket in the file system.

    Attributes:
        path: The path of the socket.
        kind: The type of the socket.
        mode: The mode of the file.
        group: The group of the file; None for that of the process.
        error: The type of error to raise if the socket cannot be served.
    """

    path: Path
    kind: socket.SocketKind = socket.SOCK_STREAM
    mode: int = MODE
    group: int | None = None
    error: type[KnetError] = ControlSocketError

    def refused(self, error: OSError) -> KnetError:
        """Return the error to raise for an error of the system."""
        number = error.errno or 0
        return self.error(f"cannot serve {self.path}: {os.strerror(number)}", errno=number)


@asynccontextmanager
async def open_listener(path: Path) -> AsyncGenerator[trio.SocketListener]:
    """Listen at ``path`` for this user's programs, and remove the socket when the block is left.

    Raises:
        ControlSocketError: Another program listens there, a file of another type is there, or the
            system refuses.
    """
    async with open_socket_file(SocketFile(path)) as sock:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))


@asynccontextmanager
async def open_socket_file(wanted: SocketFile) -> AsyncGenerator[socket.socket]:
    """Listen with a socket in the file system, which is removed when the block is left.

    The directory is created, with mode 0700, if only the last part of its path is missing.

    Raises:
        KnetError: Of the type ``wanted.error``: another program listens there, a file of another
            type is there, or the system refuses.
    """
    wanted = attrs.evolve(wanted, path=_from_root(wanted.path))
    text = check_path(wanted.path, wanted.error)
    try:
        directory = _open_directory(wanted.path.parent)
    except OSError as error:
        raise wanted.refused(error) from None
    try:
        await _lock(directory, wanted)
        try:
            sock, made = _listen(wanted, text)
        finally:
            fcntl.flock(directory, fcntl.LOCK_UN)
    finally:
        os.close(directory)
    try:
        yield sock
    finally:
        _remove(text, made)
        sock.close()


def _from_root(path: Path) -> Path:
    """Return the absolute path, which stays valid if the working directory changes."""
    return path.absolute()


def _open_directory(directory: Path) -> int:
    if not directory.exists():
        directory.mkdir(_DIRECTORY_MODE, exist_ok=True)
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


async def _lock(directory: int, wanted: SocketFile) -> None:
    deadline = trio.current_time() + _LOCK_PATIENCE
    await trio.lowlevel.checkpoint()
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if trio.current_time() >= deadline:
                raise wanted.error(
                    f"the directory of {wanted.path} has been locked for {_LOCK_PATIENCE:g} s:"
                    " check whether another program that serves a socket there is stuck",
                    errno=errno.EBUSY,
                ) from None
            await trio.sleep(_LOCK_PERIOD)
        else:
            return


def _listen(wanted: SocketFile, text: str) -> tuple[socket.socket, os.stat_result]:
    """Return the socket and the identity of its file."""
    made: os.stat_result | None = None
    sock = socket.socket(socket.AF_UNIX, wanted.kind)
    try:
        sock.setblocking(False)
        # The file inherits this mode from the socket, so no other user can connect before the file
        # has its final mode.
        os.fchmod(sock.fileno(), MODE)
        try:
            sock.bind(text)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _make_room(wanted, text)
            sock.bind(text)
        made = os.lstat(text)
        if wanted.group is not None and made.st_gid != wanted.group:
            _give_group(wanted, text, wanted.group)
        if wanted.mode != MODE:
            os.chmod(text, wanted.mode)
        sock.listen(_BACKLOG)
    except BaseException as error:
        if made is not None:
            _remove(text, made)
        sock.close()
        if isinstance(error, OSError):
            raise wanted.refused(error) from None
        raise
    return sock, made


def _give_group(wanted: SocketFile, text: str, group: int) -> None:
    try:
        os.chown(text, -1, group)
    except OSError as error:
        number = error.errno or 0
        raise wanted.error(
            f"cannot give {wanted.path} the group {group}: {os.strerror(number)}: add the user of"
            " this program to that group; for a service see docs/running.md",
            errno=number,
        ) from None


def _make_room(wanted: SocketFile, text: str) -> None:
    """Remove a socket that no program listens at, else raise."""
    path = wanted.path
    if not stat.S_ISSOCK(os.lstat(text).st_mode):
        raise wanted.error(
            f"{path} exists and is not a socket: remove it, or use another path",
            errno=errno.EEXIST,
        )
    try:
        by = _find_listener(text, wanted.kind)
    except ConnectionRefusedError:
        os.unlink(text)
        return
    raise wanted.error(
        f"{by} already serves {path}: check whether this host is running already, or use another"
        " path",
        errno=errno.EADDRINUSE,
    )


def find_listener(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> str | None:
    """Return the program that listens at ``path``, in words; None if none does or may be asked."""
    try:
        return _find_listener(str(path), kind)
    except OSError:
        return None


def _find_listener(text: str, kind: socket.SocketKind) -> str:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(text)
        except OSError as error:
            # EAGAIN: the backlog of its listener is full. EPROTOTYPE: the socket is of another
            # type.
            if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                raise
            return "another program"
        return f"process {peer_of(probe).pid}"


def _remove(text: str, made: os.stat_result) -> None:
    """Remove our own socket, but not another one that has replaced it."""
    try:
        there = os.lstat(text)
    except FileNotFoundError:
        return
    if (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino):
        os.unlink(text)
