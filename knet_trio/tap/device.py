"""The tap device: a network device whose frames a program reads and writes."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, TypeAlias, final

import attrs
import trio

from knet_trio import BusyError, InvalidArgumentError
from knet_trio._devices import Interface, check_device_name, parse_mac
from knet_trio.errors import is_integer, shown
from knet_trio.tap import _system
from knet_trio.tap._arguments import DEFAULT_MTU, check_mtu, parse_interfaces
from knet_trio.tap._counts import TapCounts
from knet_trio.tap.addresses import HEADER_LENGTH
from knet_trio.tap.errors import TapError

MAX_FRAME: Final = 65536
"""The bytes of the longest frame: a message of a channel has no more."""

InterfaceLike: TypeAlias = str | IPv4Interface | IPv6Interface
"""An IP address with a prefix length, such as ``10.99.0.1/24``."""

# Locally administered; what follows is "kn", and what fills it up.
_MAC_PREFIX: Final = b"\x02\x6b\x6e\x00"
_NO_RIGHT: Final = "it takes CAP_NET_ADMIN: run as root, or give the program that capability"


@attrs.frozen
class TapStatistics:
    """What became of the frames of a tap, each count from the opening of the device on.

    Attributes:
        read: Frames that came out of the device.
        written: Frames of other hosts that the device took.
        to_all: Frames, of those read, that went to all hosts: to groups and unknown addresses.
        no_host: Frames that went nowhere, since no host could be reached or theirs was removed.
        queue_full: Frames that a host did not get, since too many waited for it; one that goes to
            several hosts counts for each.
        refused: Frames of other hosts that the device refused, since it was down or had no room.
        malformed: Frames, of either way, that are too short or too long to be one.
    """

    read: int
    written: int
    to_all: int
    no_host: int
    queue_full: int
    refused: int
    malformed: int


@final
class Tap:
    """A network device that carries frames of this program. ``open_tap`` makes it.

    ``carry_frames`` joins it to those of other hosts.
    """

    __slots__ = ("__weakref__", "_addresses", "_control", "_counts", "_fd")

    def __init__(self, fd: int, control: socket.socket, addresses: tuple[Interface, ...]) -> None:
        self._fd = fd
        self._control = control
        self._addresses = addresses
        self._counts = TapCounts()

    def __repr__(self) -> str:
        if self._fd < 0:
            return "<Tap closed>"
        try:
            return f"<Tap {self.name}>"
        except TapError:
            return "<Tap deleted>"

    @property
    def name(self) -> str:
        """What the device is called: it may have been renamed."""
        fd = self.fileno()
        with _refusing("cannot ask for the name of the tap device"):
            return _system.read_name(fd)

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """The IP addresses that it was opened with."""
        return self._addresses

    @property
    def mac(self) -> str:
        """The Ethernet address that it has now, such as ``02:00:00:00:00:01``."""
        name = self.name
        with _refusing(f"cannot ask for the Ethernet address of {name}"):
            return _system.read_mac(self._control, name).hex(":")

    @property
    def mtu(self) -> int:
        """The MTU that it has now, in bytes."""
        name = self.name
        with _refusing(f"cannot ask for the MTU of {name}"):
            return _system.read_mtu(self._control, name)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU.

        With less than 1280, the kernel takes the IPv6 addresses of the device away.

        Args:
            mtu: 68 to 65500 bytes.

        Raises:
            InvalidArgumentError: ``mtu`` is out of that range.
            TapError: The system refuses it.
            trio.ClosedResourceError: The device was closed.
        """
        check_mtu(mtu)
        name = self.name
        with _refusing(f"cannot set the MTU of {name} to {mtu}"):
            _system.write_mtu(self._control, name, mtu)

    def fileno(self) -> int:
        """Return the descriptor of the device: a frame each read and each write, never waiting.

        Raises:
            trio.ClosedResourceError: The device was closed.
        """
        if self._fd < 0:
            raise trio.ClosedResourceError("this tap device was closed")
        return self._fd

    def statistics(self) -> TapStatistics:
        """Return what became of its frames."""
        return TapStatistics(**attrs.asdict(self._counts))

    async def wait_readable(self) -> None:
        """Wait until there are frames to be read.

        Raises:
            trio.ClosedResourceError: The device was closed, before or meanwhile.
        """
        await trio.lowlevel.wait_readable(self.fileno())

    def read_frames(self, limit: int, limit_bytes: int) -> list[bytes]:
        """Return the frames that the system has for the device, none if there are none.

        Args:
            limit: How many to take at most.
            limit_bytes: No more are taken once there are so many bytes.

        Raises:
            TapError: The device was deleted.
            trio.ClosedResourceError: The device was closed.
        """
        fd = self.fileno()
        frames: list[bytes] = []
        counts = self._counts
        with _refusing("cannot read the frames of the tap device"):
            for _ in range(limit):
                try:
                    # One byte more tells the frames that would be cut off.
                    frame = os.read(fd, MAX_FRAME + 1)
                except BlockingIOError:
                    break
                length = len(frame)
                if HEADER_LENGTH <= length <= MAX_FRAME:
                    frames.append(frame)
                else:
                    counts.malformed += 1
                limit_bytes -= length
                if limit_bytes <= 0:
                    break
        counts.read += len(frames)
        return frames

    def write_frame(self, frame: bytes) -> bool:
        """Give the system a frame as if the device had received it; return whether it took it.

        One that it does not take, since the device is down or has no room, is counted and lost, as
        on a network.

        Raises:
            TapError: The device was deleted.
            trio.ClosedResourceError: The device was closed.
        """
        try:
            os.write(self.fileno(), frame)
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise _deleted(error) from error
            if error.errno == errno.EINVAL:
                self._counts.malformed += 1
            else:
                self._counts.refused += 1
            return False
        self._counts.written += 1
        return True

    @property
    def counts(self) -> TapCounts:
        """What ``statistics`` tells, for what carries the frames to count in."""
        return self._counts

    async def aclose(self) -> None:
        """Remove the device, as the end of the block of ``open_tap`` does.

        Whoever waits for frames of it gets ``trio.ClosedResourceError``.
        """
        fd, self._fd = self._fd, -1
        self._control.close()
        if fd < 0:
            await trio.lowlevel.checkpoint()
            return
        trio.lowlevel.notify_closing(fd)
        with trio.CancelScope(shield=True):
            # The system takes some 30 ms for it.
            await trio.to_thread.run_sync(os.close, fd)


