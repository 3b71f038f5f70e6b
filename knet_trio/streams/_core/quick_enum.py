"""Enums that are looked up in tables all the time."""

from __future__ import annotations

import enum


class QuickEnum(enum.Enum):
    """An enum whose members are compared by identity, and hashed so.

    That of enums is a function in Python, and takes as long as the rest of looking something up.
    """

    __hash__ = object.__hash__
