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
"""The channel that frames go over: that of corosync's nozzle."""


async def carry_frames(
    tap: Tap,
    handle: Handle,
    channel: int = DEFAULT_CHANNEL,
    *,
    table: AddressTable | None = None,
    follow_mtu: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry frames between a tap device and those of the other hosts, until cancelled.

    ::

        async with open_tap("knet0", address="10.99.0.1/24") as tap, trio.open_nursery() as nursery:
            await nursery.start(carry_frames, tap, handle)

    The other hosts do the same over the same channel, which is opened here. A frame goes to the
    host that has sent from its destination address before; to all hosts, if none has or it is for a
    group. Returns when the handle has ended. Started with ``nursery.start``, it has opened the
    channel when that returns.

    Args:
        tap: The device.
        handle: The handle of this host.
        channel: 0 to 31, not open yet.
        table: What is known of the hosts' addresses, an empty table by default.
        follow_mtu: Whether the MTU of the device is kept such that a frame goes in one packet, but
            not below 1280 bytes. Changes are followed after two seconds, when they have settled.
        task_status: That of ``nursery.start``.

    Raises:
        BusyError: The channel is open.
        InvalidArgumentError: An argument is none of that kind.
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
            f"frames are carried between a Tap and a Handle, not {shown(tap)} and {shown(handle)}"
        )