def open_tap(
    name: str,
    *,
    address: InterfaceLike | Iterable[InterfaceLike] | None = None,
    mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> AbstractAsyncContextManager[Tap]:
    """Make a tap device, which is there, and up, as long as the block lasts.

    ::

        async with open_tap("knet0", address="10.99.0.1/24") as tap:
            ...

    It is made in the network namespace of the thread. That takes the right to set up networks
    (CAP_NET_ADMIN), which root has.

    Args:
        name: What the device is called, 1 to 15 bytes; there must be no other one of that name.
        address: Its IP address with the prefix length, or several.
        mac: Its Ethernet address; None for one of the system's choice. ``make_mac`` makes one.
        mtu: Its MTU in bytes, until ``carry_frames`` knows what fits.

    Raises:
        InvalidArgumentError: An argument is none of that kind.
        BusyError: There is a network device of that name.
        TapError: The system refuses it.
    """
    check_device_name(name)
    interfaces = parse_interfaces(address)
    packed = None if mac is None else parse_mac(mac)
    check_mtu(mtu)
    if mtu < DEFAULT_MTU and any(interface.version == 6 for interface in interfaces):
        raise InvalidArgumentError(
            f"IPv6 does not work with an MTU of {mtu}: make it {DEFAULT_MTU} or more"
        )
    return _open_tap(name, interfaces, packed, mtu)


@asynccontextmanager
async def _open_tap(
    name: str,
    interfaces: tuple[Interface, ...],
    mac: bytes | None,
    mtu: int,
) -> AsyncGenerator[Tap, None]:
    await trio.lowlevel.checkpoint()
    with _refusing(f"cannot set up the tap device {name}"):
        control = _system.open_control()
    try:
        tap = Tap(_make_device(name), control, interfaces)
    except BaseException:
        control.close()
        raise
    try:
        if mac is not None:
            with _refusing(f"cannot give {name} the Ethernet address {mac.hex(':')}"):
                _system.write_mac(control, name, mac)
        tap.set_mtu(mtu)
        for interface in interfaces:
            with _refusing(f"cannot give {name} the address {interface}", _advise(interface)):
                _system.add_address(control, name, interface)
        with _refusing(f"cannot take {name} up"):
            _system.bring_up(control, name)
        yield tap
    finally:
        await tap.aclose()


def _make_device(name: str) -> int:
    try:
        return _system.make_device(name)
    except OSError as error:
        doing = f"cannot make the tap device {name}"
        if error.errno == errno.EBUSY:
            raise BusyError(
                f"there is a network device {name} already: give another name, or remove it with"
                f" `ip link delete {name}`"
            ) from error
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            advice = (
                f"{_system.TUN_DEVICE} is not there: load the kernel's module by `modprobe tun`; a"
                " container has to be given the device"
            )
            raise TapError.from_os_error(doing, error, advice) from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise TapError.from_os_error(doing, error, _NO_RIGHT) from error
        raise TapError.from_os_error(doing, error) from error


def _advise(interface: Interface) -> str:
    """Return what to do where the system does not let a device have that address."""
    if interface.version == 6:
        return "IPv6 has to be on, see `sysctl net.ipv6.conf.default.disable_ipv6`"
    return _NO_RIGHT


def make_mac(host_id: int) -> str:
    """Return an Ethernet address for the device of a host, each host's its own.

    With an address that stays the same, other machines need not learn a new one when this program
    has started again.

    Raises:
        InvalidArgumentError: ``host_id`` is not 0 to 65535.
    """
    if not is_integer(host_id) or not 0 <= host_id <= 0xFFFF:
        raise InvalidArgumentError(f"host id {shown(host_id)} is not 0 to 65535")
    return (_MAC_PREFIX + host_id.to_bytes(2, "big")).hex(":")


@contextmanager
def _refusing(doing: str, advice: str = _NO_RIGHT) -> Generator[None, None, None]:
    """Turn what the system refuses into a TapError, with ``advice`` if it does not permit it."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EBADFD:
            raise _deleted(error) from error
        forbidden = error.errno in (errno.EPERM, errno.EACCES)
        raise TapError.from_os_error(doing, error, advice if forbidden else "") from error


def _deleted(error: OSError) -> TapError:
    return TapError("somebody has deleted the tap device", errno=error.errno)
