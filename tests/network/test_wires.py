"""The harness: damage that a checksum does not show, and nothing that is left behind."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence
from typing import Final

import pytest
import trio

from tests.network.frames import ETHERNET, find_datagram, flip_bit
from tests.network.wires import RelayDiedError, open_wires

LIMIT: Final = 20.0
# Ethernet, and as much of the IP headers as matters here.
IPV4: Final = bytes(12) + b"\x08\x00" + b"\x45" + bytes(8) + b"\x11" + bytes(2) + bytes(range(8))
IPV6: Final = bytes(12) + b"\x86\xdd" + b"\x60" + bytes(5) + b"\x11\x40" + bytes(range(32))


def checksum(data: bytes) -> int:
    """RFC 1071, of what may have an odd length."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@pytest.mark.parametrize("header", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("size", [1, 2, 31, 1000])
def test_damage_has_the_right_checksum(header: bytes, size: int) -> None:
    chance = random.Random(size)
    # The addresses are part of what is summed up: they are the same before and after.
    payload = chance.randbytes(size)
    ports = struct.pack("!HHH", 5405, 5405, 8 + size)
    summed = header[ETHERNET + 12 :] + ports
    right = checksum(summed + b"\0\0" + payload)
    frame = header + ports + struct.pack("!H", right) + payload
    datagram = find_datagram(frame)
    assert datagram is not None
    for _ in range(100):
        damaged = flip_bit(frame, datagram, chance)
        payload = damaged[datagram.payload :]
        before, after = (int.from_bytes(one[datagram.payload :]) for one in (frame, damaged))
        assert (before ^ after).bit_count() == 1
        assert damaged[: datagram.payload - 2] == frame[: datagram.payload - 2]
        # With the sum in its place all of it sums up to nothing.
        assert checksum(damaged[ETHERNET + 12 :]) == 0


def test_what_is_no_datagram_is_let_pass() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    tcp = IPV4[: ETHERNET + 9] + b"\x06" + IPV4[ETHERNET + 10 :] + bytes(20)
    fragment = bytearray(IPV4 + bytes(20))
    fragment[ETHERNET + 6] = 0x20
    for frame in (arp, tcp, bytes(fragment)):
        assert find_datagram(frame) is None


def exist(names: Sequence[str]) -> list[bool]:
    """Whether there are namespaces of these names."""
    return [os.path.exists(f"/run/netns/{name}") for name in names]


async def test_nothing_is_left_of_what_fails() -> None:
    names: Sequence[str] = ()
    pid = 0
    with trio.fail_after(LIMIT):
        with pytest.raises(RuntimeError, match="on purpose"):
            async with open_wires(2) as wires:
                names = wires.namespaces.names
                assert exist(names) == [True, True]
                pid = wires.pid
                raise RuntimeError("on purpose")
    assert exist(names) == [False, False]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_the_relay_says_last_is_told() -> None:
    with trio.fail_after(LIMIT):
        async with open_wires() as wires:
            with pytest.raises(RelayDiedError, match="IndexError"):
                await wires.treat(1)
            with pytest.raises(RelayDiedError):
                await wires.mend()
