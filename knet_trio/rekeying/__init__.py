"""A new key for all hosts of a cluster, while messages flow and none is lost.

``serve_rekeying`` is where to begin: every host runs it, and any of them begins a change. From the
bottom up::

    errors        why the key cannot be changed
    _phases       set, use and clear, and how far a host is
    records       what is said of a change
    _messages     what hosts ask each other
    _host_keys    the keys of this host, in files and slots
    _wanted       what a change leads to
    _progress     what is known of the hosts meanwhile
    _participant  what this host does when it is asked
    _coordinator  what the host does that changes the key of all
    _service      both of them, on a handle

``docs/cluster-file.md`` says how it is used.
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
