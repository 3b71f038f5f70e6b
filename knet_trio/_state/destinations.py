"""Finding the hosts that a program names: by ids, by names, or by its ``Host`` objects."""

from __future__ import annotations

import errno
from itertools import islice
from typing import Final

from knet_trio._core.onwire import MAX_HOST_ID
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio.errors import InvalidArgumentError, UnknownHostError, is_integer, shown

_LISTED: Final = 8


def find_host(handle: HandleState, host: object) -> HostState:
    """Return the state of a host.

    Args:
        handle: The handle.
        host: The id of the host, its name, or the object that ``Handle.add_host`` returned.

    Raises:
        UnknownHostError: The handle does not have the host.
        InvalidArgumentError: ``host`` is not an id, a name or an object of a host.
    """
    if isinstance(host, str):
        named = handle.find(host)
        if named is not None:
            return named
        raise UnknownHostError(_why_no_name(handle, host), errno=errno.ENOENT)
    if is_integer(host):
        state = handle.hosts.get(host)
        if state is not None:
            return state
        raise UnknownHostError(_why_no_id(handle, host))
    state = getattr(host, "state", None)
    if not isinstance(state, HostState):
        raise InvalidArgumentError(
            f"{shown(host)} is not a host: give ids, names or Host objects, such as 2 or 'beta'"
        )
    if handle.hosts.get(state.host_id) is not state:
        raise UnknownHostError(f"host {state.host_id} was removed, or is another handle's")
    return state


def _why_no_name(handle: HandleState, name: str) -> str:
    why = f"the handle has no host called {shown(name)}"
    if name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_HOST_ID)):
        meant = handle.hosts.get(int(name))
        if meant is not None:
            return f"{why}; host {name} is called {meant.name!r}: ids are integers, without quotes"
    return f"{why}; {list_hosts(handle)}; add_host(host_id, name={shown(name)}) makes one"


def _why_no_id(handle: HandleState, host_id: int) -> str:
    why = f"the handle has no host {shown(host_id)}"
    if not 0 <= host_id <= MAX_HOST_ID:
        return f"{why}: ids are 0 to {MAX_HOST_ID}"
    return f"{why}; {list_hosts(handle)}; add_host({host_id}) makes one"


def list_hosts(handle: HandleState) -> str:
    """Return the ids and names of the hosts as text, the first few if there are many."""
    hosts = handle.hosts
    if not hosts:
        return "it has none yet"
    first = islice(hosts.values(), _LISTED)
    listed = ", ".join(f"{host.host_id} ({host.name})" for host in first)
    more = f" and {len(hosts) - _LISTED} more" if len(hosts) > _LISTED else ""
    return f"it has {listed}{more}"
