"""Access lists: which addresses may speak on a link.

The first entry that matches an address decides; an address that matches no entry is rejected. Ports
are not compared. See knet_link_insert_acl(3), knet_handle_enable_access_lists(3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import attrs

from knet_trio.errors import AlreadyExistsError, InvalidArgumentError, KnetError, is_integer, shown

IpAddress = IPv4Address | IPv6Address


def _check_address(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, IPv4Address | IPv6Address):
        raise InvalidArgumentError(
            f"{shown(value)} is not an IPv4Address or IPv6Address: AclEntry.address,"
            " AclEntry.network and AclEntry.range take text"
        )


def _check_accept(_: Any, __: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"accept {shown(value)} is neither True nor False")


@attrs.frozen
class AclEntry:
    """An entry of an access list: a range of addresses of one IP version.

    Attributes:
        first: The lowest address.
        last: The highest address.
        accept: True if these addresses may speak on the link, False if they are rejected.
    """

    first: IpAddress = attrs.field(validator=_check_address)
    last: IpAddress = attrs.field(validator=_check_address)
    accept: bool = attrs.field(default=True, validator=_check_accept)

    def __attrs_post_init__(self) -> None:
        if self.first.version != self.last.version or int(self.first) > int(self.last):
            raise InvalidArgumentError(
                f"{self.first} to {self.last} is not a range: give the lower address first, and two"
                " addresses of one IP version"
            )
        if _is_mapped(self.first) and _is_mapped(self.last):
            raise InvalidArgumentError(
                f"{self.first} is an IPv4 address written as IPv6, from which no packet comes:"
                " write it as IPv4"
            )

    @classmethod
    def address(cls, address: str | IpAddress, *, accept: bool = True) -> AclEntry:
        """Return an entry for one address.

        Args:
            address: An IP address.
            accept: True if the address may speak.
        """
        one = _parse_address(address)
        return cls(one, one, accept)

    @classmethod
    def network(cls, network: str | IPv4Network | IPv6Network, *, accept: bool = True) -> AclEntry:
        """Return an entry for a network.

        Args:
            network: A network, such as ``"10.0.0.0/8"``, ``"fd00::/64"`` or
                ``"10.0.0.0/255.0.0.0"``.
            accept: True if its addresses may speak.
        """
        parsed = _parse_network(network)
        return cls(parsed[0], parsed[-1], accept)

    @classmethod
    def range(
        cls, first: str | IpAddress, last: str | IpAddress, *, accept: bool = True
    ) -> AclEntry:
        """Return an entry for a range of addresses.

        Args:
            first: The lowest address.
            last: The highest address, included in the range.
            accept: True if the addresses may speak.
        """
        return cls(_parse_address(first), _parse_address(last), accept)

    def describe(self) -> str:
        """Return the addresses of the entry as text."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def matches(self, address: IpAddress) -> bool:
        """Return whether ``address`` is in the range of the entry."""
        return (
            self.first.version == address.version
            and int(self.first) <= int(address) <= int(self.last)
        )  # fmt: skip


