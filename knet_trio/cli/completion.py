"""Shell completion of the names of hosts, beside click's own of files and options."""

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
    """Return the hosts of the cluster file named earlier in the command, with their ids as help."""
    # While an option waits for its value, click leaves the words before it unparsed.
    file = ctx.params.get("file") or next(iter(ctx.args), None)
    if not isinstance(file, str):
        return []
    return [
        CompletionItem(name, help=f"host {host_id}")
        for name, host_id in _list_hosts(Path(file))
        if name.startswith(incomplete)
    ]


def _list_hosts(path: Path) -> list[tuple[str, int]]:
    """Return the names and ids of the hosts in a file, without reading its key file."""
    if path.suffix == ".toml":
        with suppress(OSError, ValueError, LookupError, TypeError):
            document: dict[str, Any] = tomllib.loads(path.read_text())
            return [(str(host.get("name", host["id"])), host["id"]) for host in document["hosts"]]
        return []
    with suppress(ClusterFileError):
        return [(host.name, host.host_id) for host in load_cluster(path).hosts]
    return []
