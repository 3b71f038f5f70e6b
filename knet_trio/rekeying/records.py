"""What is said of a change of the key."""

from __future__ import annotations

import enum

import attrs

from knet_trio.cluster import CryptoNames
from knet_trio.rekeying._phases import Phase


class HostOutcome(enum.StrEnum):
    """What became of a host in a change of the key."""

    DONE = "done"
    """It has done all phases."""
    WAITING = "waiting"
    """It answers, and waits for the others."""
    AWAY = "away"
    """No link to it works, so it did not answer."""
    BY_HAND = "by_hand"
    """It can be reached and does not answer, as a host of libknet's: its key is changed by hand."""
    REFUSED = "refused"
    """It answers that it cannot do it."""
    EXCLUDED = "excluded"
    """It was left out; its key is changed by hand."""


@attrs.frozen(kw_only=True)
class RekeyedHost:
    """What became of one host.

    Attributes:
        host_id: Its id.
        name: Its name.
        outcome: What became of it.
        phase: The last phase that it has confirmed, None for none, or if that is not known.
        reason: Why it is not done, in words; empty if it is, or only waits for other hosts.
        unconfirmed: The ids of hosts that have not answered it under a new key of model ``aead``,
            which keeps that from being used.
    """

    host_id: int
    name: str
    outcome: HostOutcome
    phase: Phase | None = None
    reason: str = ""
    unconfirmed: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class RekeyReport:
    """How far a change of the key is.

    Attributes:
        done: Whether it is over: all hosts but those that were excluded have the new key alone. If
            not, all that have been reached open packets of both keys, and it goes on when it is
            asked for again.
        change_id: What it is called on all hosts.
        began_by: The id of the host that began it.
        resumed: Whether it had begun before this call.
        phase: The last phase that every host but the excluded ones has confirmed, None for none.
        salt: The salt of the fingerprint, in hexadecimal.
        fingerprint: That of the new key, as ``knet-trio keygen --fingerprint`` makes it.
        hosts: All hosts of the cluster file, in the order of their ids.
        new_names: Cipher, hash and model after the change, None if they stay.
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

    def __str__(self) -> str:
        state = "done" if self.done else f"stopped after {self.phase or 'nothing'}"
        return f"change {self.change_id} of the key is {state}"
