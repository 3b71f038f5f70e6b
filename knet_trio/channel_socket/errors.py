"""The error of channel sockets."""

from __future__ import annotations

from knet_trio import KnetError


class ChannelSocketError(KnetError):
    """A channel cannot be served at a path; ``errno`` is the system's error number."""
