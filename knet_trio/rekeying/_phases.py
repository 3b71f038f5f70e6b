"""The phases of a change of the key, and the level of a host.

::

    level     keys of the host                after the phase
    OLD       the old key only                (before the first)
    SET       seals with the old, opens both  set
    USES      seals with the new, opens both  use
    CLEARED   the new key only                clear

A phase begins when every host has the level of the phase before. So two hosts are never more than
one level apart, and hosts of neighbouring levels open each other's packets. Only hosts two levels
apart do not: OLD and USES, SET and CLEARED.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final


class Phase(enum.StrEnum):
    """A phase of a change."""

    SET = "set"
    """The new key is accepted."""
    USE = "use"
    """The new key is in the key file, and packets are sealed with it."""
    CLEAR = "clear"
    """The old key is dropped."""


class Level(enum.IntEnum):
    """The progress of a host in a change."""

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
        in_change: True if the host has the change file.
        has_new: True if the host seals with the new key, False if with the old one.
    """
    if in_change:
        return Level.USES if has_new else Level.SET
    return Level.CLEARED if has_new else Level.OLD


def may_begin(phase: Phase, levels: Iterable[Level]) -> bool:
    """Return whether all hosts, by their levels, have done the phase before ``phase``."""
    return all(level >= LEVEL_AFTER[phase] - 1 for level in levels)


def last_phase(level: Level) -> Phase | None:
    """Return the last phase that a host of that level has done, None for none."""
    return _BY_LEVEL.get(level)
