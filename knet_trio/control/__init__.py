"""Looking into a running handle from other processes, over a Unix socket.

``serve_control`` is for the program that has the handle, ``connect_control`` for those who look.
``docs/control-protocol.md`` has what they say to each other. From the bottom up::

    errors       what can go wrong
    records      what goes over the socket
    codec        records to JSON and back
    lines        how a line is read
    protocol     methods, parameters, bounds, requests and answers
    socket_file  the socket in the file system
    places       where sockets are looked for
    reports      a handle's state as records
    settings     what can be set
    event_queue  events, and who is slow to read them
    methods      what is done for each method
    server       serving
    client       asking
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from knet_trio.control.client import ControlClient, ControlEvents, connect_control
from knet_trio.control.errors import (
    ControlError,
    ControlProtocolError,
    ControlRequestError,
    ControlSocketError,
    ErrorCode,
)
from knet_trio.control.places import control_directories, find_control_sockets
from knet_trio.control.records import (
    ChannelEvent,
    ControlEvent,
    DataMtuEvent,
    HandleMetrics,
    HandleReport,
    Hello,
    HostEvent,
    HostMetrics,
    HostPing,
    HostReport,
    LinkChange,
    LinkEvent,
    LinkHistory,
    LinkMetrics,
    LinkPing,
    LinkReport,
    LoopReport,
    MissedEvents,
    PathReport,
    StreamReport,
)

if TYPE_CHECKING:
    from knet_trio.control.methods import Action
    from knet_trio.control.server import serve_control
else:

    def __getattr__(name: str) -> object:
        # What serves takes as long to import as all the rest, and commands that look only ask.
        module = {"serve_control": "server", "Action": "methods"}.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{module}"), name)


__all__ = [
    "Action",
    "ChannelEvent",
    "ControlClient",
    "ControlError",
    "ControlEvent",
    "ControlEvents",
    "ControlProtocolError",
    "ControlRequestError",
    "ControlSocketError",
    "DataMtuEvent",
    "ErrorCode",
    "HandleMetrics",
    "HandleReport",
    "Hello",
    "HostEvent",
    "HostMetrics",
    "HostPing",
    "HostReport",
    "LinkChange",
    "LinkEvent",
    "LinkHistory",
    "LinkMetrics",
    "LinkPing",
    "LinkReport",
    "LoopReport",
    "MissedEvents",
    "PathReport",
    "StreamReport",
    "connect_control",
    "control_directories",
    "find_control_sockets",
    "serve_control",
]
