"""The directories of control sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from knet_trio.control.socket_file import MAX_PATH

SUFFIX: Final = ".sock"
_NAME: Final = "knet-trio"


def control_directories(
    environment: Mapping[str, str] | None = None, *, is_root: bool | None = None
) -> list[Path]:
    """Return the directories of control sockets, in the order in which to search them.

    These are the directories of ``$RUNTIME_DIRECTORY``, which systemd sets for a service;
    ``knet-trio`` in ``$XDG_RUNTIME_DIR``; and for root ``/run/knet-trio``. A program that serves a
    socket uses the first.

    Args:
        environment: The environment variables, None for those of the process.
        is_root: True if the user is root, None to find out.

    Returns:
        The directories, which may not exist.
    """
    environment = os.environ if environment is None else environment
    found = [Path(part) for part in environment.get("RUNTIME_DIRECTORY", "").split(":") if part]
    if environment.get("XDG_RUNTIME_DIR"):
        found.append(Path(environment["XDG_RUNTIME_DIR"]) / _NAME)
    if os.geteuid() == 0 if is_root is None else is_root:
        found.append(Path("/run") / _NAME)
    return found


def find_control_sockets(directories: list[Path] | None = None) -> list[Path]:
    """Return the control sockets in the first directory that has any with a listening program.

    Args:
        directories: The directories to search, None for ``control_directories()``.

    Returns:
        The paths, sorted; empty if there are none.
    """
    for directory in control_directories() if directories is None else directories:
        try:
            candidates = sorted(directory.glob(f"*{SUFFIX}"))
        except OSError:
            # This user may not read the directory.
            continue
        sockets = [path for path in candidates if _is_live(path)]
        if sockets:
            return sockets
    return []


def _is_live(path: Path) -> bool:
    """Return True if a program listens at ``path``, or if that cannot be determined."""
    if len(os.fsencode(path)) > MAX_PATH:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return False
    return True
