"""Which host has which Ethernet address: what a bridge knows of its ports, without I/O or clock."""

from __future__ import annotations

from typing import Final, final

from knet_trio import InvalidArgumentError

MAX_AGE: Final = 300.0
"""Seconds after which an address that sends nothing is forgotten, as bridges have it."""

MAX_ADDRESSES: Final = 1024
"""How many addresses one host may have at a time."""

ADDRESS_LENGTH: Final = 6
"""The bytes of an Ethernet address."""

HEADER_LENGTH: Final = 14
"""The bytes of a frame before what it carries: destination, source, and type."""

_GROUP: Final = 1
_NOBODY: Final = bytes(ADDRESS_LENGTH)


def is_group(address: bytes) -> bool:
    """Return whether an Ethernet address is that of a group, as the broadcast address is."""
    return bool(address[0] & _GROUP)


@final
class AddressTable:
    """The Ethernet addresses behind each host, learnt from the frames that the hosts send.

    An address is at one host at a time: where it was seen last. Each host has room for a fixed
    number; one more takes the place of that host's own oldest, so that no host pushes out the
    addresses of another. Addresses of groups are never learnt.

    Args:
        max_age: Seconds after which an address that was not seen again is forgotten.
        max_addresses: How many addresses a host may have.

    Raises:
        InvalidArgumentError: One of the two is not above zero.
    """

    __slots__ = ("_hosts", "_max_addresses", "_max_age", "_seen")

    def __init__(self, *, max_age: float = MAX_AGE, max_addresses: int = MAX_ADDRESSES) -> None:
        if not max_age > 0 or not max_addresses > 0:
            raise InvalidArgumentError(
                f"a table of {max_addresses} addresses that are known for {max_age} seconds knows"
                " none: both have to be above zero"
            )
        self._max_age = max_age
        self._max_addresses = max_addresses
        self._hosts: dict[bytes, int] = {}
        # When each address of a host was seen last, the oldest first.
        self._seen: dict[int, dict[bytes, float]] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def learn(self, address: bytes, host_id: int, now: float) -> None:
        """Note that a host has sent a frame from an address.

        Args:
            address: The source of the frame, 6 bytes.
            host_id: The host that it came from.
            now: The time in seconds, never less than in the call before.
        """
        if address[0] & _GROUP or address == _NOBODY:
            return
        known = self._hosts.get(address)
        if known == host_id:
            seen = self._seen[host_id]
            del seen[address]
        else:
            if known is not None:
                self._remove(address, known)
            seen = self._seen.setdefault(host_id, {})
            if len(seen) >= self._max_addresses:
                oldest = next(iter(seen))
                del seen[oldest], self._hosts[oldest]
            self._hosts[address] = host_id
        seen[address] = now

    def find(self, address: bytes, now: float) -> int | None:
        """Return the host that has an address, None if it is not known (any more).

        Args:
            address: The destination of a frame, 6 bytes.
            now: The time in seconds, never less than in the call before.
        """
        host_id = self._hosts.get(address)
        if host_id is None:
            return None
        if now - self._seen[host_id][address] >= self._max_age:
            self._remove(address, host_id)
            return None
        return host_id

    def forget(self, address: bytes) -> None:
        """Forget an address: it is at no other host, but here."""
        host_id = self._hosts.get(address)
        if host_id is not None:
            self._remove(address, host_id)

    def forget_host(self, host_id: int) -> None:
        """Forget all addresses of a host, which cannot be reached or is gone."""
        for address in self._seen.pop(host_id, ()):
            del self._hosts[address]

    def get_addresses(self, host_id: int, now: float) -> tuple[bytes, ...]:
        """Return the addresses that a host has, the one that was seen last at the end."""
        seen = self._seen.get(host_id, {})
        return tuple(address for address, at in seen.items() if now - at < self._max_age)

    def _remove(self, address: bytes, host_id: int) -> None:
        del self._hosts[address]
        seen = self._seen[host_id]
        del seen[address]
        if not seen:
            del self._seen[host_id]
