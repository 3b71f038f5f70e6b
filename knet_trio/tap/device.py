"""A tap device: a network device whose frames a program reads and writes."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import AbstractAsyncContextManager, contextmanager
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final, TypeAlias, final

import attrs
import trio

from knet_trio import BusyError, InvalidArgumentError
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._devices import (
    TUN_DEVICE,
    Interface,
    attach_tap,
    check_device_name,
    parse_mac,
)
from knet_trio._opening import opens
from knet_trio.errors import is_integer, shown
from knet_trio.tap import _system
from knet_trio.tap._arguments import DEFAULT_MTU, check_mtu, parse_interfaces
from knet_trio.tap._counts import TapCounts
from knet_trio.tap.addresses import HEADER_LENGTH
from knet_trio.tap.errors import TapError

MAX_FRAME: Final = 65536
"""The size of the largest frame [bytes], which is the largest message of a channel."""

InterfaceLike: TypeAlias = str | IPv4Interface | IPv6Interface
"""An IP address with a prefix length, such as ``10.99.0.1/24``."""

# Locally administered, "kn", and a zero; the host id follows.
_MAC_PREFIX: Final = b"\x02\x6b\x6e\x00"
_NO_RIGHT: Final = "it takes CAP_NET_ADMIN: run as root, or give the program that capability"


@attrs.frozen
class TapStatistics:
    """The frame counters of a tap, from the opening of the device on.

    Attributes:
        read: Frames read from the device.
        written: Frames of other hosts written to the device.
        to_all: Frames read that went to all hosts, for groups and unknown addresses.
        no_host: Frames dropped because no host was reachable or their host was removed.
        queue_full: Frames dropped because a host's queue was full, counted once for each host.
        refused: Frames of other hosts that the device refused because it was down or had no room.
        malformed: Frames in either direction that are too short or too long.
    """

    read: int
    written: int
    to_all: int
    no_host: int
    queue_full: int
    refused: int
    malformed: int


@final
class Tap(metaclass=NoPublicConstructor):
    """A tap device of this program; returned by ``open_tap``.

    ``carry_frames`` joins it to the devices of other hosts.
    """

    _MADE_BY = "knet_trio.tap.open_tap()"
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
        """The present name of the device, which may have been renamed.

        Raises TapError if the device was deleted, and trio.ClosedResourceError if it was closed;
        so do ``mac`` and ``mtu``.
        """
        fd = self.fileno()
        with _refusing("cannot read the name of the tap device"):
            return _system.read_name(fd)

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """The IP addresses that the device was opened with."""
        return self._addresses

    @property
    def mac(self) -> str:
        """The present Ethernet address of the device, such as ``02:00:00:00:00:01``."""
        name = self.name
        with _refusing(f"cannot read the Ethernet address of {name}"):
            return _system.read_mac(self._control, name).hex(":")

    @property
    def mtu(self) -> int:
        """The present MTU of the device [bytes]."""
        name = self.name
        with _refusing(f"cannot read the MTU of {name}"):
            return _system.read_mtu(self._control, name)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU.

        With an MTU below 1280, the kernel removes the IPv6 addresses of the device.

        Args:
            mtu: The MTU, 68 to 65500 [bytes].

        Raises:
            InvalidArgumentError: ``mtu`` is out of range.
            TapError: The system refuses the MTU, or the device was deleted.
            trio.ClosedResourceError: The device was closed.
        """
        check_mtu(mtu)
        name = self.name
        with _refusing(f"cannot set the MTU of {name} to {mtu}"):
            _system.write_mtu(self._control, name, mtu)

    def fileno(self) -> int:
        """Return the descriptor of the device, non-blocking, with one frame per read and write.

        Raises:
            trio.ClosedResourceError: The device was closed.
        """
        if self._fd < 0:
            raise trio.ClosedResourceError("this tap device was closed")
        return self._fd

    def statistics(self) -> TapStatistics:
        """Return the present counters."""
        return TapStatistics(**attrs.asdict(self._counts))

    async def wait_readable(self) -> None:
        """Wait until there are frames to read.

        Raises:
            trio.ClosedResourceError: The device was closed, before or during the wait.
        """
        await trio.lowlevel.wait_readable(self.fileno())

    def read_frames(self, limit: int, limit_bytes: int) -> list[bytes]:
        """Read the waiting frames, without waiting for any.

        Args:
            limit: The largest number of frames.
            limit_bytes: Reading stops once this number of bytes is reached.

        Returns:
            The frames; an empty list if none wait.

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
                    # One byte more than the largest frame, to detect frames that are cut off.
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
        """Write a frame, which the system treats as received by the device.

        A frame that the system does not take is counted and dropped, as on a network.

        Args:
            frame: The frame, with its Ethernet header.

        Returns:
            True if the system took the frame; False if the device is down or has no room.

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
        """The mutable counters, for ``FrameCarrier``."""
        return self._counts

    async def aclose(self) -> None:
        """Remove the device; the end of the block of ``open_tap`` does the same.

        Tasks in ``wait_readable`` get ``trio.ClosedResourceError``. The device is removed even if
        this call is cancelled.
        """
        fd, self._fd = self._fd, -1
        self._control.close()
        if fd < 0:
            await trio.lowlevel.checkpoint()
            return
        trio.lowlevel.notify_closing(fd)
        with trio.CancelScope(shield=True):
            # Closing takes the system some 30 ms.
            await trio.to_thread.run_sync(os.close, fd)


