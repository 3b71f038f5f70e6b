"""How far a host is with a change of the key, and what comes next.

::

    level     how it seals, what it opens     after the phase
    OLD       the old key alone               (before the first)
    SET       seals with the old, opens both  set
    USES      seals with the new, opens both  use
    CLEARED   the new key alone               clear

A phase begins when every host has the level of the phase before. So two hosts are never more than
one level apart, and hosts of neighbouring levels understand each other both ways. It takes two
levels for one not to open what the other seals with: OLD and USES, SET and CLEARED.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final


class Phase(enum.StrEnum):
    """A part of the change."""

    SET = "set"
    """The new key is accepted."""
    USE = "use"
    """It is in the key file, and packets are sealed with it."""
    CLEAR = "clear"
    """The old one is forgotten."""


class Level(enum.IntEnum):
    """How far a host is."""

    OLD = 0
    SET = 1
    USES = 2
    CLEARED = 3


LEVEL_AFTER: Final = {Phase.SET: Level.SET, Phase.USE: Level.USES, Phase.CLEAR: Level.CLEARED}
"""The level of a host that has done a phase."""

_BY_LEVEL: Final = {level: phase for phase, level in LEVEL_AFTER.items()}


def find_level(*, in_change: bool, has_new: bool) -> Level:
    """Return the level of a host.

    Args:
        in_change: Whether it has the file of the change.
        has_new: Whether it seals with the new key; if not, with the old one.
    """
    if in_change:
        return Level.USES if has_new else Level.SET
    return Level.CLEARED if has_new else Level.OLD


def may_begin(phase: Phase, levels: Iterable[Level]) -> bool:
    """Return whether every host, of which these are the levels, has done the phase before."""
    return all(level >= LEVEL_AFTER[phase] - 1 for level in levels)


def last_phase(level: Level) -> Phase | None:
    """Return the phase that a host of that level has done last."""
    return _BY_LEVEL.get(level)
