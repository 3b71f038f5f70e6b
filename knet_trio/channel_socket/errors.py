"""What can go wrong with the socket of a channel."""

from __future__ import annotations

from knet_trio import KnetError


class ChannelSocketError(KnetError):
    """The path of a channel's socket cannot be served; ``errno`` says why."""
