"""A frame of a capture, and the supported link layers."""

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
"""The largest valid frame in bytes: four times the most that tcpdump captures."""


class Frame(NamedTuple):
    """A captured frame.

    Attributes:
        time: When it was captured, in nanoseconds since 1970.
        interface: The name of the interface, empty if not in the capture.
        link_type: The link layer, a LINKTYPE number of tcpdump.org.
        data: The captured bytes, beginning with the link layer.
        length: The length of the frame on the wire in bytes.
    """

    time: int
    interface: str
    link_type: int
    data: bytes
    length: int
