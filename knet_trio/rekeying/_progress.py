"""What is known of the hosts while one of them changes the key of all."""

from __future__ import annotations

from typing import Protocol

import attrs

from knet_trio.cluster import ClusterHost
from knet_trio.rekeying._messages import RekeyAnswer, RekeyQuestion
from knet_trio.rekeying._phases import Level, last_phase
from knet_trio.rekeying.records import HostOutcome, RekeyedHost


@attrs.frozen
class NoAnswer:
    """A host did not answer, or goes no further.

    Attributes:
        outcome: AWAY or BY_HAND; REFUSED for one that answers that it does not do it; WAITING for
            one that has to wait for something.
        reason: What is known of it.
        unconfirmed: The hosts that have not answered it under the new key.
    """

    outcome: HostOutcome
    reason: str
    unconfirmed: tuple[int, ...] = ()


class Ask(Protocol):
    """Asks a host, this one too."""

    async def __call__(self, host_id: int, question: RekeyQuestion) -> RekeyAnswer | NoAnswer:
        """Return what it answers, or that it does not."""
        ...


@attrs.define
class HostProgress:
    """What is known of a host.

    Attributes:
        host: Which.
        level: How far it is, None if it was not heard of.
        trouble: Why it goes no further in this call, None if it does.
    """

    host: ClusterHost
    level: Level | None = None
    trouble: NoAnswer | None = None

    @property
    def answers(self) -> bool:
        """Whether it has answered, as far as it was asked, be it that it refuses or waits."""
        return self.trouble is None or self.trouble.outcome in (
            HostOutcome.REFUSED,
            HostOutcome.WAITING,
        )

    def describe(self) -> RekeyedHost:
        """Return what became of it."""
        outcome, reason = HostOutcome.WAITING, ""
        unconfirmed: tuple[int, ...] = ()
        if self.trouble is not None:
            outcome, reason = self.trouble.outcome, self.trouble.reason
            unconfirmed = self.trouble.unconfirmed
        elif self.level is Level.CLEARED:
            outcome = HostOutcome.DONE
        return RekeyedHost(
            host_id=self.host.host_id,
            name=self.host.name,
            outcome=outcome,
            phase=None if self.level is None else last_phase(self.level),
            reason=reason,
            unconfirmed=unconfirmed,
        )


def name_host(host: ClusterHost) -> str:
    """Return what a host is called."""
    return f"host {host.host_id} ({host.name})"
