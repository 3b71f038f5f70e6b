"""The report of a change of the key."""

from __future__ import annotations

import enum

import attrs

from knet_trio.cluster import CryptoNames
from knet_trio.rekeying._phases import Phase


class HostOutcome(enum.StrEnum):
    """The outcome of a change of the key at a host."""

    DONE = "done"
    """The host has done all phases."""
    WAITING = "waiting"
    """The host answers, and waits for the others or for its cluster file."""
    AWAY = "away"
    """The host did not answer, and no link to it is up."""
    BY_HAND = "by_hand"
    """The host is reachable and does not answer, as hosts with libknet: change its key by hand."""
    REFUSED = "refused"
    """The host answers that it cannot do it."""
    EXCLUDED = "excluded"
    """The host was excluded: change its key by hand."""


@attrs.frozen(kw_only=True)
class RekeyedHost:
    """The result of a change at one host.

    Attributes:
        host_id: The id of the host.
        name: The name of the host.
        outcome: The outcome.
        phase: The last phase that the host has confirmed, None for none or if not known.
        reason: Why the host is not done, a text for people; empty if it is done, or only waits for
            other hosts.
        unconfirmed: The ids of hosts that have not answered this host under a new key of model
            ``aead``, which therefore cannot be used yet.
    """

    host_id: int
    name: str
    outcome: HostOutcome
    phase: Phase | None = None
    reason: str = ""
    unconfirmed: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class RekeyReport:
    """The progress of a change of the key.

    Attributes:
        done: True if the change has ended: all hosts except excluded ones only have the new key. If
            False, every host still understands all others, and another call goes on with the
            change.
        change_id: The id of the change, the same on all hosts.
        began_by: The id of the host that began the change.
        resumed: True if the change had begun before this call.
        phase: The last phase that all hosts except excluded ones have confirmed, None for none.
        salt: The salt of the fingerprint, in hexadecimal; the same in all reports of a change.
        fingerprint: The fingerprint of the new key, as of ``knet-trio keygen --fingerprint``.
        hosts: All hosts of the cluster file, in the order of their ids.
        new_names: The new cipher, hash and model, None if they do not change.
        names: The cipher, hash and model that the new key is used with, new or not.
    """

    done: bool
    change_id: str
    began_by: int
    resumed: bool
    phase: Phase | None
    salt: str
    fingerprint: str
    hosts: tuple[RekeyedHost, ...]
    new_names: CryptoNames | None = None
    names: CryptoNames | None = None

    def __str__(self) -> str:
        state = "done" if self.done else f"stopped after {self.phase or 'nothing'}"
        return f"change {self.change_id} of the key is {state}"
