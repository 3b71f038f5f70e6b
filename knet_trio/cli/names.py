"""What hosts are called."""

from __future__ import annotations

from typing import Protocol


class NamedHost(Protocol):
    """A host, of whichever record."""

    @property
    def host_id(self) -> int:
        """Its id."""
        ...

    @property
    def name(self) -> str:
        """Its name; its id if it was given none."""
        ...


def name_of(host: NamedHost) -> str:
    """Return the name of a host for tables, with its id if that is not the name: ``beta (2)``."""
    return host.name if host.name == str(host.host_id) else f"{host.name} ({host.host_id})"


def title_of(host_id: int, name: str) -> str:
    """Return what a host is called in sentences: ``host 2 (beta)``."""
    return f"host {host_id}" if name == str(host_id) else f"host {host_id} ({name})"
