"""A channel for other programs of this machine: a Unix socket on which each packet is a message.

Begin with ``serve_channel``. From the bottom up::

    errors      the error
    statistics  counters, and logging with a rate limit
    client      a connected program
    server      the server
"""

from __future__ import annotations

from knet_trio.channel_socket.errors import ChannelSocketError
from knet_trio.channel_socket.server import ChannelSocket, serve_channel
from knet_trio.channel_socket.statistics import ChannelSocketStatistics

__all__ = ["ChannelSocket", "ChannelSocketError", "ChannelSocketStatistics", "serve_channel"]
