"""The progress of each host during a change of the key."""

from __future__ import annotations

from typing import Protocol

import attrs

from knet_trio.cluster import ClusterHost
from knet_trio.rekeying._messages import RekeyAnswer, RekeyQuestion
from knet_trio.rekeying._phases import Level, last_phase
from knet_trio.rekeying.records import HostOutcome, RekeyedHost


@attrs.frozen
class NoAnswer:
    """The reason why a host does not go on.

    Attributes:
        outcome: AWAY or BY_HAND for a host that did not answer, REFUSED for one that refused,
            WAITING for one that has to wait.
        reason: The reason, a text for people.
        unconfirmed: The ids of hosts that have not answered this host under the new key.
    """

    outcome: HostOutcome
    reason: str
    unconfirmed: tuple[int, ...] = ()


class Ask(Protocol):
    """A function that sends a request to a host, which may be this one."""

    async def __call__(self, host_id: int, question: RekeyQuestion) -> RekeyAnswer | NoAnswer:
        """Return the answer, or the reason why there is none."""
        ...


@attrs.define
class HostProgress:
    """The progress of a host.

    Attributes:
        host: The host.
        level: The level of the host, None if it has not answered.
        trouble: The reason why the host does not go on in this call, None if it does.
    """

    host: ClusterHost
    level: Level | None = None
    trouble: NoAnswer | None = None

    @property
    def answers(self) -> bool:
        """True if the host has answered all requests, even if it refuses or waits."""
        return self.trouble is None or self.trouble.outcome in (
            HostOutcome.REFUSED,
            HostOutcome.WAITING,
        )

    def describe(self) -> RekeyedHost:
        """Return the record for the report."""
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
    """Return the id and name of a host for texts."""
    return f"host {host.host_id} ({host.name})"
