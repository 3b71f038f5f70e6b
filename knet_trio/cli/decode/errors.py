"""The error of reading a capture."""

from __future__ import annotations


class CaptureError(Exception):
    """A capture cannot be read, or not completely; the message says where and why."""
