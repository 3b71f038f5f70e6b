"""Access lists: which addresses may speak on a link."""

from __future__ import annotations

import errno
import tracemalloc
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio.errors import AlreadyExistsError, InvalidArgumentError, KnetError

ADDRESSES = st.one_of(
    st.integers(0, 20).map(lambda last: IPv4Address(0x0A000000 + last)),
    st.integers(0, 20).map(lambda last: IPv6Address((0xFD00 << 112) + last)),
)


@st.composite
def entries(draw: st.DrawFn) -> AclEntry:
    first = draw(ADDRESSES)
    last = type(first)(int(first) + draw(st.integers(0, 5)))
    return AclEntry.range(first, last, accept=draw(st.booleans()))


@given(
    st.lists(entries(), max_size=6, unique_by=lambda entry: (entry.first, entry.last)), ADDRESSES
)
def test_the_first_entry_that_matches_answers_and_no_match_rejects(
    chain: list[AclEntry], address: IPv4Address | IPv6Address
) -> None:
    acl = AccessList()
    for entry in chain:
        acl.append(entry)
    answers = [
        entry.accept
        for entry in chain
        if entry.first.version == address.version
        and int(entry.first) <= int(address) <= int(entry.last)
    ]
    expected = answers[0] if answers else False
    assert acl.accepts(str(address)) is expected
    # The second answer is remembered, and the same.
    assert acl.accepts(str(address)) is expected


def test_an_empty_list_rejects() -> None:
    assert not AccessList().accepts("10.0.0.1")


def test_an_address_entry_speaks_of_that_address_alone() -> None:
    acl = AccessList()
    acl.append(AclEntry.address("10.0.0.1"))
    acl.append(AclEntry.address(IPv6Address("fd00::1")))
    assert acl.accepts("10.0.0.1")
    assert acl.accepts("fd00::1")
    assert not acl.accepts("10.0.0.2")
    assert not acl.accepts("fd00::2")


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.1.0.0/255.255.0.0", "10.1.2.3", "10.2.0.0"),
        ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::"),
    ],
)
def test_a_network_entry_speaks_of_all_of_the_network(
    network: str, inside: str, outside: str
) -> None:
    entry = AclEntry.network(network)
    assert entry.matches(ip_address(inside))
    assert not entry.matches(ip_address(outside))


def test_a_range_entry_includes_both_ends() -> None:
    entry = AclEntry.range("10.0.0.5", "10.0.0.9", accept=False)
    assert [last for last in range(12) if entry.matches(ip_address(f"10.0.0.{last}"))] == [
        5,
        6,
        7,
        8,
        9,
    ]
    assert entry.accept is False


def test_an_entry_of_one_ip_version_says_nothing_of_the_other() -> None:
    assert not AclEntry.network("0.0.0.0/0").matches(ip_address("::1"))
    assert not AclEntry.network("::/0").matches(ip_address("127.0.0.1"))


def test_the_interface_of_a_link_local_address_is_not_compared() -> None:
    acl = AccessList()
    acl.append(AclEntry.address("fe80::1%eth0"))
    assert acl.accepts("fe80::1%eth1")
    assert acl.accepts("fe80::1")
    assert AclEntry.address(IPv6Address("fe80::1%eth0")) == AclEntry.address("fe80::1")


@pytest.mark.parametrize("address", ["", "10.0.0", "10.0.0.256", "localhost", "fd00::/64"])
def test_what_is_no_address_is_refused_and_named(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not an IP address") as caught:
        AclEntry.address(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "example.org/8"])
def test_what_is_no_network_is_refused_and_named(network: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a network") as caught:
        AclEntry.network(network)
    assert network in str(caught.value)


@pytest.mark.parametrize(("first", "last"), [("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "fd00::1")])
def test_a_range_that_runs_backwards_or_across_ip_versions_is_refused(
    first: str, last: str
) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a range"):
        AclEntry.range(first, last)


def test_an_entry_can_be_put_before_others() -> None:
    acl = AccessList()
    everybody = AclEntry.network("10.0.0.0/8")
    nobody = AclEntry.address("10.0.0.1", accept=False)
    acl.append(everybody)
    assert acl.accepts("10.0.0.1")
    acl.insert(0, nobody)
    assert not acl.accepts("10.0.0.1")
    assert list(acl) == [nobody, everybody]
    assert len(acl) == 2


@pytest.mark.parametrize("index", [-1, 1])
def test_an_index_outside_of_the_list_is_refused(index: int) -> None:
    with pytest.raises(InvalidArgumentError, match="from 0 to 0"):
        AccessList().insert(index, AclEntry.address("10.0.0.1"))


def test_the_same_addresses_may_not_have_two_entries() -> None:
    acl = AccessList()
    acl.append(AclEntry.network("10.0.0.0/8"))
    with pytest.raises(AlreadyExistsError, match=r"10\.0\.0\.0 to 10\.255\.255\.255") as caught:
        acl.append(AclEntry.range("10.0.0.0", "10.255.255.255", accept=False))
    assert caught.value.errno == errno.EEXIST


def test_a_removed_entry_answers_no_more() -> None:
    acl = AccessList()
    entry = AclEntry.address("10.0.0.1")
    acl.append(entry)
    assert acl.accepts("10.0.0.1")
    acl.remove(entry)
    assert not acl.accepts("10.0.0.1")
    with pytest.raises(KnetError, match="is not in the access list") as caught:
        acl.remove(entry)
    assert caught.value.errno == errno.ENOENT


def test_a_cleared_list_rejects_what_it_accepted() -> None:
    acl = AccessList()
    acl.append(AclEntry.address("10.0.0.1"))
    assert acl.accepts("10.0.0.1")
    acl.clear()
    assert len(acl) == 0
    assert not acl.accepts("10.0.0.1")


def test_a_flood_of_addresses_is_answered_rightly_to_the_last() -> None:
    acl = AccessList()
    acl.append(AclEntry.network("10.0.0.0/16"))
    addresses = [str(IPv4Address(0x0A000000 + i * 32)) for i in range(3000)]
    assert [acl.accepts(address) for address in addresses] == [
        address.startswith("10.0.") for address in addresses
    ]


def test_a_flood_of_addresses_does_not_fill_memory() -> None:
    acl = AccessList()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(20_000):
            acl.accepts(str(IPv4Address(i)))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # To remember all of them would take more than a hundred bytes each.
    assert after - before < 500_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("10.0.0.1", "10.0.0.9"),
        (IPv4Address("10.0.0.1"), None),
        (IPv4Address("10.0.0.9"), IPv4Address("10.0.0.1")),
        (IPv4Address("10.0.0.1"), IPv6Address("::1")),
        (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9"), "no"),
    ],
)
def test_an_entry_that_could_match_nothing_is_not_made(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        AclEntry(*arguments)
