"""A channel for other programs of this machine: a Unix socket on which each packet is a message.

``serve_channel`` is where to begin. From the bottom up::

    errors      what can go wrong
    statistics  what is counted, and what is logged of it
    client      a program that is connected
    server      serving
"""

from __future__ import annotations

from knet_trio.channel_socket.errors import ChannelSocketError
from knet_trio.channel_socket.server import ChannelSocket, serve_channel
from knet_trio.channel_socket.statistics import ChannelSocketStatistics

__all__ = ["ChannelSocket", "ChannelSocketError", "ChannelSocketStatistics", "serve_channel"]
