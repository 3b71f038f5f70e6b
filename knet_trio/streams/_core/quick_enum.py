"""An enum with a fast hash, for lookups in tables."""

from __future__ import annotations

import enum


class QuickEnum(enum.Enum):
    """An enum whose members are hashed by identity.

    ``Enum.__hash__`` is written in Python and takes as long as the rest of a lookup.
    """

    __hash__ = object.__hash__
