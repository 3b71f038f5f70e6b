"""The progress of each host during a change of the key, and the report of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import attrs

from knet_trio.cluster import ClusterHost, CryptoNames, KeyChange, make_fingerprint
from knet_trio.rekeying._messages import RekeyAnswer, RekeyQuestion
from knet_trio.rekeying._phases import Level, last_phase
from knet_trio.rekeying.errors import RekeyError
from knet_trio.rekeying.records import HostOutcome, RekeyedHost, RekeyReport

_SALT_SIZE: Final = 4


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


def check_all_well(
    hosts: Mapping[int, HostProgress], otherwise: str, own_id: int | None = None, advice: str = ""
) -> None:
    """Raise RekeyError if a host does not go on.

    Args:
        hosts: The progress of the hosts, by id.
        otherwise: What has not been done.
        own_id: The id of this host, which ``advice`` is not for.
        advice: What to do about another host, added to the text.
    """
    for host_id, one in hosts.items():
        if one.trouble is not None:
            end = "" if host_id == own_id else advice
            raise RekeyError(f"{name_host(one.host)}: {one.trouble.reason}; {otherwise}{end}")


def check_unused(hosts: Mapping[int, HostProgress], own_id: int) -> None:
    """Raise RekeyError unless all hosts answer and none uses the new key.

    Args:
        hosts: The progress of the hosts, by id.
        own_id: The id of this host.
    """
    advice = ": exclude it to drop the new key on the other hosts"
    check_all_well(hosts, "nothing has changed", own_id, advice)
    for one in hosts.values():
        if one.level is not None and one.level >= Level.USES:
            raise RekeyError(
                f"{name_host(one.host)} already uses the new key, so the change cannot be dropped:"
                " finish it"
            )


def make_report(
    change: KeyChange,
    names: CryptoNames,
    hosts: Iterable[HostProgress],
    excluded: Iterable[ClusterHost],
    *,
    resumed: bool,
) -> RekeyReport:
    """Return the report of a change.

    Args:
        change: The change.
        names: The cipher, hash and model that the new key is used with.
        hosts: The progress of all hosts that are not excluded, at least one.
        excluded: The excluded hosts.
        resumed: True if the change had begun before this call.
    """
    progress = list(hosts)
    described = [one.describe() for one in progress]
    described += [
        RekeyedHost(
            host_id=host.host_id,
            name=host.name,
            outcome=HostOutcome.EXCLUDED,
            reason="change its key by hand",
        )
        for host in excluded
    ]
    salt = make_salt(change.change_id)
    return RekeyReport(
        done=all(host.outcome in (HostOutcome.DONE, HostOutcome.EXCLUDED) for host in described),
        change_id=change.change_id,
        began_by=change.began_by,
        resumed=resumed,
        phase=last_phase(min(one.level or Level.OLD for one in progress)),
        salt=salt.hex(),
        fingerprint=make_fingerprint(change.new, salt),
        new_names=change.new_names,
        names=names,
        hosts=tuple(sorted(described, key=lambda host: host.host_id)),
    )


def make_salt(change_id: str) -> bytes:
    """Return the salt of the fingerprint of a change's new key.

    The salt is the same in all reports of a change, which shows that their key is the same. Since
    the id of a change is random, a table of fingerprints cannot be made before the change, and
    reports of two changes do not show whether their keys are the same.
    """
    name = change_id.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"knet_trio rekey " + name).digest()[:_SALT_SIZE]
