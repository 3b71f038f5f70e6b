"""Inspection of a running handle from other processes, over a Unix socket.

The program that has the handle uses ``serve_control``, programs that inspect it use
``connect_control``. ``docs/control-protocol.md`` describes the protocol. From the bottom up::

    errors       errors
    records      the records sent over the socket
    codec        records to JSON and back
    lines        reading of lines
    protocol     methods, parameters, bounds, requests and answers
    socket_file  the socket in the file system
    places       the directories of sockets
    key_changes  the change of the key that a handle takes part in
    reports      a handle's state as records
    settings     the settings that can be changed
    event_queue  events, and a bounded queue of them for each reader
    methods      the work done for each method
    server       the server
    client       the client
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
    KeyChangeReport,
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
        # Importing the server takes as long as all the rest, and most commands are only clients.
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
    "KeyChangeReport",
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
