"""Carrying frames between a tap device and the hosts of a handle."""

from __future__ import annotations

from typing import Final

import trio

from knet_trio import Handle, InvalidArgumentError
from knet_trio.errors import shown
from knet_trio.tap._carrier import FrameCarrier
from knet_trio.tap.addresses import AddressTable
from knet_trio.tap.device import Tap

DEFAULT_CHANNEL: Final = 1
"""The channel that carries frames, the same as that of corosync's nozzle."""


async def carry_frames(
    tap: Tap,
    handle: Handle,
    channel: int = DEFAULT_CHANNEL,
    *,
    table: AddressTable | None = None,
    follow_mtu: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry frames between a tap device and the devices of the other hosts, until cancelled.

    ::

        async with open_tap("knet0", address="10.99.0.1/24") as tap, trio.open_nursery() as nursery:
            await nursery.start(carry_frames, tap, handle)

    The other hosts must do the same over the same channel, which this function opens. A frame goes
    to the host that has sent frames from its destination address before; a frame for an unknown
    address or a group goes to all hosts. Returns when the handle is closed. ``nursery.start``
    returns once the channel is open.

    Args:
        tap: The device.
        handle: The handle of this host.
        channel: The channel, 0 to 31, not open yet.
        table: The table of the hosts' addresses; None for an empty one.
        follow_mtu: True to keep the MTU of the device at a value with which a frame fits in one
            packet, but not below 1280 bytes. The MTU follows two seconds after a change.
        task_status: Passed by ``nursery.start``.

    Raises:
        BusyError: The channel is open already.
        InvalidArgumentError: An argument has the wrong type or is out of range.
        TapError: The device was deleted, or the system refuses its MTU.
        trio.ClosedResourceError: The device or the channel was closed.
    """
    _check_kinds(tap, handle)
    table = AddressTable() if table is None else table
    opened = handle.open_channel(channel)
    try:
        async with handle.events() as events:
            carrier = FrameCarrier(tap, handle, opened, table)
            await carrier.run(events, follow_mtu, task_status)
    finally:
        opened.close()


def _check_kinds(tap: object, handle: object) -> None:
    if not isinstance(tap, Tap) or not isinstance(handle, Handle):
        raise InvalidArgumentError(
            f"carry_frames needs a Tap and a Handle, not {shown(tap)} and {shown(handle)}"
        )
