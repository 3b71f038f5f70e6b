"""An access list takes texts that are addresses, and the first entry that holds one speaks for it.

The bytes put entries into a list and take them out, and ask it about addresses. What is an address
the system's own reader says, and what a list answers is found the slow way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio.errors import AlreadyExistsError, InvalidArgumentError, KnetError
from tests.fuzz.script import Script

OPERATIONS: Final = 100
LENGTHS: Final = {4: 4, 6: 16}
MAPPED: Final = bytes(10) + b"\xff\xff"
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class Rule(NamedTuple):
    """What the model keeps of an entry: addresses as bytes, which have the order of numbers."""

    first: bytes
    last: bytes
    accept: bool

    def holds(self, address: bytes) -> bool:
        """Whether ``address`` is between the two, and as long as they are."""
        return len(self.first) == len(address) and self.first <= address <= self.last


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    script = Script(data)
    acl, rules = AccessList(), list[Rule]()
    for _ in range(OPERATIONS):
        if not script:
            return
        match script.number() % 8:
            case 0:
                read_texts(script)
            case 1:
                acl.clear()
                rules.clear()
            case 2:
                remove(script, acl, rules)
            case 3 | 4:
                ask(script, acl, rules)
            case _:
                insert(script, acl, rules)
        assert [as_rule(entry) for entry in acl] == rules
        assert len(acl) == len(rules)


def insert(script: Script, acl: AccessList, rules: list[Rule]) -> None:
    """An entry more, unless there is one for the same addresses or the place is past the end."""
    entry = make_entry(script)
    if entry is None:
        return
    rule = as_rule(entry)
    index = script.number() % 8 - 1
    try:
        acl.insert(index, entry)
    except AlreadyExistsError:
        assert (rule.first, rule.last) in [(each.first, each.last) for each in rules]
    except InvalidArgumentError:
        assert not 0 <= index <= len(rules)
    else:
        assert 0 <= index <= len(rules)
        assert (rule.first, rule.last) not in [(each.first, each.last) for each in rules]
        rules.insert(index, rule)


def make_entry(script: Script) -> AclEntry | None:
    """An address, a network or a range; None if the bytes make none."""
    kind = script.number()
    first, accept = address(script), kind % 2 == 1
    match kind // 2 % 3:
        case 0:
            entry = AclEntry.address(first, accept=accept)
            assert as_rule(entry) == Rule(packed(first), packed(first), accept)
            return entry
        case 1:
            return make_network(first, script.number() % 160, accept=accept)
        case _:
            last = address(script)
            try:
                entry = AclEntry.range(first, last, accept=accept)
            except InvalidArgumentError:
                a, b = packed(first), packed(last)
                assert len(a) != len(b) or a > b
                return None
            assert as_rule(entry) == Rule(packed(first), packed(last), accept)
            return entry


def make_network(first: str, length: int, *, accept: bool) -> AclEntry | None:
    """A network with a prefix of so many bits, if ``first`` is one's first address."""
    start = packed(first)
    bits = 8 * len(start)
    size = 1 << max(bits - length, 0)
    number = int.from_bytes(start, "big")
    is_network = length <= bits and number % size == 0
    try:
        entry = AclEntry.network(f"{first}/{length}", accept=accept)
    except InvalidArgumentError:
        assert not is_network
        return None
    assert is_network
    last = (number + size - 1).to_bytes(len(start), "big")
    assert as_rule(entry) == Rule(start, last, accept)
    return entry


def remove(script: Script, acl: AccessList, rules: list[Rule]) -> None:
    """An entry less; or an error, where it is not in the list."""
    entries = list(acl)
    other = AclEntry.address(address(script))
    index = script.number() % (len(entries) + 1)
    entry = entries[index] if index < len(entries) else other
    rule = as_rule(entry)
    try:
        acl.remove(entry)
    except KnetError:
        assert rule not in rules
    else:
        rules.remove(rule)


def ask(script: Script, acl: AccessList, rules: list[Rule]) -> None:
    """Whether an address may speak: asked twice, since answers are remembered."""
    asked = address(script)
    first = next((rule for rule in rules if rule.holds(packed(asked))), None)
    expected = first is not None and first.accept
    scoped = f"{asked}%lo" if ":" in asked else asked
    assert acl.accepts(asked) is acl.accepts(scoped) is acl.accepts(asked) is expected


def address(script: Script) -> str:
    """An address near others, or any."""
    kind = script.number()
    version = 6 if kind % 2 else 4
    length = LENGTHS[version]
    if kind < 128:
        raw = bytes([10]) + bytes(length - 2) + script.take(1).ljust(1, b"\0")
    else:
        raw = script.take(length).ljust(length, b"\0")
        if raw.startswith(MAPPED):
            # What stands for an IPv4 address is refused.
            raw = b"\x20" + raw[1:]
    return socket.inet_ntop(FAMILIES[version], raw)


def packed(text: str) -> bytes:
    """An address as the system reads it."""
    return socket.inet_pton(FAMILIES[6 if ":" in text else 4], text)


def as_rule(entry: AclEntry) -> Rule:
    """What an entry says."""
    return Rule(entry.first.packed, entry.last.packed, entry.accept)


def read_texts(script: Script) -> None:
    """Texts that may be addresses, networks and ranges, or anything."""
    text = script.chunk().decode("utf-8", "surrogateescape")
    other = script.chunk().decode("latin-1")
    for one in (text, other):
        read_address(one)
    makers: tuple[Callable[[], AclEntry], ...] = (
        lambda: AclEntry.network(text),
        lambda: AclEntry.network(f"{text}/{other}"),
        lambda: AclEntry.range(text, other),
    )
    for make in makers:
        try:
            entry = make()
        except InvalidArgumentError:
            continue
        assert entry.first.version == entry.last.version
        assert entry.first.packed <= entry.last.packed
        assert entry.matches(entry.first)
        assert entry.matches(entry.last)


def read_address(text: str) -> None:
    """What the system reads as an address is one here, and nothing else is."""
    host = text.partition("%")[0]
    try:
        entry = AclEntry.address(text)
    except InvalidArgumentError:
        assert not is_address(host), host
        return
    assert is_address(host), host
    assert entry.first == entry.last == ip_address(packed(host))
    assert entry.matches(ip_address(host))


def is_address(text: str) -> bool:
    """Whether the system takes ``text`` for an address, and it is none of IPv4 in IPv6."""
    for family in FAMILIES.values():
        try:
            raw = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return not (len(raw) == 16 and raw.startswith(MAPPED))
    return False
