"""A socket in the file system: made with a mode, taken over if nobody listens, and removed.

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

import attrs
import trio

from knet_trio import KnetError
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


def check_path(path: Path, error: type[KnetError] = ControlSocketError) -> str:
    """Return ``path`` as text if a socket can have it, else raise ``error``."""
    text = str(path)
    size = len(os.fsencode(text))
    if size > MAX_PATH:
        raise error(
            f"the path {text} has {size} bytes, and a socket's {MAX_PATH} at most: use a shorter"
            " one",
            errno=errno.ENAMETOOLONG,
        )
    return text


@attrs.frozen
class SocketFile:
    """What a socket in the file system is to be.

    Attributes:
        path: Where it is.
        kind: Its type.
        mode: Of its file.
        group: Of its file; None for that of the process.
        error: What is raised if it cannot be so.
    """

    path: Path
    kind: socket.SocketKind = socket.SOCK_STREAM
    mode: int = MODE
    group: int | None = None
    error: type[KnetError] = ControlSocketError

    def refused(self, error: OSError) -> KnetError:
        """Return the error for what the system said."""
        number = error.errno or 0
        return self.error(f"cannot serve {self.path}: {os.strerror(number)}", errno=number)


@asynccontextmanager
async def open_listener(path: Path) -> AsyncGenerator[trio.SocketListener]:
    """Listen at ``path`` for this user's programs, and remove it when the block is left.

    Raises:
        ControlSocketError: Somebody listens there, something else is there, or the system refuses.
    """
    async with open_socket_file(SocketFile(path)) as sock:
        yield trio.SocketListener(trio.socket.from_stdlib_socket(sock))


@asynccontextmanager
async def open_socket_file(wanted: SocketFile) -> AsyncGenerator[socket.socket]:
    """Listen with a socket in the file system, which is removed when the block is left.

    The directory is made, for its owner alone, if only that is missing.

    Raises:
        KnetError: That of ``wanted``: somebody listens there, something else is there, or the
            system refuses.
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
    """Return the path that stays the same if the working directory changes."""
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
                    f"the directory of {wanted.path} has been locked for {_LOCK_PATIENCE:g} s: is"
                    " another program stuck that serves a socket there?",
                    errno=errno.EBUSY,
                ) from None
            await trio.sleep(_LOCK_PERIOD)
        else:
            return


def _listen(wanted: SocketFile, text: str) -> tuple[socket.socket, os.stat_result]:
    """Return the socket, and what its file is."""
    made: os.stat_result | None = None
    sock = socket.socket(socket.AF_UNIX, wanted.kind)
    try:
        sock.setblocking(False)
        # The file gets the mode that the socket has, so nobody else can connect before it has the
        # one that is wanted.
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
            f"cannot give {wanted.path} the group {group}: {os.strerror(number)}; the user of this"
            " program has to be in that group, and a service may need more: see docs/running.md",
            errno=number,
        ) from None


def _make_room(wanted: SocketFile, text: str) -> None:
    """Remove a socket that nobody listens at."""
    path = wanted.path
    if not stat.S_ISSOCK(os.lstat(text).st_mode):
        raise wanted.error(
            f"{path} is there, and is no socket: remove it, or use another path",
            errno=errno.EEXIST,
        )
    with socket.socket(socket.AF_UNIX, wanted.kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(text)
            by = f"process {peer_of(probe).pid}"
        except ConnectionRefusedError:
            os.unlink(text)
            return
        except OSError as error:
            # So many wait to be let in that there is no room for one more; or it is of another
            # type.
            if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                raise
            by = "another program"
    raise wanted.error(
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