class AccessList:
    """The access list of a link: its entries in order."""

    def __init__(self) -> None:
        self._entries: list[AclEntry] = []
        self._answers: dict[str, bool] = {}
        self._why_closed: Callable[[], Exception] | None = None
        self._check_caller: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        entries = [
            f"{'accept' if entry.accept else 'reject'} {entry.describe()}"
            for entry in self._entries
        ]
        return f"<AccessList: {', '.join(entries) or 'empty'}>"

    def __iter__(self) -> Iterator[AclEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, entry: AclEntry) -> None:
        """Add ``entry`` at the end.

        Raises:
            AlreadyExistsError: The list has an entry for the same addresses.
            UnknownLinkError: The link was removed.
            trio.ClosedResourceError: The handle has ended.
        """
        self.insert(len(self._entries), entry)

    def insert(self, index: int, entry: AclEntry) -> None:
        """Insert an entry.

        Args:
            index: The position of the entry, from 0 to the length of the list.
            entry: The entry.

        Raises:
            AlreadyExistsError: The list has an entry for the same addresses.
            InvalidArgumentError: ``index`` is out of range, or ``entry`` is not an AclEntry.
            UnknownLinkError: The link was removed.
            trio.ClosedResourceError: The handle has ended.
        """
        self._check(entry)
        if not is_integer(index) or not 0 <= index <= len(self._entries):
            raise InvalidArgumentError(
                f"index {shown(index)} is not valid: give a number from 0 to {len(self._entries)},"
                " the length of the access list"
            )
        if any((e.first, e.last) == (entry.first, entry.last) for e in self._entries):
            raise AlreadyExistsError(
                f"the access list has an entry for {entry.first} to {entry.last}; remove it first"
            )
        self._entries.insert(index, entry)
        self._answers.clear()

    def remove(self, entry: AclEntry) -> None:
        """Remove ``entry``.

        Raises:
            KnetError: ``entry`` is not in the list (ENOENT).
            InvalidArgumentError: ``entry`` is not an AclEntry.
            UnknownLinkError: The link was removed.
            trio.ClosedResourceError: The handle has ended.
        """
        self._check(entry)
        try:
            self._entries.remove(entry)
        except ValueError:
            raise KnetError(f"{entry} is not in the access list", errno=_ENOENT) from None
        self._answers.clear()

    def clear(self) -> None:
        """Remove all entries. An empty list rejects every address.

        Raises:
            UnknownLinkError: The link was removed.
            trio.ClosedResourceError: The handle has ended.
        """
        self._check_open()
        self._entries.clear()
        self._answers.clear()

    def guard(self, check: Callable[[], None]) -> None:
        """Call ``check`` before each change; it raises if the change is forbidden. For handles."""
        self._check_caller = check

    def close(self, why: Callable[[], Exception]) -> None:
        """Refuse all further changes with the exception that ``why`` returns. For handles."""
        self._why_closed = why

    def accepts(self, address: str) -> bool:
        """Return whether ``address`` may speak.

        Args:
            address: An IP address as the socket gives it. The scope id is ignored.
        """
        answer = self._answers.get(address)
        if answer is None:
            entry = self._find(address)
            answer = entry is not None and entry.accept
            # Bounded: a flood of spoofed addresses must not fill memory.
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[address] = answer
        return answer

    def explain_refusal(self, address: str) -> str:
        """Describe why ``address`` was rejected.

        Args:
            address: An IP address as the socket gives it. The list may have changed since.
        """
        entry = self._find(address)
        if entry is None:
            return "no entry matches that address"
        does = "now accepts that address" if entry.accept else "rejects that address"
        return f"entry {self._entries.index(entry)}, {entry.describe()}, {does}"

    def _find(self, address: str) -> AclEntry | None:
        """Return the first entry that matches ``address``."""
        parsed = ip_address(address.partition("%")[0])
        return next((entry for entry in self._entries if entry.matches(parsed)), None)

    def _check(self, entry: object) -> None:
        self._check_open()
        if not isinstance(entry, AclEntry):
            raise InvalidArgumentError(
                f"{shown(entry)} is not an AclEntry: write AclEntry.address('10.0.0.1'),"
                " AclEntry.network('10.0.0.0/8') or AclEntry.range('10.0.0.1', '10.0.0.9')"
            )

    def _check_open(self) -> None:
        self._check_caller()
        if self._why_closed is not None:
            raise self._why_closed()


_ENOENT = 2
_MAX_ANSWERS = 1024
# The most characters of an error of the ipaddress module that are repeated: it quotes its argument.
_EXPLAINED = 80


def _parse_network(network: object) -> IPv4Network | IPv6Network:
    try:
        # The ipaddress module would also take numbers and bytes, which are mistakes here.
        if not isinstance(network, str | IPv4Network | IPv6Network):
            raise ValueError("it is not text")
        return ip_network(network)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{shown(network)} is not a network; write an address, '/' and a prefix length,"
            f" with no host bits set: {str(error)[:_EXPLAINED]}"
        ) from error


def _parse_address(address: object) -> IpAddress:
    try:
        if not isinstance(address, str | IPv4Address | IPv6Address):
            raise ValueError("it is not text")
        return ip_address(str(address).partition("%")[0])
    except ValueError as error:
        raise InvalidArgumentError(
            f"{shown(address)} is not an IP address: write one such as 10.0.0.1 or fd00::1"
        ) from error


def _is_mapped(address: IpAddress) -> bool:
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None
