"""The findings of the commands that look for faults: the fault, its place, and the remedy."""

from __future__ import annotations

from enum import Enum, StrEnum

from attrs import frozen


class Severity(Enum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@frozen(kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        severity: OK, a warning or a fault.
        code: The stable name, such as `key-mismatch`; `docs/findings.md` has a section for each.
        where: The host, link or channel concerned, such as `host 2 (beta), link 1`; empty for
            this host as a whole.
        text: What was seen, with figures.
        remedy: What to do about the fault; empty if there is nothing to do.
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


class FindingCode(StrEnum):
    """The codes of findings. `docs/findings.md` has a section for each."""

    # No fault.
    LINK_UP = "link-up"
    LINK_DISABLED = "link-disabled"
    PROGRAM_OK = "program-ok"

    # The two ends of a link are configured differently.
    KEY_MISMATCH = "key-mismatch"
    CIPHER_MISMATCH = "cipher-mismatch"
    HASH_MISMATCH = "hash-mismatch"
    MODEL_MISMATCH = "model-mismatch"
    CRYPTO_OFF = "crypto-off"
    HOST_ID_MISMATCH = "host-id-mismatch"
    LINK_ID_MISMATCH = "link-id-mismatch"
    ADDRESS_MISMATCH = "address-mismatch"
    ADDRESS_MISSING = "address-missing"
    TIMERS = "timers"
    COMPRESSION_MISMATCH = "compression-mismatch"
    CHANNEL_CLOSED = "channel-closed"
    FILE_MISMATCH = "file-mismatch"

    # The path between the two ends.
    PORT_CLOSED = "port-closed"
    PORT_FILTERED = "port-filtered"
    HOST_UNREACHABLE = "host-unreachable"
    NO_ROUTE = "no-route"
    NO_PEER = "no-peer"
    NO_CONNECTION = "no-connection"
    PEER_SILENT = "peer-silent"
    HOST_MISSING = "host-missing"
    HOST_LEFT = "host-left"
    ONE_WAY = "one-way"
    COMING_UP = "coming-up"
    MTU_BLACK_HOLE = "mtu-black-hole"
    MTU_REDUCED = "mtu-reduced"
    MTU_SETTING = "mtu-setting"
    LOSS = "loss"
    LATENCY_TIMEOUT = "latency-timeout"
    PATH_ERRORS = "path-errors"
    REVERSE_PATH_FILTER = "reverse-path-filter"
    FOREIGN_PACKETS = "foreign-packets"
    RECORDED_PACKETS = "recorded-packets"

    # This machine and the program.
    BUFFERS_SMALL = "buffers-small"
    QUEUE_FULL = "queue-full"
    FORWARDING_OFF = "forwarding-off"
    REKEY_UNFINISHED = "rekey-unfinished"
    NOT_ENCRYPTED = "not-encrypted"
    CPU_STARVED = "cpu-starved"
    CLOCK = "clock"
