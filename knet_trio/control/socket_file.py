"""The socket in the file system: made with mode 0600, taken over if nobody listens, and removed.

Who serves a path holds a lock on its directory while it looks whether somebody listens there and
puts its own socket in place, so two programs that start at the same time do not take it from each
other.
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

import trio

from knet_trio.control.errors import ControlSocketError

MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_BACKLOG: Final = 64
# What fits into the system's structure, without the zero byte at its end.
MAX_PATH: Final = 107
# Seconds to wait for the lock of a directory, which is held for an instant.
_LOCK_PATIENCE: Final = 5.0
_LOCK_PERIOD: Final = 0.01
_PEER: Final = struct.Struct("3i")


class Peer(NamedTuple):
    """The process at the other end of a socket, as the system knows it.

    Attributes:
        pid: The id of the process.
        uid: Its effective user when it connected, or listened.
        gid: Its effective group then.
    """

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket | trio.socket.SocketType) -> Peer:
    """Return who is at the other end of a connected socket."""
    return Peer(*_PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)))


def check_path(path: Path) -> str:
    """Return ``path`` as text if a socket can have it, else raise ControlSocketError."""
    text = str(path)
    size = len(os.fsencode(text))
    if size > MAX_PATH:
        raise ControlSocketError(
            f"the path {text} has {size} bytes, and a socket's {MAX_PATH} at most: use a shorter"
            " one",
            errno=errno.ENAMETOOLONG,
        )
    return text


@asynccontextmanager
async def open_listener(path: Path) -> AsyncGenerator[trio.SocketListener]:
    """Listen at ``path``, and remove it when the block is left.

    The directory is made, for its owner alone, if only that is missing.

    Raises:
        ControlSocketError: Somebody listens there, something else is there, or the system refuses.
    """
    path = _from_root(path)
    text = check_path(path)
    try:
        directory = _open_directory(path.parent)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        await _lock(directory, path)
        try:
            sock = _listen(path, text)
        finally:
            fcntl.flock(directory, fcntl.LOCK_UN)
    finally:
        os.close(directory)
    made = os.lstat(text)
    try:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    finally:
        _remove(text, made)
        sock.close()


def _from_root(path: Path) -> Path:
    """Return the path that stays the same if the working directory changes."""
    return path.absolute()


def _open_directory(directory: Path) -> int:
    if not directory.exists():
        directory.mkdir(_DIRECTORY_MODE, exist_ok=True)
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


async def _lock(directory: int, path: Path) -> None:
    deadline = trio.current_time() + _LOCK_PATIENCE
    await trio.lowlevel.checkpoint()
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if trio.current_time() >= deadline:
                raise ControlSocketError(
                    f"the directory of {path} has been locked for {_LOCK_PATIENCE:g} s: is another"
                    " program stuck that serves a socket there?",
                    errno=errno.EBUSY,
                ) from None
            await trio.sleep(_LOCK_PERIOD)
        else:
            return


def _listen(path: Path, text: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # The file gets the mode that the socket has, so it never has another.
        os.fchmod(sock.fileno(), MODE)
        try:
            sock.bind(text)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _make_room(path, text)
            sock.bind(text)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(path, error) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _make_room(path: Path, text: str) -> None:
    """Remove a socket that nobody listens at."""
    if not stat.S_ISSOCK(os.lstat(text).st_mode):
        raise ControlSocketError(
            f"{path} is there, and is no socket: remove it, or use another path",
            errno=errno.EEXIST,
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(text)
        except ConnectionRefusedError:
            os.unlink(text)
            return
        except BlockingIOError:
            # So many wait to be let in that there is no room for one more.
            by = "another program"
        else:
            by = f"process {peer_of(probe).pid}"
    raise ControlSocketError(
        f"{by} serves {path}: is this host running already? If not, use another path",
        errno=errno.EADDRINUSE,
    )


def _remove(text: str, made: os.stat_result) -> None:
    """Remove our own socket, and no other that is there instead."""
    try:
        there = os.lstat(text)
    except FileNotFoundError:
        return
    if (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino):
        os.unlink(text)


def _refused(path: Path, error: OSError) -> ControlSocketError:
    number = error.errno or 0
    return ControlSocketError(f"cannot serve {path}: {os.strerror(number)}", errno=number)
