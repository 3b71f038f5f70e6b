"""Which links of a host carry a message."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar


class LinkPolicy(enum.Enum):
    """How a host's links share its messages. See knet_host_set_policy(3).

    Attributes:
        PASSIVE: The link with the highest priority carries all, the lowest id on a tie. What that
            has no room for goes over the next one, and so does a copy while there is doubt about
            it.
        ACTIVE: Every link carries every message; the receiver delivers it once.
        ROUND_ROBIN: The links take turns, a whole message each.
    """

    PASSIVE = "passive"
    ACTIVE = "active"
    ROUND_ROBIN = "round-robin"


class Ranked(Protocol):
    """The attributes of a link that the policies look at."""

    @property
    @abstractmethod
    def link_id(self) -> int:
        """The id of the link, 0 to 7."""

    @property
    @abstractmethod
    def priority(self) -> int:
        """0 to 255; the highest is preferred."""


L = TypeVar("L", bound=Ranked)


def rank(links: Iterable[L]) -> tuple[L, ...]:
    """Return the links that may carry data, best first."""
    return tuple(sorted(links, key=lambda link: (-link.priority, link.link_id)))


def select(policy: LinkPolicy, ranked: Sequence[L], turn: int) -> Sequence[L]:
    """Return the links that carry message number ``turn`` of a host.

    ``ranked`` are the links to choose from, best first; there may be none.
    """
    if policy is LinkPolicy.ACTIVE or len(ranked) < 2:
        return ranked
    if policy is LinkPolicy.PASSIVE:
        return ranked[:1]
    start = turn % len(ranked)
    return ranked[start : start + 1]


def hedge(chosen: Sequence[L], ranked: Sequence[L], suspect: Callable[[L], bool]) -> Sequence[L]:
    """Return ``chosen``, and the next best link too if one of them is suspect.

    The receiver drops the copies, so the price is their bandwidth while there is doubt.
    """
    if len(chosen) != 1 or not suspect(chosen[0]):
        return chosen
    others = [link for link in ranked if link is not chosen[0]]
    trusted = [link for link in others if not suspect(link)]
    return [*chosen, *(trusted or others)[:1]]
