"""What both kinds of file are read into, and the checks that look at several hosts at once."""

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
from knet_trio.errors import InvalidArgumentError

# Of a mesh of many hosts, so many pairs without a link are named one by one.
_NAMED_PAIRS: Final = 10


class MistakeReport(Protocol):
    """Takes a mistake: what is wrong, where, and with which key."""

    def __call__(self, text: str, place: Position | None = None, key: str = "") -> None:
        """Note a mistake."""


class Notes:
    """Mistakes, in the order of their lines at the end."""

    def __init__(self) -> None:
        self._mistakes: list[Mistake] = []

    def __call__(self, text: str, place: Position | None = None, key: str = "") -> None:
        """Note a mistake."""
        line, column = place or (None, None)
        self._mistakes.append(Mistake(text, line, column, key))

    def sorted(self) -> list[Mistake]:
        """Return them in the order of their places, each once."""
        found = dict.fromkeys(self._mistakes)
        return sorted(found, key=lambda mistake: (mistake.line or 0, mistake.column or 0))


@attrs.define
class DraftHost:
    """A host as far as the file says it rightly.

    Attributes:
        host_id: None where it is missing or wrong.
        name: None where there is none.
        links: Its ends of links: an address, None for one that is learnt.
        allow: From where it may speak on links whose address is learnt; None: not said.
        place: Where the host stands.
        places: Where its id, its name and (by number) its links stand.
        key: What it is called in messages.
        names: What the file calls its parts, where that is not what they are called here.
    """

    host_id: int | None
    name: str | None
    links: dict[int, Address | None]
    allow: tuple[AclEntry, ...] | None
    place: Position
    places: Mapping[str | int, Position]
    key: str
    names: Mapping[str | int, str]

    def find_key(self, part: str | int) -> str:
        """Return what its id, its name or (by number) a link is called in messages."""
        return f"{self.key}.{self.names.get(part, part)}"

    def find_place(self, part: str | int) -> Position:
        """Return where a part of it stands, or the host itself."""
        return self.places.get(part, self.place)

    def finish(self) -> ClusterHost:
        """Return the host that the file means."""
        assert self.host_id is not None
        links = tuple(HostLink(link_id, self.links[link_id]) for link_id in sorted(self.links))
        name = str(self.host_id) if self.name is None else self.name
        return ClusterHost(
            self.host_id, name, links, EVERYWHERE if self.allow is None else self.allow
        )


def check_hosts(
    hosts: list[DraftHost], report: MistakeReport, warn: MistakeReport, *, has_key: bool
) -> None:
    """Note what is wrong with hosts beside each other.

    Args:
        hosts: All of them.
        report: Takes mistakes.
        warn: Takes what is odd.
        has_key: Whether packets have to be sealed with a key.
    """
    _check_ids(hosts, report)
    _check_names(hosts, report)
    _check_addresses(hosts, report)
    _check_versions(hosts, report)
    for host in hosts:
        learnt = [link_id for link_id, address in host.links.items() if address is None]
        if learnt and host.allow is None and not has_key:
            report(
                "its address is learnt and there is no key, so anybody could take its place: write"
                " from where it may speak, such as allow = ['10.1.0.0/16'], or set key_file",
                host.find_place(learnt[0]),
                host.key,
            )
        if host.allow and not learnt:
            warn(
                "it has no effect: none of the links of this host is dynamic",
                host.find_place("allow"),
                host.find_key("allow"),
            )
    _check_pairs(hosts, warn)


def check_tap(tap: ClusterTap, hosts: list[DraftHost], report: Callable[[str, str], None]) -> None:
    """Note what no device can have, or several hosts would.

    Args:
        tap: The tap.
        hosts: All hosts.
        report: Takes a mistake, and whether it is about the ``address`` or the ``mac``.
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
                    f"hosts {other} and {host_id} both have {text}: each needs its own, with the"
                    " host's id in it",
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
                f"id {host.host_id} is taken by the host in line {other.place.line}: ids are"
                " unique",
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
                f"the name {name!r} would be taken for the id {name}; this host has id"
                f" {host.host_id}",
                host.find_place("name"),
                f"{host.key}.name",
            )
        other = first.setdefault(name, host)
        # Two hosts without names have one name only if they have one id, which has been said.
        if other is not host and (host.name is not None or other.name is not None):
            report(
                f"the name {name!r} is taken by the host in line {other.place.line}: names are"
                " unique",
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
                    f"no host has {address} to itself: write the address of its network card",
                    host.find_place(link_id),
                    host.find_key(link_id),
                )
                continue
            other, other_link = first.setdefault(address, (host, link_id))
            if (other, other_link) == (host, link_id):
                continue
            whose = "this host" if other is host else f"the host in line {other.place.line}"
            report(
                f"{address} is the address of {whose} on link {other_link} already",
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
                    f"{address} cannot speak with {reference}, the address of the host in line"
                    f" {other.place.line} on link {link_id}: one is IPv4, the other IPv6",
                    host.find_place(link_id),
                    host.find_key(link_id),
                )


def _check_pairs(hosts: list[DraftHost], warn: MistakeReport) -> None:
    """Warn of two hosts that have no link to each other."""
    linked = [(host, _get_ends(host)) for host in hosts if host.links]
    # Of thousands of hosts most have the same ends, and there are millions of pairs.
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
            f"it has no link in common with the host in line {one.place.line} on which the address"
            " of one of them is known, so they never reach each other",
            other.place,
            other.key,
        )
    if total > _NAMED_PAIRS:
        _, other = next(apart)
        warn(
            f"the same is true of {total - _NAMED_PAIRS} more pairs of hosts",
            other.place,
            other.key,
        )


_Ends: TypeAlias = frozenset[tuple[int, bool]]


def _get_ends(host: DraftHost) -> _Ends:
    """Return the links that a host has, each with whether its address is known."""
    return frozenset((link_id, address is not None) for link_id, address in host.links.items())


def _are_apart(one: _Ends, other: _Ends) -> bool:
    """Return whether no link leads from one of two hosts to the other."""
    return not any(
        one_id == other_id and (one_known or other_known)
        for one_id, one_known in one
        for other_id, other_known in other
    )


def check_links(
    links: tuple[ClusterLink, ...], find: Callable[[int], tuple[Position, str]], warn: MistakeReport
) -> None:
    """Warn of settings of links that do not go together."""
    for link in links:
        if link.pong_timeout < link.ping_interval:
            place, key = find(link.link_id)
            warn(
                f"on link {link.link_id} the pong timeout ({link.pong_timeout:g} s) is shorter than"
                f" the ping interval ({link.ping_interval:g} s), so it goes down between two pings",
                place,
                key,
            )
