"""The one error that the bytes of a capture can cause."""

from __future__ import annotations


class CaptureError(Exception):
    """The capture cannot be read, or not beyond some place; the message says where and why."""
