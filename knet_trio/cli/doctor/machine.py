"""The network interfaces of this machine, and its processor time. Linux only."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from knet_trio.cli.preflight.machine import list_cards

# Source: linux/sockios.h, linux/if.h.
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 1
_IFREQ: Final = struct.Struct("16sH22x")
_STAT: Final = Path("/proc/stat")
# The columns of /proc/stat that add up to all time; the eighth is steal. See man 5 proc.
_COLUMNS: Final = 8


@attrs.frozen
class NetworkCard:
    """A network interface.

    Attributes:
        name: The name, such as ``eth0``.
        is_up: True if it is up, as ``ip link set up`` makes it.
    """

    name: str
    is_up: bool


def list_interfaces(pid: int) -> Mapping[str, NetworkCard]:
    """Return the interfaces that have an address, by address.

    Args:
        pid: The process that has the links. If it is in another network namespace than this one, or
            that is not known, nothing is returned.
    """
    try:
        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return {}
        names = dict(socket.if_nameindex())
        return {
            address: NetworkCard(names[number], _is_up(names[number]))
            for address, numbers in list_cards().items()
            for number in numbers
            if number in names
        }
    except OSError:
        # The process belongs to another user, or an interface has gone meanwhile.
        return {}


def _is_up(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(os.fsencode(name), 0))
    return bool(_IFREQ.unpack(answer)[1] & _IFF_UP)


def read_steal() -> tuple[int, int]:
    """Return the processor time that the host of this virtual machine took, and all time.

    Returns:
        Both since the start, in the same unit; zeros if the system does not report them.
    """
    try:
        _, *columns = _STAT.read_text().partition("\n")[0].split()
        times = [int(column) for column in columns[:_COLUMNS]]
    except (OSError, ValueError):
        return 0, 0
    return (times[-1], sum(times)) if len(times) == _COLUMNS else (0, 0)


def share_of_steal(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the share of the processor time between two results of ``read_steal``."""
    return (after[0] - before[0]) / max(1, after[1] - before[1])