def open_tap(
    name: str,
    *,
    address: InterfaceLike | Iterable[InterfaceLike] | None = None,
    mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> AbstractAsyncContextManager[Tap]:
    """Create a tap device and bring it up; it is removed at the end of the block.

    ::

        async with open_tap("knet0", address="10.99.0.1/24") as tap:
            ...

    The device is created in the network namespace of the thread. This requires the capability
    CAP_NET_ADMIN, which root has.

    Args:
        name: The name of the device, 1 to 15 bytes, not in use yet.
        address: Its IP address with a prefix length, several of them, or None.
        mac: Its Ethernet address, for example from ``make_mac``; None for a random one.
        mtu: Its MTU [bytes], until ``carry_frames`` sets the one that fits.

    Yields:
        The device.

    Raises:
        InvalidArgumentError: An argument is invalid.
        BusyError: A network device has that name already.
        TapError: The system refuses the device.
    """
    check_device_name(name)
    interfaces = parse_interfaces(address)
    packed = None if mac is None else parse_mac(mac)
    check_mtu(mtu)
    if mtu < DEFAULT_MTU and any(interface.version == 6 for interface in interfaces):
        raise InvalidArgumentError(f"IPv6 does not work with MTU {mtu}: give {DEFAULT_MTU} or more")
    return _open_tap(name, interfaces, packed, mtu)


@opens("open_tap('knet0') as tap")
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
        tap = construct(Tap, _make_device(name), control, interfaces)
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
        with _refusing(f"cannot bring {name} up"):
            _system.bring_up(control, name)
        yield tap
    finally:
        await tap.aclose()


def _make_device(name: str) -> int:
    try:
        return attach_tap(name, new=True)
    except OSError as error:
        doing = f"cannot make the tap device {name}"
        if error.errno == errno.EBUSY:
            raise BusyError(
                f"network device {name} exists already: give another name, or remove the device"
                f" with `ip link delete {name}`"
            ) from error
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            advice = (
                f"{TUN_DEVICE} is missing: load the kernel's module with `modprobe tun`, or"
                " give the container the device"
            )
            raise TapError.from_os_error(doing, error, advice) from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise TapError.from_os_error(doing, error, _NO_RIGHT) from error
        raise TapError.from_os_error(doing, error) from error


def _advise(interface: Interface) -> str:
    """Return the advice for an address that the system does not permit."""
    if interface.version == 6:
        return "IPv6 has to be on, see `sysctl net.ipv6.conf.default.disable_ipv6`"
    return _NO_RIGHT


def make_mac(host_id: int) -> str:
    """Return an Ethernet address for the device of a host, different for each host.

    With a constant address, other machines need not learn a new one after this program restarts.

    Args:
        host_id: The id of the host, 0 to 65535.

    Returns:
        The address, such as ``02:6b:6e:00:00:01``.

    Raises:
        InvalidArgumentError: ``host_id`` is out of range.
    """
    if not is_integer(host_id) or not 0 <= host_id <= 0xFFFF:
        raise InvalidArgumentError(
            f"host id {shown(host_id)} is not valid: give a number from 0 to 65535"
        )
    return (_MAC_PREFIX + host_id.to_bytes(2, "big")).hex(":")


@contextmanager
def _refusing(doing: str, advice: str = _NO_RIGHT) -> Generator[None, None, None]:
    """Turn OSError into TapError, with ``advice`` if the system does not permit the call."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EBADFD:
            raise _deleted(error) from error
        forbidden = error.errno in (errno.EPERM, errno.EACCES)
        raise TapError.from_os_error(doing, error, advice if forbidden else "") from error


def _deleted(error: OSError) -> TapError:
    return TapError("somebody has deleted the tap device", errno=error.errno)
