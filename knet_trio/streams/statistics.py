"""What can be measured of the streams with other hosts. It is read where it is kept anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import attrs

from knet_trio import Handle

if TYPE_CHECKING:
    from knet_trio.streams._streams_state import StreamsState


@attrs.frozen(kw_only=True)
class StreamStatistics:
    """What can be measured of the streams with one host, over one channel.

    All of them share a connection. The counters begin at zero with a new one, as when either side
    has started again.

    Attributes:
        channel: The channel, 0 to 31.
        host_id: The host.
        open: How many streams, requests and messages are open or under way.
        round_trip: The smoothed round trip, in seconds; None before the first.
        window: The congestion window: how many bytes may be on their way.
        in_flight: How many bytes are on their way.
        rate: The bytes a second that the window lets through at this round trip; None before the
            first. The readers' windows may let through less.
        arrived_packets: How many packets the host has acknowledged.
        lost_packets: How many were taken for lost; what was in them was sent again.
        spurious_losses: How many of these arrived after all.
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
    """For the package itself: note that streams were opened."""
    _opened.setdefault(handle, {})[state.channel.channel] = state


def unregister(handle: Handle, state: StreamsState) -> None:
    """For the package itself: note that they were closed."""
    _opened[handle].pop(state.channel.channel, None)


def get_stream_statistics(handle: Handle, host_id: int) -> tuple[StreamStatistics, ...]:
    """Return what can be measured of the streams of a handle with one host.

    Args:
        handle: The handle.
        host_id: The other host.

    Returns:
        A record for each channel over which there is a connection with the host, in the order of
        the channels.
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
