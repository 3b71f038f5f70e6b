"""Hosts as read from either kind of file, and the checks that compare several hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations, combinations_with_replacement, islice
from typing import Final, Protocol, TypeAlias

import attrs

from knet_trio._core.acl import AclEntry
from knet_trio._core.admission import is_possible
from knet_trio._devices import parse_interface, parse_mac
from knet_trio.address import Address
from knet_trio.cluster._positions import Position
from knet_trio.cluster.errors import Mistake
from knet_trio.cluster.records import (
    EVERYWHERE,
    ClusterHost,
    ClusterLink,
    ClusterTap,
    HostLink,
)
from knet_trio.config import LIKELY_MILLISECONDS
from knet_trio.errors import InvalidArgumentError, count_of

# The most pairs of hosts without a link, and hosts that lack one, that are named one by one.
_NAMED_PAIRS: Final = 10
_NAMED_HOSTS: Final = 10


class MistakeReport(Protocol):
    """A function that takes a mistake: its text, its position and its key."""

    def __call__(self, text: str, place: Position | None = None, key: str = "") -> None:
        """Note a mistake."""


class Notes:
    """A collection of mistakes."""

    def __init__(self) -> None:
        self._mistakes: list[Mistake] = []

    def __call__(self, text: str, place: Position | None = None, key: str = "") -> None:
        """Note a mistake."""
        line, column = place or (None, None)
        self._mistakes.append(Mistake(text, line, column, key))

    def sorted(self) -> list[Mistake]:
        """Return the mistakes in the order of their positions, without duplicates."""
        found = dict.fromkeys(self._mistakes)
        return sorted(found, key=lambda mistake: (mistake.line or 0, mistake.column or 0))


@attrs.define
class DraftHost:
    """The valid parts of a host in a file.

    Attributes:
        host_id: The id, None if it is missing or invalid.
        name: The name, None if there is none.
        links: The addresses by link id, None for one that is learnt.
        allow: The addresses that are accepted on links whose address is learnt; None if the file
            has none.
        place: The position of the host.
        places: The positions of the id, the name and (by number) the links.
        key: The key of the host in messages.
        names: The file's own keys for these parts, where they differ.
        without: The links that the file says the host does not have, by an empty address.
    """

    host_id: int | None
    name: str | None
    links: dict[int, Address | None]
    allow: tuple[AclEntry, ...] | None
    place: Position
    places: Mapping[str | int, Position]
    key: str
    names: Mapping[str | int, str]
    without: frozenset[int] = frozenset()

    def find_key(self, part: str | int) -> str:
        """Return the key of the id, the name or (by number) a link in messages."""
        return f"{self.key}.{self.names.get(part, part)}"

    def find_place(self, part: str | int) -> Position:
        """Return the position of a part, or of the host if the part has none."""
        return self.places.get(part, self.place)

    def finish(self) -> ClusterHost:
        """Return the finished host."""
        assert self.host_id is not None
        links = tuple(HostLink(link_id, self.links[link_id]) for link_id in sorted(self.links))
        name = str(self.host_id) if self.name is None else self.name
        return ClusterHost(
            self.host_id, name, links, EVERYWHERE if self.allow is None else self.allow
        )


def check_hosts(
    hosts: list[DraftHost], report: MistakeReport, warn: MistakeReport, *, has_key: bool
) -> None:
    """Note mistakes that show when hosts are compared with each other.

    Args:
        hosts: All hosts.
        report: Called for each mistake.
        warn: Called for each setting that is valid but unusual.
        has_key: True if packets are sealed with a key.
    """
    _check_ids(hosts, report)
    _check_names(hosts, report)
    _check_addresses(hosts, report)
    _check_versions(hosts, report)
    for host in hosts:
        learnt = [link_id for link_id, address in host.links.items() if address is None]
        if learnt and host.allow is None and not has_key:
            report(
                "its address is learnt and there is no key, so anybody could take its place: name"
                " the addresses that it may have, such as allow = ['10.1.0.0/16'], or set key_file",
                host.find_place(learnt[0]),
                host.key,
            )
        if host.allow and not learnt:
            warn(
                "allow has no effect, since no link of this host is dynamic: remove it",
                host.find_place("allow"),
                host.find_key("allow"),
            )
    _check_pairs(hosts, warn)
    _check_missing_links(hosts, warn)


def check_tap(tap: ClusterTap, hosts: list[DraftHost], report: Callable[[str, str], None]) -> None:
    """Note addresses of a tap that are invalid, or the same on several hosts.

    Args:
        tap: The tap.
        hosts: All hosts.
        report: Called with the text of each mistake and its key, ``address`` or ``mac``.
    """
    ids = sorted({host.host_id for host in hosts if host.host_id is not None})
    for key, get, parse in (
        ("address", tap.get_address, parse_interface),
        ("mac", tap.get_mac, parse_mac),
    ):
        first: dict[object, int] = {}
        for host_id in ids:
            text = get(host_id)
            if text is None:
                continue
            try:
                parsed = parse(text)
            except InvalidArgumentError as error:
                report(f"for host {host_id}: {error.args[0]}", key)
                break
            other = first.setdefault(parsed, host_id)
            if other != host_id:
                report(
                    f"hosts {other} and {host_id} both get {text}: put the id of the host into it,"
                    " as {id}",
                    key,
                )
                break


def _check_ids(hosts: list[DraftHost], report: MistakeReport) -> None:
    first: dict[int, DraftHost] = {}
    for host in hosts:
        if host.host_id is None:
            continue
        other = first.setdefault(host.host_id, host)
        if other is not host:
            report(
                f"the host in line {other.place.line} already has the id {host.host_id}: give each"
                " host its own",
                host.find_place("id"),
                host.find_key("id"),
            )


def _check_names(hosts: list[DraftHost], report: MistakeReport) -> None:
    first: dict[str, DraftHost] = {}
    for host in hosts:
        name = host.name
        if name is None:
            if host.host_id is None:
                continue
            name = str(host.host_id)
        elif name.isdecimal() and host.host_id is not None and name != str(host.host_id):
            report(
                f"the name {name!r} looks like the id {name}, but this host has the id"
                f" {host.host_id}: choose another name",
                host.find_place("name"),
                f"{host.key}.name",
            )
        other = first.setdefault(name, host)
        # Two hosts without names have the same name only if they have the same id, a mistake that
        # was noted before.
        if other is not host and (host.name is not None or other.name is not None):
            report(
                f"the host in line {other.place.line} already has the name {name!r}: give each host"
                " its own",
                host.find_place("name"),
                f"{host.key}.name",
            )


def _check_addresses(hosts: list[DraftHost], report: MistakeReport) -> None:
    first: dict[Address, tuple[DraftHost, int]] = {}
    for host in hosts:
        for link_id, address in host.links.items():
            if address is None:
                continue
            if not is_possible(address):
                report(
                    f"{address} is not the address of a single host: write the address of its"
                    " network card",
                    host.find_place(link_id),
                    host.find_key(link_id),
                )
                continue
            other, other_link = first.setdefault(address, (host, link_id))
            if (other, other_link) == (host, link_id):
                continue
            whose = "this host" if other is host else f"the host in line {other.place.line}"
            report(
                f"{address} is already the address of {whose} on link {other_link}: give each link"
                " its own",
                host.find_place(link_id),
                host.find_key(link_id),
            )


def _check_versions(hosts: list[DraftHost], report: MistakeReport) -> None:
    first: dict[int, tuple[DraftHost, Address]] = {}
    for host in hosts:
        for link_id, address in host.links.items():
            if address is None:
                continue
            other, reference = first.setdefault(link_id, (host, address))
            if reference.is_ipv6 != address.is_ipv6:
                report(
                    f"{address} and {reference}, the address of the host in line"
                    f" {other.place.line} on link {link_id}, are not both IPv4 or both IPv6: use"
                    " one version on a link",
                    host.find_place(link_id),
                    host.find_key(link_id),
                )


def _check_pairs(hosts: list[DraftHost], warn: MistakeReport) -> None:
    """Warn of pairs of hosts without a link to each other."""
    linked = [(host, _get_ends(host)) for host in hosts if host.links]
    # Thousands of hosts make millions of pairs, but most hosts have the same ends.
    kinds = Counter(ends for _, ends in linked)
    total = 0
    concerned: set[_Ends] = set()
    for kind, another in combinations_with_replacement(kinds, 2):
        n = kinds[kind]
        pairs = n * (n - 1) // 2 if kind == another else n * kinds[another]
        if pairs and _are_apart(kind, another):
            total += pairs
            concerned |= {kind, another}
    apart = (
        (one, other)
        for (one, ends), (other, other_ends) in combinations(
            [pair for pair in linked if pair[1] in concerned], 2
        )
        if _are_apart(ends, other_ends)
    )
    for one, other in islice(apart, _NAMED_PAIRS):
        warn(
            f"this host and the one in line {one.place.line} never reach each other: give them a"
            " link in common on which the address of at least one is known",
            other.place,
            other.key,
        )
    if total > _NAMED_PAIRS:
        _, other = next(apart)
        warn(
            f"{total - _NAMED_PAIRS} more pairs of hosts never reach each other",
            other.place,
            other.key,
        )


def _check_missing_links(hosts: list[DraftHost], warn: MistakeReport) -> None:
    """Warn of hosts that lack an address on a link that at least half of the hosts have."""
    linked = [host for host in hosts if host.links]
    counts = Counter(link_id for host in linked for link_id in host.links)
    usual = sorted(link_id for link_id, count in counts.items() if 2 * count >= len(linked))
    lacking = [
        (host, missing)
        for host in linked
        if (missing := [one for one in usual if one not in host.links and one not in host.without])
    ]
    for host, missing in lacking[:_NAMED_HOSTS]:
        name = f"host {host.host_id}" if host.name is None else host.name
        listed = f"link{'s'[: len(missing) - 1]} {', '.join(map(str, missing))}"
        warn(
            f"{name} has no address on {listed}, unlike other hosts: add it, or no message to or"
            " from this host goes over that link",
            host.place,
            host.key,
        )
    if len(lacking) > _NAMED_HOSTS:
        host, _ = lacking[_NAMED_HOSTS]
        warn(
            f"{count_of(len(lacking) - _NAMED_HOSTS, 'more host')} without an address on a link"
            " that others have",
            host.place,
            host.key,
        )


_Ends: TypeAlias = frozenset[tuple[int, bool]]


def _get_ends(host: DraftHost) -> _Ends:
    """Return the links of a host, each with True if its address is known."""
    return frozenset((link_id, address is not None) for link_id, address in host.links.items())


def _are_apart(one: _Ends, other: _Ends) -> bool:
    """Return whether two hosts have no usable link to each other."""
    return not any(
        one_id == other_id and (one_known or other_known)
        for one_id, one_known in one
        for other_id, other_known in other
    )


def check_links(
    links: tuple[ClusterLink, ...],
    find: Callable[[int], tuple[Position, str]],
    warn: MistakeReport,
    *,
    in_seconds: bool,
) -> None:
    """Warn of settings of a link that contradict each other, or are probably mistakes.

    Args:
        links: The links.
        find: Returns the position and the key of a link in messages.
        warn: Reports a warning.
        in_seconds: True if the file has the timers in seconds, so that milliseconds are a mistake.
    """
    for link in links:
        for name, seconds in (
            ("ping interval", link.ping_interval),
            ("pong timeout", link.pong_timeout),
        ):
            if in_seconds and seconds >= LIKELY_MILLISECONDS:
                place, key = find(link.link_id)
                warn(
                    f"the {name} of link {link.link_id} is {seconds:g} s: give seconds, not"
                    " milliseconds as in corosync.conf",
                    place,
                    key,
                )
        if link.pong_timeout < link.ping_interval:
            place, key = find(link.link_id)
            warn(
                f"the pong timeout of link {link.link_id} ({link.pong_timeout:g} s) is shorter than"
                f" its ping interval ({link.ping_interval:g} s), so the link goes down between two"
                " pings: make it longer",
                place,
                key,
            )
