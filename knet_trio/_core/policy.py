"""Policies: which links of a host carry a message."""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar


class LinkPolicy(enum.Enum):
    """The policy by which the links of a host share its messages. See knet_host_set_policy(3).

    Attributes:
        PASSIVE: The link with the highest priority carries all messages, that with the lowest id on
            a tie. A message that it has no room for goes over the next link; while the link is
            suspect, a copy of each message does so too.
        ACTIVE: Every link carries every message. The receiver delivers it once.
        ROUND_ROBIN: The links take turns, with a whole message each.
    """

    PASSIVE = "passive"
    ACTIVE = "active"
    ROUND_ROBIN = "round-robin"


class Ranked(Protocol):
    """A link, as the policies see it."""

    @property
    @abstractmethod
    def link_id(self) -> int:
        """The id of the link, 0 to 7."""

    @property
    @abstractmethod
    def priority(self) -> int:
        """The priority of the link, 0 to 255; the highest is preferred."""


L = TypeVar("L", bound=Ranked)


def rank(links: Iterable[L]) -> tuple[L, ...]:
    """Return the links that may carry data, best first."""
    return tuple(sorted(links, key=lambda link: (-link.priority, link.link_id)))


def select(policy: LinkPolicy, ranked: Sequence[L], turn: int) -> Sequence[L]:
    """Return the links that carry a message of a host.

    Args:
        policy: The policy of the host.
        ranked: The links to choose from, best first; there may be none.
        turn: The number of the message.
    """
    if policy is LinkPolicy.ACTIVE or len(ranked) < 2:
        return ranked
    if policy is LinkPolicy.PASSIVE:
        return ranked[:1]
    start = turn % len(ranked)
    return ranked[start : start + 1]


def hedge(chosen: Sequence[L], ranked: Sequence[L], suspect: Callable[[L], bool]) -> Sequence[L]:
    """Return ``chosen``, and the next best link too if ``chosen`` is one link that is suspect.

    The receiver drops the copies, so the price is their bandwidth while the link is suspect.

    Args:
        chosen: The links that the policy has chosen.
        ranked: The links to choose from, best first.
        suspect: Returns whether a link is suspect.
    """
    if len(chosen) != 1 or not suspect(chosen[0]):
        return chosen
    others = [link for link in ranked if link is not chosen[0]]
    trusted = [link for link in others if not suspect(link)]
    return [*chosen, *(trusted or others)[:1]]
