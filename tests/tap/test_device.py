"""Making a tap device, what it has then, and what is said if it cannot be made."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Generator
from ipaddress import ip_interface

import pytest
import trio

from knet_trio import BusyError, InvalidArgumentError
from knet_trio.tap import TapError, _system, make_mac, open_tap
from tests.cluster import PATIENCE
from tests.tap.ethernet import (
    DEVICE,
    ETH_P_EXPERIMENT,
    Places,
    experiment,
    mac,
    open_places,
)

with_taps = pytest.mark.usefixtures("taps")


@pytest.fixture
def places(taps: None) -> Generator[Places]:
    with open_places() as places:
        yield places


@with_taps
async def test_it_has_what_was_asked_for_and_goes_with_the_block(places: Places) -> None:
    addresses = ("10.88.0.1/24", ip_interface("fd88::1/64"))
    with places.inside(0):
        async with open_tap(DEVICE, address=addresses, mac=make_mac(0x1234), mtu=1400) as tap:
            said = places.ip(0, "-oneline", "address", "show", DEVICE)
            assert "inet 10.88.0.1/24 brd 10.88.0.255 scope global" in said
            # It can be used at once.
            assert "inet6 fd88::1/64 scope global nodad" in said
            assert tap.addresses == (ip_interface("10.88.0.1/24"), ip_interface("fd88::1/64"))
            said = places.ip(0, "-oneline", "link", "show", DEVICE)
            assert f"link/ether {tap.mac} " in said
            assert f"mtu {tap.mtu} " in said
            assert ",UP," in said
            assert (tap.mac, tap.mtu, tap.name) == ("02:6b:6e:00:12:34", 1400, DEVICE)
            assert repr(tap) == f"<Tap {DEVICE}>"
    assert DEVICE not in places.ip(0, "-oneline", "link", "show")
    assert repr(tap) == "<Tap closed>"
    for call in (tap.fileno, lambda: tap.mtu, lambda: tap.set_mtu(1500), lambda: tap.name):
        with pytest.raises(trio.ClosedResourceError, match="this tap device was closed"):
            call()


@with_taps
async def test_the_mtu_is_set_from_anywhere_and_whatever_the_device_is_called(
    places: Places,
) -> None:
    with places.inside(0):
        opening = open_tap(DEVICE)
        tap = await opening.__aenter__()
    try:
        assert tap.mtu == 1280
        places.ip(0, "link", "set", DEVICE, "name", "other")
        tap.set_mtu(9000)
        assert " mtu 9000 " in places.ip(0, "-oneline", "link", "show", "other")
        assert (tap.name, tap.mtu) == ("other", 9000)
    finally:
        await opening.__aexit__(None, None, None)
    assert "other" not in places.ip(0, "-oneline", "link", "show")


@with_taps
async def test_a_name_that_is_taken_is_said(places: Places) -> None:
    with places.inside(0):
        async with open_tap(DEVICE):
            with pytest.raises(BusyError, match=f"{DEVICE} exists already: give another"):
                async with open_tap(DEVICE):
                    raise AssertionError("there are two")
        # One that an administrator has made is left alone.
        places.ip(0, "tuntap", "add", "dev", DEVICE, "mode", "tap")
        with pytest.raises(BusyError, match=f"ip link delete {DEVICE}"):
            async with open_tap(DEVICE):
                raise AssertionError("it was taken over")


@with_taps
@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM])
async def test_what_the_system_refuses_is_said_with_what_to_do(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str, *, new: bool) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("knet_trio.tap.device.attach_tap", refuse)
    right = number in (errno.EACCES, errno.EPERM)
    with pytest.raises(TapError, match="CAP_NET_ADMIN" if right else "modprobe tun") as caught:
        async with open_tap(DEVICE):
            raise AssertionError("there is one")
    assert caught.value.errno == number
    assert f"cannot make the tap device {DEVICE}: {os.strerror(number)}" in str(caught.value)


@with_taps
async def test_there_is_no_device_if_it_cannot_get_what_it_has_to_have(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with places.inside(0):
        with pytest.raises(TapError, match=r"cannot give knet0 the address 10\.88\.0\.1/24: File"):
            async with open_tap(DEVICE, address=["10.88.0.1/24", "10.88.0.1/24"]):
                raise AssertionError("it has one address twice")
        assert DEVICE not in places.ip(0, "-oneline", "link", "show")


@with_taps
async def test_a_device_without_ipv6_is_said(places: Places) -> None:
    places.run(0, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    with places.inside(0), pytest.raises(TapError, match="IPv6 has to be on, see `sysctl net"):
        async with open_tap(DEVICE, address="fd88::1/64"):
            raise AssertionError("it has the address")


@with_taps
async def test_no_more_frames_are_read_than_asked_for(places: Places) -> None:
    with places.inside(0):
        async with open_tap(DEVICE) as tap:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            with sock:
                sock.bind((DEVICE, ETH_P_EXPERIMENT))
                for number in range(100):
                    sock.send(experiment(mac(1), mac(0), b"%d" % number))
                sent = [experiment(mac(1), mac(0), b"%d" % number) for number in range(100)]
                with trio.fail_after(PATIENCE):
                    read: list[bytes] = []
                    while len(read) < 20:
                        await tap.wait_readable()
                        part = tap.read_frames(7, 100_000)
                        assert 1 <= len(part) <= 7
                        read += [frame for frame in part if frame in sent]
                    # The byte that is one too many ends it.
                    part = tap.read_frames(100, 121)
                    assert len(part) <= 3
                    read += [frame for frame in part if frame in sent]
                    while len(read) < 100:
                        await tap.wait_readable()
                        part = tap.read_frames(100, 100_000)
                        read += [frame for frame in part if frame in sent]
                assert read == sent


@with_taps
async def test_frames_are_read_and_written(places: Places) -> None:
    with places.inside(0):
        async with open_tap(DEVICE) as tap:
            for frame, taken in ((experiment(b"\xff" * 6, mac(5)), True), (b"short", False)):
                assert tap.write_frame(frame) is taken
            places.ip(0, "link", "set", DEVICE, "down")
            assert not tap.write_frame(experiment(b"\xff" * 6, mac(5)))
            statistics = tap.statistics()
            counts = statistics.written, statistics.malformed, statistics.refused
            assert counts == (1, 1, 1)
            places.ip(0, "link", "delete", DEVICE)
            with trio.fail_after(10):
                await tap.wait_readable()
            with pytest.raises(TapError, match="somebody has deleted the tap device"):
                tap.read_frames(1, 1)
            with pytest.raises(TapError, match="somebody has deleted the tap device"):
                tap.write_frame(experiment(b"\xff" * 6, mac(5)))
            assert repr(tap) == "<Tap deleted>"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a-name-too-long-x", "has 17 bytes: give at most 15"),
        ("ß" * 8, "has 16 bytes"),
        ("", "1 to 15 bytes"),
        ("a b", "without spaces"),
        ("a/b", "slashes"),
        ("a:b", "colons"),
        ("knet%d", "percent signs"),
        ("a\0b", "is not a name"),
        (".", "is not a name"),
        (7, "is text, not 7"),
    ],
)
def test_names_that_no_device_has(name: str, error: str) -> None:
    with pytest.raises(InvalidArgumentError, match=error):
        open_tap(name)


@pytest.mark.parametrize(
    "address",
    ["10.88.0.1", "10.88.0.300/24", "10.88.0.1/33", "alpha/24", "", "224.0.0.1/24", "ff02::1/64"],
)
def test_addresses_that_no_device_has(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"10\.99\.0\.1/24|no device can have"):
        open_tap(DEVICE, address=address)


@pytest.mark.parametrize("address", [7, b"10.88.0.1/24", [None]])
def test_what_is_no_address_at_all(address: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'10\.99\.0\.1/24'"):
        open_tap(DEVICE, address=address)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("02:00:00:00:00", "not an Ethernet address: give one"),
        ("02-00-00-00-00-01", "not an Ethernet address: give one"),
        ("0200:00:00:00:01", "not an Ethernet address: give one"),
        ("02:00:00:00:00:0g", "not an Ethernet address: give one"),
        ("ff:ff:ff:ff:ff:ff", "is a group address"),
        ("01:00:5e:00:00:01", "is a group address"),
        ("0:0:0:0:0:0", "is the zero address"),
    ],
)
def test_ethernet_addresses_that_no_device_has(address: str, error: str) -> None:
    with pytest.raises(InvalidArgumentError, match=error):
        open_tap(DEVICE, mac=address)


@pytest.mark.parametrize("mtu", [67, 65501, -1, True, 1400.0, "1400", None])
def test_mtus_that_no_device_has(mtu: int) -> None:
    with pytest.raises(InvalidArgumentError, match="from 68 to 65500 bytes"):
        open_tap(DEVICE, mtu=mtu)


def test_ipv6_needs_an_mtu() -> None:
    with pytest.raises(InvalidArgumentError, match="give 1280 or more"):
        open_tap(DEVICE, address="fd88::1/64", mtu=1279)


def test_each_host_has_an_ethernet_address_of_its_own() -> None:
    assert [make_mac(host_id) for host_id in (0, 1, 65535)] == [
        "02:6b:6e:00:00:00",
        "02:6b:6e:00:00:01",
        "02:6b:6e:00:ff:ff",
    ]
    for host_id in (-1, 65536, True):
        with pytest.raises(InvalidArgumentError, match="from 0 to 65535"):
            make_mac(host_id)


@pytest.mark.parametrize("kind", [2, 3])
def test_the_kernels_answer_is_looked_at(kind: int) -> None:
    answer = struct.pack("IHHIIi", 20, kind, 0, 1, 0, -errno.EPERM)
    with pytest.raises(OSError, match="netlink" if kind == 3 else "not permitted"):
        _system.check_answer(answer)
