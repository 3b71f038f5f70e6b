"""Finding of the UDP datagram in a frame, through the link layer and IPv4 or IPv6."""

from __future__ import annotations

import enum
import functools
import socket
import struct
from typing import Final, NamedTuple

from knet_trio.cli.decode.frame import ETHERNET, LINUX_SLL, LINUX_SLL2, NULL, RAW_IP, Frame

_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_VLANS: Final = frozenset((0x8100, 0x88A8, 0x9100))
_MOST_TAGS: Final = 8

_UDP: Final = 17
_SCTP: Final = 132
_IPV4_SIZE: Final = 20
_IPV6_SIZE: Final = 40
_UDP_SIZE: Final = 8
# IPv6 headers that may precede UDP. All but the fragment header have a length field; that of the
# authentication header (51) has another unit.
_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_DESTINATION: Final = 60
_EXTENSIONS: Final = frozenset((_HOP_BY_HOP, _ROUTING, _AUTHENTICATION, _DESTINATION))
_MOST_EXTENSIONS: Final = 8

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_PORTS_AND_SIZE = struct.Struct(">HHH")


class UdpEnd(NamedTuple):
    """An address and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else ":".join((self.address, str(self.port)))
        )


class Other(enum.StrEnum):
    """The kind of a frame without a UDP datagram."""

    LINK_TYPE = "link layer not known"
    NOT_IP = "not IP"
    NOT_UDP = "not UDP"
    SCTP = "SCTP, which is not looked into"
    FRAGMENT = "fragments of IP packets, which are not put together"
    MALFORMED = "damaged or cut in the headers"


class Datagram(NamedTuple):
    """A UDP datagram, or a train of datagrams that the kernel has not split yet.

    Attributes:
        interface: The name of the interface, empty if not in the capture.
        source: The address and port of the sender.
        destination: The address and port of the receiver.
        payload: The captured bytes.
        size: The size of the payload on the wire, in bytes.
    """

    interface: str
    source: UdpEnd
    destination: UdpEnd
    payload: bytes
    size: int


def find_datagram(frame: Frame) -> Datagram | Other:
    """Return the datagram in ``frame``, or the kind of the frame; never raise."""
    data = frame.data
    try:
        return _find(frame, data)
    except (struct.error, IndexError):
        # The captured bytes end in a header.
        return Other.MALFORMED


def _find(frame: Frame, data: bytes) -> Datagram | Other:
    interface, kind = frame.interface, frame.link_type
    if kind == ETHERNET:
        start = 14
        (protocol,) = _U16.unpack_from(data, 12)
    elif kind == LINUX_SLL2:
        start = 20
        (protocol,) = _U16.unpack_from(data, 0)
        # The name "any" does not identify the interface.
        if not interface or interface == "any":
            interface = f"#{_U32.unpack_from(data, 4)[0]}"
    elif kind == LINUX_SLL:
        start = 16
        (protocol,) = _U16.unpack_from(data, 14)
    elif kind in RAW_IP:
        start, protocol = 0, _by_version(data[0])
    elif kind in NULL:
        # The numbers of address families and their byte order differ between systems.
        start, protocol = 4, _by_version(data[4])
    else:
        return Other.LINK_TYPE
    tags = 0
    while protocol in _VLANS and tags < _MOST_TAGS:
        (protocol,) = _U16.unpack_from(data, start + 2)
        start += 4
        tags += 1
    if protocol == _IPV4:
        return _find_in_ipv4(interface, data, start)
    if protocol == _IPV6:
        return _find_in_ipv6(interface, data, start)
    return Other.NOT_IP


def _name_other(protocol: int) -> Other:
    """Return the kind of a packet of another IP protocol than UDP."""
    return Other.SCTP if protocol == _SCTP else Other.NOT_UDP


def _by_version(first: int) -> int:
    return {4: _IPV4, 6: _IPV6}.get(first >> 4, 0)


def _find_in_ipv4(interface: str, data: bytes, start: int) -> Datagram | Other:
    first = data[start]
    header = (first & 0xF) * 4
    if first >> 4 != 4 or header < _IPV4_SIZE:
        return Other.MALFORMED
    if data[start + 9] != _UDP:
        return _name_other(data[start + 9])
    (total,) = _U16.unpack_from(data, start + 2)
    # More fragments, or an offset; the flag "don't fragment" is ignored.
    if _U16.unpack_from(data, start + 6)[0] & 0x3FFF:
        return Other.FRAGMENT
    ends = data[start + 12 : start + 20]
    # A length of 0 stands for a train that is longer than the field allows.
    size = total - header if total else len(data) - start - header
    return _read_udp(interface, data, start + header, size, ends[:4], ends[4:])


def _find_in_ipv6(interface: str, data: bytes, start: int) -> Datagram | Other:
    if data[start] >> 4 != 6:
        return Other.MALFORMED
    (total,) = _U16.unpack_from(data, start + 4)
    following = data[start + 6]
    ends = data[start + 8 : start + _IPV6_SIZE]
    place = start + _IPV6_SIZE
    end = place + total if total else len(data)
    extensions = 0
    while following in _EXTENSIONS and extensions < _MOST_EXTENSIONS:
        size = data[place + 1]
        length = (size + 2) * 4 if following == _AUTHENTICATION else (size + 1) * 8
        following = data[place]
        place += length
        extensions += 1
    if following == _FRAGMENT:
        return Other.FRAGMENT if data[place] == _UDP else _name_other(data[place])
    if following != _UDP:
        return _name_other(following)
    return _read_udp(interface, data, place, end - place, ends[:16], ends[16:])


def _read_udp(
    interface: str, data: bytes, start: int, room: int, source: bytes, destination: bytes
) -> Datagram | Other:
    """Read the UDP header at ``start``; ``room`` is the size of the IP payload in bytes."""
    source_port, destination_port, size = _PORTS_AND_SIZE.unpack_from(data, start)
    # As above, 0 stands for a length that does not fit into the field.
    size = size or room
    if not _UDP_SIZE <= size <= room or start + _UDP_SIZE > len(data):
        return Other.MALFORMED
    return Datagram(
        interface,
        _udp_end(source, source_port),
        _udp_end(destination, destination_port),
        data[start + _UDP_SIZE : start + size],
        size - _UDP_SIZE,
    )


@functools.lru_cache(maxsize=4096)
def _udp_end(address: bytes, port: int) -> UdpEnd:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return UdpEnd(socket.inet_ntop(family, address), port)
