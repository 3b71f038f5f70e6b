"""Changing the key of a cluster on all hosts, without losing messages.

Begin with ``serve_rekeying``: every host runs it, and any host can begin a change. From the bottom
up::

    errors        errors
    _phases       the phases set, use and clear, and the level of a host
    records       the report of a change
    _messages     the requests between hosts
    _host_keys    the keys of this host, in files and slots
    _wanted       the wanted key, cipher, hash and model
    _progress     the progress of each host during a change
    _participant  the side that answers requests
    _coordinator  the side that changes the key of all hosts
    _service      both sides, on a handle

``docs/cluster-file.md`` describes the use.
"""

from __future__ import annotations

from knet_trio.rekeying._phases import Phase
from knet_trio.rekeying._service import Rekeying, serve_rekeying
from knet_trio.rekeying.errors import RekeyBusyError, RekeyError
from knet_trio.rekeying.records import HostOutcome, RekeyedHost, RekeyReport

__all__ = [
    "HostOutcome",
    "Phase",
    "RekeyBusyError",
    "RekeyError",
    "RekeyReport",
    "RekeyedHost",
    "Rekeying",
    "serve_rekeying",
]
