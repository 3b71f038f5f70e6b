"""The findings of the commands that look for faults: what is wrong, where, and what to do."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Severity(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@frozen(kw_only=True)
class Finding:
    """One thing that was looked at, and the result.

    Attributes:
        severity: Whether it is as it should be.
        code: Its stable name, such as `key-mismatch`; `docs/findings.md` has a section for each.
        where: The host, link or channel concerned, such as `host 2 (beta), link 1`; empty for
            this host as a whole.
        text: What was seen, with figures.
        remedy: What to do about it; empty if nothing is to be done.
    """

    severity: Severity
    code: str
    where: str
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding as the JSON object that `--json` prints."""
        return {
            "severity": self.severity.value,
            "code": self.code,
            "where": self.where,
            "text": self.text,
            "remedy": self.remedy,
        }
