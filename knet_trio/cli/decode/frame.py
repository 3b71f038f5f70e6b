"""A frame of a capture, and the kinds of link layer that are understood."""

from __future__ import annotations

from typing import Final, NamedTuple

ETHERNET: Final = 1
"""LINKTYPE_ETHERNET."""
RAW_IP: Final = frozenset((12, 14, 101, 228, 229))
"""LINKTYPE_RAW, two older numbers of it, LINKTYPE_IPV4 and LINKTYPE_IPV6."""
NULL: Final = frozenset((0, 108))
"""LINKTYPE_NULL and LINKTYPE_LOOP: four bytes of address family before the packet."""
LINUX_SLL: Final = 113
"""LINKTYPE_LINUX_SLL, of ``tcpdump -i any`` before 4.99."""
LINUX_SLL2: Final = 276
"""LINKTYPE_LINUX_SLL2, of ``tcpdump -i any``."""

LARGEST_FRAME: Final = 1 << 20
"""The most bytes of a frame that are believed: four times the most that tcpdump captures."""


class Frame(NamedTuple):
    """One captured frame.

    Attributes:
        time: When it was captured, in nanoseconds since 1970.
        interface: The name of the interface, empty if the capture does not say.
        link_type: The kind of link layer, a LINKTYPE number of tcpdump.org.
        data: What was captured of it, from the link layer on.
        length: The bytes that it had.
    """

    time: int
    interface: str
    link_type: int
    data: bytes
    length: int
