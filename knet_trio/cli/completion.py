"""What a shell is offered to complete a word with, beside files and options."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from knet_trio.cluster import ClusterFileError, load_cluster


def complete_hosts(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the hosts of the file that stands in the command already, with their ids as help."""
    # An option that waits for its value keeps click from telling what the words before it are.
    file = ctx.params.get("file") or next(iter(ctx.args), None)
    if not isinstance(file, str):
        return []
    return [
        CompletionItem(name, help=f"host {host_id}")
        for name, host_id in _list_hosts(Path(file))
        if name.startswith(incomplete)
    ]


def _list_hosts(path: Path) -> list[tuple[str, int]]:
    """Return names and ids; the key file, which this user may not read, is not needed for that."""
    if path.suffix == ".toml":
        with suppress(OSError, ValueError, LookupError, TypeError):
            document: dict[str, Any] = tomllib.loads(path.read_text())
            return [(str(host.get("name", host["id"])), host["id"]) for host in document["hosts"]]
        return []
    with suppress(ClusterFileError):
        return [(host.name, host.host_id) for host in load_cluster(path).hosts]
    return []
