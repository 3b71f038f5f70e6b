"""Statistics of the streams with other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import attrs

from knet_trio import Handle

if TYPE_CHECKING:
    from knet_trio.streams._streams_state import StreamsState


@attrs.frozen(kw_only=True)
class StreamStatistics:
    """Statistics of the streams with one host, over one channel.

    All streams with a host share a connection. The counters start at zero with each new
    connection, for example after either side has restarted.

    Attributes:
        channel: The channel, 0 to 31.
        host_id: The id of the host.
        open: Streams, requests and messages that are open or under way.
        round_trip: The smoothed round-trip time [seconds]; None before the first measurement.
        window: The congestion window: the most bytes that may be in flight [bytes].
        in_flight: Bytes in flight: sent and neither acknowledged nor lost [bytes].
        rate: The rate that the congestion window allows at this round-trip time [bytes/second];
            None before the first measurement. The receivers' windows may allow less.
        arrived_packets: Packets that the host has acknowledged.
        lost_packets: Packets that were declared lost; their contents were retransmitted.
        spurious_losses: Packets that were declared lost but arrived later.
    """

    channel: int
    host_id: int
    open: int
    round_trip: float | None
    window: int
    in_flight: int
    rate: float | None
    arrived_packets: int
    lost_packets: int
    spurious_losses: int


_opened: Final[WeakKeyDictionary[Handle, dict[int, StreamsState]]] = WeakKeyDictionary()


def register(handle: Handle, state: StreamsState) -> None:
    """Register streams that were opened. For internal use."""
    _opened.setdefault(handle, {})[state.channel.channel] = state


def unregister(handle: Handle, state: StreamsState) -> None:
    """Remove streams that were closed. For internal use."""
    _opened[handle].pop(state.channel.channel, None)


def get_stream_statistics(handle: Handle, host_id: int) -> tuple[StreamStatistics, ...]:
    """Return the statistics of a handle's streams with one host.

    Args:
        handle: The handle.
        host_id: The id of the other host.

    Returns:
        A record for each channel that has a connection with the host, in the order of channels.
    """
    opened = _opened.get(handle)
    if not opened:
        return ()
    measured = (_measure(opened[channel], host_id) for channel in sorted(opened))
    return tuple(one for one in measured if one is not None)


def _measure(state: StreamsState, host_id: int) -> StreamStatistics | None:
    pump = state.get_pump(host_id)
    connection = None if pump is None else pump.conversation.connection
    if connection is None:
        return None
    recovery = connection.recovery
    window, trip = recovery.congestion.window, recovery.round_trip
    return StreamStatistics(
        channel=state.channel.channel,
        host_id=host_id,
        open=len(connection.streams),
        round_trip=trip.smooth if trip.is_measured else None,
        window=window,
        in_flight=recovery.in_flight,
        rate=window / trip.smooth if trip.is_measured and trip.smooth > 0 else None,
        arrived_packets=recovery.arrived_packets,
        lost_packets=recovery.lost_packets,
        spurious_losses=recovery.spurious,
    )
