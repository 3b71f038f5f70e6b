"""The names by which a socket knows interfaces, while those come, go and are renamed."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from knet_trio._transport.interfaces import Interfaces, is_local
from knet_trio.address import Address


class Machine:
    """The interfaces of a machine, by their indexes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[int, str] = {}
        monkeypatch.setattr(socket, "if_nametoindex", self.find_index)
        monkeypatch.setattr(socket, "if_indextoname", self.find_name)

    def find_index(self, name: str) -> int:
        for index, known in self.names.items():
            if known == name:
                return index
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def find_name(self, index: int) -> str:
        if index in self.names:
            return self.names[index]
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_renamed_one_is_known_by_its_index(machine: Machine) -> None:
    interfaces = Interfaces()
    machine.names = {2: "e0"}
    assert interfaces.find_index("e0") == 2
    machine.names = {2: "lan0"}
    assert interfaces.find_index("e0") == 2
    assert interfaces.from_kernel(("fe80::1", 5405, 0, 2)) == Address("fe80::1%e0", 5405)


def test_another_one_that_takes_the_name_is_another_one(machine: Machine) -> None:
    interfaces = Interfaces()
    machine.names = {2: "e0", 3: "e1"}
    assert interfaces.find_index("e0") == 2
    machine.names = {2: "lan0", 3: "e0"}
    assert interfaces.find_index("e0") == 2
    assert interfaces.from_kernel(("fe80::1", 5405, 0, 2)) == Address("fe80::1%e0", 5405)


def test_one_that_is_gone_makes_room_for_the_next_of_its_name(machine: Machine) -> None:
    interfaces = Interfaces()
    machine.names = {2: "e0"}
    assert interfaces.find_index("e0") == 2
    machine.names = {}
    with pytest.raises(OSError, match="No such device"):
        interfaces.find_index("e0")
    machine.names = {7: "e0"}
    assert interfaces.find_index("e0") == 7
    assert interfaces.to_kernel(Address("fe80::1%e0", 5405)) == ("fe80::1", 5405, 0, 7)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        # What came before the interface was renamed, and what the kernel's index stands for.
        ("fe80::1%gone0", False),
        ("fe80::1%999", False),
    ],
)
def test_which_addresses_are_of_this_machine(host: str, answer: bool) -> None:
    assert is_local(host) is answer
