"""The findings about packets that are refused since the two ends are configured differently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from knet_trio import CryptoFault, DropCause, DropDetail
from knet_trio._crypto.aead import AEAD_NAMES
from knet_trio.cli.doctor.evidence import LinkCase, host_part
from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.errors import count_of

# The code and the remedy for packets refused because of an id.
_IDS: Final = {
    DropCause.UNKNOWN_HOST: (
        FindingCode.HOST_ID_MISMATCH,
        "give the host the same id here as it has itself: ids are the same in the whole cluster",
    ),
    DropCause.UNKNOWN_LINK: (
        FindingCode.LINK_ID_MISMATCH,
        "give the link the same id on both sides, or add the one that is missing",
    ),
}

_CRYPTO: Final = {
    "key": (
        FindingCode.KEY_MISMATCH,
        "no key of this host opens packets from {source}",
        (
            "compare the keys of both hosts (knet-trio keygen --fingerprint FILE, with --salt and"
            " the same salt on both), and copy one over"
        ),
    ),
    "cipher": (
        FindingCode.CIPHER_MISMATCH,
        "packets from {source} are sealed with a key of this host, but with {names}",
        "set the same cipher on both hosts",
    ),
    "hash": (
        FindingCode.HASH_MISMATCH,
        "packets from {source} are sealed with a key of this host, but with {names}",
        "set the same hash on both hosts",
    ),
    "clear": (
        FindingCode.CRYPTO_OFF,
        "packets from {source} are not sealed, and this host only accepts sealed packets",
        "set the key on that host too, with the same cipher and hash",
    ),
    "sealed": (
        FindingCode.CRYPTO_OFF,
        "packets from {source} are most likely sealed, and this host has no key",
        "set the key of the cluster on this host too",
    ),
}

CRYPTO_CAUSES: Final = frozenset(
    {
        DropCause.NOT_AUTHENTIC,
        DropCause.CLEAR_TRAFFIC,
        DropCause.MALFORMED,
        DropCause.WRONG_VERSION,
        DropCause.UNKNOWN_TYPE,
    }
)
"""The causes under which packets that cannot be opened are counted."""


def describe_crypto_fault(
    fault: CryptoFault, where: str, severity: Severity = Severity.FAULT
) -> Finding:
    """Return the finding for packets that cannot be opened."""
    if fault.other_model:
        return _describe_other_model(fault, where, severity)
    code, text, remedy = _CRYPTO[fault.differs]
    if fault.cipher in AEAD_NAMES:
        names = f"cipher {fault.cipher} of model aead"
    elif fault.cipher is not None:
        names = f"cipher {fault.cipher} and hash {fault.hash}"
    elif fault.hash is not None:
        names = f"hash {fault.hash} and an unknown cipher"
    else:
        names = "another cipher, or another version of the protocol"
    return Finding(
        severity=severity,
        code=code,
        where=where,
        text=text.format(source=fault.source, names=names),
        remedy=remedy,
    )


def _describe_other_model(fault: CryptoFault, where: str, severity: Severity) -> Finding:
    if fault.cipher is None or fault.cipher in AEAD_NAMES:
        what = f"packets from {fault.source} have another envelope: that of model aead, which no"
        text = f"{what} crypto slot of this host has"
    else:
        text = (
            f"packets from {fault.source} have another envelope, with cipher {fault.cipher} and"
            f" hash {fault.hash}: this host uses model aead"
        )
    return Finding(
        severity=severity,
        code=FindingCode.MODEL_MISMATCH,
        where=where,
        text=text,
        remedy="set the same model, cipher and key on both hosts, or change all hosts with"
        " knet-trio rekey --model aead; a host with libknet cannot use this model",
    )


def describe_refusal(cause: DropCause, refusal: DropDetail, where: str) -> Finding | None:
    """Return the finding for packets with unknown ids, None for other causes."""
    known = _IDS.get(cause)
    if known is None:
        return None
    code, remedy = known
    return Finding(
        severity=Severity.FAULT,
        code=code,
        where=where,
        text=f"{refusal.text} ({count_of(refusal.count, 'such packet')})",
        remedy=remedy,
    )


def date(finding: Finding, seconds: float | None) -> Finding:
    """Return a finding about packets as one about the past, if they came ``seconds`` ago.

    Args:
        finding: The finding.
        seconds: When the last of them came, in seconds before now; None if they still come.
    """
    if seconds is None:
        return finding
    return attrs.evolve(
        finding,
        severity=Severity.WARNING,
        text=f"until {seconds:.0f} s ago, and not while this command watched: {finding.text}",
        remedy=f"if it happens again: {finding.remedy}",
    )


def _date(case: LinkCase, finding: Finding, at: float | None) -> Finding:
    past = at is not None and not case.is_present(at)
    return date(finding, case.after.at - at if past and at is not None else None)


def concerns(case: LinkCase, source: str | None) -> bool:
    """Return whether packets from ``source``, where no link leads, may be of this link's peer.

    This is so if they come from the same machine, or the address of the peer is not known.
    """
    if source is None or not case.link.enabled or case.is_answered:
        return False
    return case.peer_host is None or host_part(source) == case.peer_host


def find_mismatches(case: LinkCase) -> Iterator[Finding]:
    """Yield the findings from refused packets of the peer."""
    yield from _find_crypto_faults(case)
    for cause, refusal in _recent_refusals(case):
        finding = describe_refusal(cause, refusal, case.where)
        if finding is not None:
            yield _date(case, finding, refusal.at)
    yield from _find_address_faults(case)
    yield from _find_recordings(case)


def _find_crypto_faults(case: LinkCase) -> Iterator[Finding]:
    own, linkless = case.after.crypto_fault, case.evidence.after.handle.crypto_fault
    if own is not None and _matters(case, own.at):
        yield _date(case, describe_crypto_fault(own, case.where), own.at)
    elif linkless is not None and case.is_recent(linkless.at) and concerns(case, linkless.source):
        yield _date(case, describe_crypto_fault(linkless, case.where), linkless.at)


def _matters(case: LinkCase, at: float | None) -> bool:
    """Return whether a refusal at ``at`` may be of interest: one of the past only without answers.

    A link that was down for that reason, and is up again, is well.
    """
    return case.is_present(at) or (case.is_recent(at) and not case.is_answered)


def _find_recordings(case: LinkCase) -> Iterator[Finding]:
    """Yield a finding if packets of a confirmed peer arrived that it did not seal recently."""
    now, before = (one.drops.get(DropCause.UNCONFIRMED) for one in (case.after, case.before))
    count = 0 if now is None else now.count - (0 if before is None else before.count)
    if count <= 0 or not case.is_answered or True not in case.host.confirmed.values():
        return
    yield Finding(
        severity=Severity.WARNING,
        code=FindingCode.RECORDED_PACKETS,
        where=case.where,
        text=f"{count_of(count, 'packet')} arrived that its peer sealed in an earlier life, or"
        " before it was confirmed here: a recording, unless the peer has just started",
        remedy="they have no effect; if this goes on, find out who sends with the address of the"
        " peer (knet-trio decode shows the lives), and make a new key if somebody may know it",
    )


def _recent_refusals(case: LinkCase) -> Iterator[tuple[DropCause, DropDetail]]:
    """Yield recent refusals: on the link, or of packets from the machine that it leads to."""
    for cause, refusal in case.after.drops.items():
        if _matters(case, refusal.at):
            yield cause, refusal
    for cause, refusal in case.evidence.after.handle.drops.items():
        if (
            cause not in case.after.drops
            and case.is_recent(refusal.at)
            and concerns(case, refusal.source)
        ):
            yield cause, refusal


def _find_address_faults(case: LinkCase) -> Iterator[Finding]:
    places: list[tuple[str, float | None]] = []
    heard = case.after.heard_from
    if heard is not None and _matters(case, case.after.heard_at):
        places.append((heard, case.after.heard_at))
    for cause, refusal in _recent_refusals(case):
        wrong_place = cause in (DropCause.UNKNOWN_ADDRESS, DropCause.ACCESS_LIST)
        if wrong_place and refusal.source is not None:
            places.append((refusal.source, refusal.at))
    if not places or case.link.dynamic:
        return
    # What still happens first; the sort is stable.
    place, at = min(places, key=lambda one: not case.is_present(one[1]))
    yield _date(case, _describe_place(case, place), at)


def _describe_place(case: LinkCase, place: str) -> Finding:
    """Return the finding for packets of the peer from another address than that of the link."""
    others = {link.dst: link.link_id for link in case.host.links if link is not case.link}
    if place in others:
        # Both links are configured, but with different ids.
        return Finding(
            severity=Severity.FAULT,
            code=FindingCode.LINK_ID_MISMATCH,
            where=case.where,
            text=f"its peer uses the address {place} for it, where link {others[place]} leads here",
            remedy="give each link the same id on both sides",
        )
    return Finding(
        severity=Severity.WARNING if case.is_answered else Severity.FAULT,
        code=FindingCode.ADDRESS_MISMATCH,
        where=case.where,
        text=f"its peer sends from {place}, but the link leads to {case.peer}",
        remedy="compare addresses and ports on both sides: src here has to be dst there, and the"
        " other way round; behind a translator of addresses (NAT) make this end dynamic",
    )
