"""The findings that follow from the observations of a running host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from knet_trio.cli.doctor.evidence import Evidence
from knet_trio.cli.doctor.link_findings import find_link_faults
from knet_trio.cli.doctor.program_findings import find_program_faults
from knet_trio.cli.findings import Finding, FindingCode, Severity

_WORST_FIRST: Final = (Severity.FAULT, Severity.WARNING, Severity.OK)


def judge(evidence: Evidence) -> list[Finding]:
    """Return the findings, the worst first."""
    cases = list(evidence.links())
    found = [finding for case in cases for finding in find_link_faults(case)]
    found += find_program_faults(evidence, cases)
    return _sort(found)


def not_answering(seconds: float) -> list[Finding]:
    """Return the findings for a program that has not answered for ``seconds``."""
    return [
        Finding(
            severity=Severity.FAULT,
            code=FindingCode.CPU_STARVED,
            where="",
            text=f"the program has not answered for {seconds:.0f} s",
            remedy="check whether its process is stopped (state T in ps), waits for a disk (D) or"
            " has a task that blocks the event loop, or this virtual machine is paused (st in top)",
        )
    ]


def _sort(findings: Iterable[Finding]) -> list[Finding]:
    kept: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        # Links that share a socket have the same finding about it.
        where = "" if finding.code is FindingCode.BUFFERS_SMALL else finding.where
        kept.setdefault((finding.code, where, finding.text), finding)
    return sorted(kept.values(), key=lambda one: _WORST_FIRST.index(one.severity))
