"""Reading of cluster files of either kind."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from knet_trio.cluster._corosync import read_corosync
from knet_trio.cluster._crypto_names import CryptoNames
from knet_trio.cluster._toml import read_crypto_names, read_toml
from knet_trio.cluster.errors import ClusterFileError, Mistake
from knet_trio.cluster.records import Cluster

# Far more than a mesh of 65536 hosts needs. A limit is needed since a device file never ends.
_MAX_FILE: Final = 64 * 1024 * 1024
# Matches the first line of a corosync.conf that is neither empty nor a comment; never a TOML line.
_DIRECTIVE: Final = re.compile(r"\s*(?:#[^\n]*\n\s*)*\w+\s*(?:\{[ \t\r]*(?:\n|$)|:)")


def load_cluster(path: str | os.PathLike[str]) -> Cluster:
    """Read a cluster file, in TOML or corosync.conf(5), and the key file that it names.

    The function blocks while it reads files and, for the names in a corosync.conf, asks the
    system's resolver. In a Trio program use ``open_cluster``, which calls it in a thread.

    Args:
        path: The file. ``docs/cluster-file.md`` describes its keys.

    Returns:
        The cluster.

    Raises:
        ClusterFileError: The file cannot be read or is not valid. The error has all mistakes with
            their lines; after a mistake in the syntax, only that one.
    """
    cluster, mistakes = _read(Path(path))
    if cluster is None:
        raise ClusterFileError(path, mistakes)
    return cluster


def load_crypto_names(path: Path) -> CryptoNames:
    """Return the cipher, hash and model in a cluster file, which a host may not use yet.

    Raises:
        ClusterFileError: The file cannot be read, or is not a cluster file in TOML.
    """
    text, mistakes = _read_text(path)
    names = None if mistakes else read_crypto_names(text)
    if names is None:
        raise ClusterFileError(path, mistakes or [Mistake("this is not a cluster file in TOML")])
    return names


def _read(path: Path) -> tuple[Cluster | None, list[Mistake]]:
    """Return the cluster, or the mistakes.

    An error raised in here would have a traceback that leads to a key.
    """
    text, mistakes = _read_text(path)
    if mistakes:
        return None, mistakes
    is_corosync = path.suffix != ".toml" and _DIRECTIVE.match(text) is not None
    return read_corosync(text, path) if is_corosync else read_toml(text, path)


def _read_text(path: Path) -> tuple[str, list[Mistake]]:
    """Return the text of a file, or its mistakes."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return "", [Mistake(f"the cluster file cannot be read: {why}")]
    if len(content) > _MAX_FILE:
        return "", [Mistake(f"the cluster file is longer than {_MAX_FILE} bytes")]
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        return "", [Mistake("this is not UTF-8: save the file in UTF-8", line, column)]
