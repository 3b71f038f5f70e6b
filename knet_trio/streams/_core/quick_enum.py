"""An enum with a fast hash, for lookups in tables."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING


class QuickEnum(enum.Enum):
    """An enum whose members are hashed by identity.

    ``Enum.__hash__`` is written in Python and takes as long as the rest of a lookup.
    """

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...
    else:
        __hash__ = object.__hash__
