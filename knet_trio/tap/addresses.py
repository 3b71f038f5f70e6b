"""The table of Ethernet addresses by host, as a bridge has by port; without I/O and clock."""

from __future__ import annotations

from typing import Final, final

from knet_trio import InvalidArgumentError

MAX_AGE: Final = 300.0
"""Seconds after which a silent address is forgotten; the default of bridges."""

MAX_ADDRESSES: Final = 1024
"""The largest number of addresses of one host."""

ADDRESS_LENGTH: Final = 6
"""The size of an Ethernet address [bytes]."""

HEADER_LENGTH: Final = 14
"""The size of a frame's header: destination, source and type [bytes]."""

_GROUP: Final = 1
_NOBODY: Final = bytes(ADDRESS_LENGTH)


def is_group(address: bytes) -> bool:
    """Return whether an Ethernet address is a group address, such as the broadcast address.

    Args:
        address: The address, 6 bytes.
    """
    return bool(address[0] & _GROUP)


@final
class AddressTable:
    """The Ethernet addresses behind each host, learnt from the frames that the hosts send.

    An address belongs to the host where it was seen last. A host's oldest address makes room for
    one too many, so that no host can displace the addresses of another. Group addresses are never
    learnt.

    Args:
        max_age: The time after which an address is forgotten unless it is seen again [seconds].
        max_addresses: The largest number of addresses of one host.

    Raises:
        InvalidArgumentError: One of the arguments is not above zero.
    """

    __slots__ = ("_hosts", "_max_addresses", "_max_age", "_seen")

    def __init__(self, *, max_age: float = MAX_AGE, max_addresses: int = MAX_ADDRESSES) -> None:
        if not max_age > 0 or not max_addresses > 0:
            raise InvalidArgumentError(
                f"max_age {max_age} and max_addresses {max_addresses} are not valid: give numbers"
                " above zero"
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
            address: The source address of the frame, 6 bytes.
            host_id: The id of the host that sent it.
            now: The time [seconds], never less than in the call before.
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
        """Return the host that has an address.

        Args:
            address: The destination address of a frame, 6 bytes.
            now: The time [seconds], never less than in the call before.

        Returns:
            The id of the host; None if the address is unknown or was forgotten.
        """
        host_id = self._hosts.get(address)
        if host_id is None:
            return None
        if now - self._seen[host_id][address] >= self._max_age:
            self._remove(address, host_id)
            return None
        return host_id

    def forget(self, address: bytes) -> None:
        """Forget an address, which has moved to this host.

        Args:
            address: The address, 6 bytes.
        """
        host_id = self._hosts.get(address)
        if host_id is not None:
            self._remove(address, host_id)

    def forget_host(self, host_id: int) -> None:
        """Forget all addresses of a host that is unreachable or was removed.

        Args:
            host_id: The id of the host.
        """
        for address in self._seen.pop(host_id, ()):
            del self._hosts[address]

    def get_addresses(self, host_id: int, now: float) -> tuple[bytes, ...]:
        """Return the addresses of a host, the one seen last at the end.

        Args:
            host_id: The id of the host.
            now: The time [seconds].
        """
        seen = self._seen.get(host_id, {})
        return tuple(address for address, at in seen.items() if now - at < self._max_age)

    def _remove(self, address: bytes, host_id: int) -> None:
        del self._hosts[address]
        seen = self._seen[host_id]
        del seen[address]
        if not seen:
            del self._seen[host_id]
