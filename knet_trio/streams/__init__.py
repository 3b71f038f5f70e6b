"""Reliable streams, requests and messages to other hosts, over one channel of a handle.

Begin with ``open_streams``. Data arrives complete, in order and once as long as any link to the
host works; otherwise the call raises ``trio.BrokenResourceError`` with the reason.
``docs/guide.md`` says which of the three to use, ``docs/streams-protocol.md`` describes the wire.
"""

from __future__ import annotations

from knet_trio.streams._streams import Streams, open_streams
from knet_trio.streams.errors import HandlerError, RefusedError
from knet_trio.streams.listener import StreamListener
from knet_trio.streams.messages import MessageReceiver
from knet_trio.streams.requests import HostRequest, RequestReceiver
from knet_trio.streams.statistics import StreamStatistics, get_stream_statistics
from knet_trio.streams.stream import HostStream

__all__ = [
    "HandlerError",
    "HostRequest",
    "HostStream",
    "MessageReceiver",
    "RefusedError",
    "RequestReceiver",
    "StreamListener",
    "StreamStatistics",
    "Streams",
    "get_stream_statistics",
    "open_streams",
]
