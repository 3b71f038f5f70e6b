"""The names of hosts in output."""

from __future__ import annotations

from typing import Protocol


class NamedHost(Protocol):
    """A record of a host, of any type."""

    @property
    def host_id(self) -> int:
        """The host id."""
        ...

    @property
    def name(self) -> str:
        """The name; the id in digits for a host without a name."""
        ...


def name_of(host: NamedHost) -> str:
    """Return the name of a host for tables, with its id unless that is the name: ``beta (2)``."""
    return host.name if host.name == str(host.host_id) else f"{host.name} ({host.host_id})"


def title_of(host_id: int, name: str) -> str:
    """Return the name of a host for sentences: ``host 2 (beta)``."""
    return f"host {host_id}" if name == str(host_id) else f"host {host_id} ({name})"
