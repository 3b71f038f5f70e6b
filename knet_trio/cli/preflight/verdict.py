"""The verdict on the reports of all hosts: computed on each host, and the same on each."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any, Final

import attrs

from knet_trio.cli.findings import Finding, FindingCode, Severity
from knet_trio.cli.names import title_of
from knet_trio.cli.preflight.faults import (
    NO_ROUTE,
    End,
    Pair,
    find_mismatch,
    judge_down,
    judge_link,
)
from knet_trio.cli.preflight.records import HostNews, WayReport
from knet_trio.cluster import Cluster, ClusterHost

ALL_WELL: Final = 0
FINDINGS: Final = 1
MISSING: Final = 3

_MOST_DIFFERENCES: Final = 4
_ORDER: Final = {Severity.FAULT: 0, Severity.WARNING: 1, Severity.OK: 2}
# Up to this number, packets may belong to other programs.
_MOST_FILTERED: Final = 2
# The findings by ``CryptoFault.differs``, the first to report first.
_SEALINGS: Final[Mapping[str, FindingCode]] = {
    "clear": FindingCode.CRYPTO_OFF,
    "sealed": FindingCode.CRYPTO_OFF,
    "hash": FindingCode.HASH_MISMATCH,
    "cipher": FindingCode.CIPHER_MISMATCH,
    "key": FindingCode.KEY_MISMATCH,
}
# The text of each such finding, if no names are known, and the remedy.
_SEALING_WORDS: Final[Mapping[FindingCode, tuple[str, str]]] = {
    FindingCode.CRYPTO_OFF: (
        "one side encrypts its packets, and the other side sends in the clear",
        "set the same key, cipher and hash on all hosts",
    ),
    FindingCode.HASH_MISMATCH: (
        "another hash",
        "compare hash and cipher in the files (crypto_hash and crypto_cipher in corosync.conf)",
    ),
    FindingCode.CIPHER_MISMATCH: (
        "another cipher",
        "compare the ciphers in the files (crypto_cipher in corosync.conf)",
    ),
    FindingCode.KEY_MISMATCH: (
        "another key",
        (
            "compare the key files (knet-trio keygen --fingerprint, with --salt and the same salt"
            " on all hosts), and copy one to all hosts"
        ),
    ),
}


@attrs.frozen(kw_only=True)
class Row:
    """A row of the table: a link from one host to another.

    Attributes:
        source: The host that reports.
        target: The other host.
        link_id: The id of the link.
        way: The report of the host, None if there is none.
    """

    source: ClusterHost
    target: ClusterHost
    link_id: int
    way: WayReport | None

    @property
    def state(self) -> str:
        """The state of the link in one word."""
        if self.way is None:
            return "unknown"
        if not self.way.enabled:
            return "off"
        return "up" if self.way.connected else "down"

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        way = self.way
        known = way is not None
        return {
            "from": self.source.host_id,
            "to": self.target.host_id,
            "link": self.link_id,
            "state": self.state,
            "sent": way.sent if way else None,
            "lost": way.lost if way else None,
            "latency": way.latency if way else None,
            "latency_p99": way.latency_p99 if way else None,
            "path_mtu": (way.path_mtu or None) if way else None,
            "interface_mtu": (way.own_mtu or None) if known and way else None,
        }


@attrs.frozen(kw_only=True)
class Verdict:
    """The verdict of a preflight.

    Attributes:
        rows: Every link from every host to every other host.
        findings: The findings, the worst first.
        missing: The ids of the hosts that did not come.
        interval: The seconds from one ping to the next.
    """

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    missing: tuple[int, ...]
    interval: float

    @property
    def status(self) -> int:
        """The exit status."""
        if self.missing:
            return MISSING
        return FINDINGS if self.findings else ALL_WELL


def judge(cluster: Cluster, news: Mapping[int, HostNews], left: Iterable[int] = ()) -> Verdict:
    """Return the verdict on the reports.

    Args:
        cluster: The cluster file.
        news: The news of the hosts that count, by their ids.
        left: The ids of hosts that were there and have not reported.
    """
    judging = _Judging(cluster, news, frozenset(left))
    findings = {(found.code, found.where): found for found in judging.find()}
    ordered = sorted(findings.values(), key=lambda found: (_ORDER[found.severity], found.where))
    return Verdict(
        rows=tuple(judging.list_rows()),
        findings=tuple(ordered),
        missing=tuple(sorted(judging.missing)),
        interval=max((host.interval for host in news.values()), default=0.0),
    )


@attrs.frozen
class _Sealing:
    """Two hosts that cannot open each other's packets, in one or both directions.

    Attributes:
        pair: The ids of the two hosts.
        code: The code of the finding.
        seals: The cipher and the hash that a host uses, by host ids, as far as known.
    """

    pair: frozenset[int]
    code: FindingCode
    seals: Mapping[int, str]


class _Judging:
    def __init__(
        self, cluster: Cluster, news: Mapping[int, HostNews], left: frozenset[int]
    ) -> None:
        self._hosts = {host.host_id: host for host in cluster.hosts}
        self._transports = {link.link_id: link.transport for link in cluster.links}
        self._news = news
        self._left = left
        self._ways = {
            (host_id, way.host_id, way.link_id): way
            for host_id, report in news.items()
            for way in report.ways
        }
        self._between: dict[tuple[int, int], list[WayReport]] = {}
        for (here, there, _), way in self._ways.items():
            self._between.setdefault((here, there), []).append(way)
        self._sealings: list[_Sealing] = []
        self.missing: set[int] = set()

    def find(self) -> Iterator[Finding]:
        """Yield all findings, some repeatedly."""
        for one, other in combinations(sorted(self._hosts), 2):
            yield from self._find_between(one, other)
        for host_id in sorted(self._hosts.keys() - self._news.keys()):
            yield from self._find_absence(host_id)
        yield from self._find_sealings()
        yield from self._find_different_files()
        yield from self._find_settings()

    def list_rows(self) -> Iterator[Row]:
        """Yield a row for each link from each host to each other host."""
        for source in self._hosts.values():
            for target in self._hosts.values():
                if source is target:
                    continue
                for link_id in self._links_between(source.host_id, target.host_id):
                    way = self._ways.get((source.host_id, target.host_id, link_id))
                    yield Row(source=source, target=target, link_id=link_id, way=way)

    # Two hosts.

    def _find_between(self, one: int, other: int) -> Iterator[Finding]:
        """Yield the findings between two hosts, of which at least one has reported."""
        if self._left & {one, other}:
            return
        sealing = self._find_sealing(one, other)
        if sealing is not None:
            self._sealings.append(sealing)
            return
        pairs = [self._pair(one, other, link) for link in self._links_between(one, other)]
        if {one, other} <= self._news.keys():
            for pair in pairs:
                yield from judge_link(pair)
        elif self._is_heard_alone(pairs):
            for pair in pairs:
                if pair.ways and not pair.is_off:
                    yield judge_down(pair)

    def _is_heard_alone(self, pairs: list[Pair]) -> bool:
        """Return whether a host without a report is there, since its packets were heard.

        If a link to it is up, another program than this command runs there.
        """
        ways = [way for pair in pairs for way in pair.ways]
        if any(way.connected for way in ways):
            return False
        signs = (way.opened or way.other_id or way.other_link for way in ways)
        return any(signs) or any(map(find_mismatch, pairs))

    def _links_between(self, one: int, other: int) -> list[int]:
        ends = [
            {link.link_id: link.address for link in self._hosts[host_id].links}
            for host_id in (one, other)
        ]
        # With two learnt addresses neither host could begin.
        return [
            link_id
            for link_id in ends[0]
            if link_id in ends[1] and any(end[link_id] is not None for end in ends)
        ]

    def _pair(self, one: int, other: int, link_id: int) -> Pair:
        intervals = [self._news[host].interval for host in (one, other) if host in self._news]
        return Pair(
            link_id,
            self._end(one, other, link_id),
            self._end(other, one, link_id),
            max(intervals, default=0.0),
            self._transports.get(link_id, "udp"),
        )

    def _end(self, host_id: int, other: int, link_id: int) -> End:
        host = self._hosts[host_id]
        addresses = {
            link.address.host: link.link_id for link in host.links if link.address is not None
        }
        way = self._ways.get((host_id, other, link_id))
        return End(label(host), host.name, way, addresses)

    # Hosts without a report.

    def _find_absence(self, host_id: int) -> Iterator[Finding]:
        """Yield the finding that a host did not come, unless there are signs of it."""
        if any(host_id in sealing.pair for sealing in self._sealings):
            return
        pairs = [
            self._pair(min(host_id, other), max(host_id, other), link_id)
            for other in self._news
            for link_id in self._links_between(host_id, other)
        ]
        if host_id not in self._left and self._is_heard_alone(pairs):
            return
        self.missing.add(host_id)
        ways = [way for pair in pairs for way in pair.ways]
        code, text = FindingCode.HOST_MISSING, "nothing came from this host"
        remedy = "start preflight on it"
        failed = [way for way in ways if way.errno]
        numbers = {way.errno for way in failed}
        if host_id in self._left:
            code = FindingCode.HOST_LEFT
            text = "its preflight started, and was ended before it reported"
            remedy = "start preflight on all hosts again"
        elif any(way.connected for way in ways):
            text = "it answers pings, but no preflight answers: another program has its port"
            remedy = (
                "stop corosync on it (systemctl stop corosync), then start preflight; if that runs"
                " there, compare service_channel in the files"
            )
        elif numbers and numbers <= {errno.ECONNREFUSED}:
            text = "nothing listens at its addresses and ports"
            remedy = "start preflight on it, or compare ports and transports in its file"
        elif numbers and numbers <= NO_ROUTE:
            text = f"its addresses cannot be reached: {failed[0].trouble}"
            remedy += "; if it is started, look at network cards, cables, VLANs and routes"
        else:
            remedy += "; if it is started, look for a firewall, and compare the addresses"
        host = self._hosts[host_id]
        yield Finding(
            severity=Severity.FAULT, code=code, where=label(host), text=text, remedy=remedy
        )

    # Keys, ciphers and hashes.

    def _find_sealing(self, one: int, other: int) -> _Sealing | None:
        seals: dict[int, str] = {}
        differs: set[str] = set()
        for here, there in ((one, other), (other, one)):
            ways = self._between.get((here, there), [])
            sealed = [way for way in ways if way.unopened]
            if not sealed or any(way.opened for way in ways):
                continue
            differs.update(way.differs for way in sealed)
            seals[here] = self._news[here].settings.get("crypto", "")
            seals.setdefault(there, next((way.sealed_by for way in sealed if way.sealed_by), ""))
        code = next((code for word, code in _SEALINGS.items() if word in differs), None)
        if code is None:
            return None
        names_help = code in (FindingCode.CIPHER_MISMATCH, FindingCode.HASH_MISMATCH)
        known = {host: seal for host, seal in seals.items() if seal and names_help}
        return _Sealing(frozenset({one, other}), code, known)

    def _find_sealings(self) -> Iterator[Finding]:
        """Yield one finding if a single host is the cause, else one for each two hosts."""
        for code in _SEALING_WORDS:
            found = [sealing for sealing in self._sealings if sealing.code == code]
            common = frozenset[int].intersection(*(each.pair for each in found)) if found else ()
            groups = [found] if found and len(common) == 1 else [[each] for each in found]
            for group in groups:
                yield self._describe_sealings(code, group)

    def _describe_sealings(self, code: FindingCode, group: list[_Sealing]) -> Finding:
        common = sorted(frozenset[int].intersection(*(each.pair for each in group)))
        everybody = sorted(frozenset[int].union(*(each.pair for each in group)))
        others = [host for host in everybody if host not in common] if len(common) == 1 else []
        where = " and ".join(label(self._hosts[host]) for host in common)
        names = ", ".join(self._hosts[host].name for host in others)
        heard = "packets come, but neither host can open those of the other"
        if others:
            heard = f"packets come, but it cannot open those of {names}, nor they its packets"
        seals: dict[int, str] = {}
        for each in group:
            seals.update(each.seals)
        used = ", ".join(
            f"{self._hosts[host].name} uses {seals[host]}" for host in everybody if seals.get(host)
        )
        why, remedy = _SEALING_WORDS[code]
        text = f"{heard}, with the same key: {used}" if used else f"{heard}: {why}"
        return Finding(severity=Severity.FAULT, code=code, where=where, text=text, remedy=remedy)

    # Files.

    def _find_different_files(self) -> Iterator[Finding]:
        if len(self._news) < 2:
            return
        files = {
            host: tuple(sorted(report.settings.items())) for host, report in self._news.items()
        }
        # The file of most hosts; of equally many, that of the first host.
        counts = Counter(files.values())
        usual = min(files, key=lambda host: (-counts[files[host]], host))
        wanted = self._news[usual].settings
        for host_id in sorted(self._news):
            settings = self._news[host_id].settings
            differing = [
                f"{key} is {settings.get(key, 'not there')} in place of"
                f" {wanted.get(key, 'not there')}"
                for key in sorted(settings.keys() | wanted.keys())
                if settings.get(key) != wanted.get(key)
            ]
            if not differing:
                continue
            more = len(differing) - _MOST_DIFFERENCES
            shown = "; ".join(differing[:_MOST_DIFFERENCES])
            yield Finding(
                severity=Severity.FAULT,
                code=FindingCode.FILE_MISMATCH,
                where=label(self._hosts[host_id]),
                text=f"its file differs from that of {self._hosts[usual].name}: {shown}"
                + (f"; and {more} more" if more > 0 else ""),
                remedy="copy the same file to all hosts",
            )

    def _find_settings(self) -> Iterator[Finding]:
        """Yield findings on an MTU that is too large, and on the reverse path filter."""
        for host_id, report in sorted(self._news.items()):
            where = label(self._hosts[host_id])
            wanted = report.settings.get("mtu", "")
            small = [way.path_mtu for way in report.ways if way.connected and way.path_mtu]
            if wanted.isdecimal() and small and min(small) < int(wanted):
                yield Finding(
                    severity=Severity.FAULT,
                    code=FindingCode.MTU_SETTING,
                    where=where,
                    text=f"the file says an MTU of {wanted}, and a path takes {min(small)} bytes",
                    remedy="leave the MTU out of the file (knet_mtu in corosync.conf), or lower it",
                )
            is_down = any(way.enabled and not way.connected for way in report.ways)
            if is_down and report.filtered > _MOST_FILTERED:
                yield Finding(
                    severity=Severity.WARNING,
                    code=FindingCode.REVERSE_PATH_FILTER,
                    where=where,
                    text=f"the kernel dropped {report.filtered} packets whose source address it"
                    " expects on another network card (rp_filter)",
                    remedy="look for cables or VLANs that are crossed, and for addresses on the"
                    " wrong network card",
                )


def label(host: ClusterHost) -> str:
    """Return the name of a host in findings."""
    return title_of(host.host_id, host.name)
