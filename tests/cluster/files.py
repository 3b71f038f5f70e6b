"""Cluster files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.cluster import KEY

LAB: Final = """\
[cluster]
name = "lab"
key_file = "lab.key"
[cluster.links]
ping_interval = 0.1
pong_timeout = 1.0
pong_count = 1

[[hosts]]
id = 1
name = "alpha"
links = ["10.0.0.1", "10.1.0.1"]
[[hosts]]
id = 2
name = "beta"
links = ["10.0.0.2", "10.1.0.2"]
"""


def write_key(path: Path, key: bytes = KEY[:256], mode: int = 0o400) -> Path:
    """Write a key file of that mode."""
    path.write_bytes(key)
    path.chmod(mode)
    return path


def write_file(directory: Path, text: str, name: str = "lab.toml") -> Path:
    """Write a cluster file, beside a key called ``lab.key``."""
    key = directory / "lab.key"
    if not key.exists():
        write_key(key)
    path = directory / name
    path.write_text(text)
    return path
