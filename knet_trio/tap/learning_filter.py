"""The address table as a filter of a handle, for frames that do not come from a ``Tap``."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from knet_trio import Broadcast, Direction, FilterPacket, FilterResult, Unicast
from knet_trio.tap.addresses import ADDRESS_LENGTH, HEADER_LENGTH, AddressTable


@final
class LearningFilter:
    """A filter that sends each frame to the host that has its destination address.

    It learns addresses from the frames that arrive. Use it for a device that is passed to
    ``Handle.add_datafd``; ``carry_frames`` needs no filter::

        handle.set_filter(LearningFilter(channel=1))

    See knet_handle_enable_filter(3).

    Args:
        channel: The channel that carries the frames.
        table: The table of addresses; None for an empty one.
        otherwise: The filter for messages of other channels; None sends them to all hosts.
        now: A function that returns the time [seconds]; Trio's clock by default.

    Attributes:
        table: The table of addresses.
    """

    __slots__ = ("_channel", "_now", "_otherwise", "table")

    def __init__(
        self,
        channel: int,
        *,
        table: AddressTable | None = None,
        otherwise: Callable[[FilterPacket], FilterResult] | None = None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self.table: AddressTable = AddressTable() if table is None else table
        self._channel = channel
        self._otherwise = otherwise
        self._now = now

    def __call__(self, packet: FilterPacket, /) -> FilterResult:
        """Return the destination of a frame, or of a message of another channel."""
        if packet.channel != self._channel:
            return Broadcast() if self._otherwise is None else self._otherwise(packet)
        frame, table = packet.data, self.table
        if len(frame) < HEADER_LENGTH:
            return Broadcast()
        source = frame[ADDRESS_LENGTH : 2 * ADDRESS_LENGTH]
        if packet.direction is Direction.RX:
            if packet.source != packet.this_host:
                table.learn(source, packet.source, self._now())
            return Broadcast()
        table.forget(source)
        host_id = table.find(frame[:ADDRESS_LENGTH], self._now())
        return Broadcast() if host_id is None else Unicast((host_id,))
