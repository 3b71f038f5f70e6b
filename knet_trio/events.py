"""The events of a handle.

See knet_handle_enable_sock_notify(3), knet_handle_enable_pmtud_notify(3),
knet_host_enable_status_change_notify(3) and knet_link_enable_status_change_notify(3).
"""

from __future__ import annotations

from typing import Final, final

import attrs
import trio

from knet_trio._constructors import NoPublicConstructor
from knet_trio._waiting import Mailbox
from knet_trio.message import Direction

# The number of events that wait for a reader before the oldest are lost.
EVENT_BUFFER: Final = 256


@attrs.frozen
class HostStatusChanged:
    """A host became reachable or unreachable.

    Attributes:
        host_id: The id of the host.
        reachable: True if a link to it can carry data now.
        remote: Always False, see ``HostStatus``.
        external: Always False, see ``HostStatus``.
    """

    host_id: int
    reachable: bool
    remote: bool = False
    external: bool = False


@attrs.frozen
class LinkStatusChanged:
    """A link went up or down.

    Attributes:
        host_id: The id of the host.
        link_id: The id of the link, 0 to 7.
        connected: True if the link is up now.
        reason: Why, a text for people.
    """

    host_id: int
    link_id: int
    connected: bool
    reason: str


@attrs.frozen
class DataMtuChanged:
    """The data MTU has changed.

    Attributes:
        data_mtu: The largest message that fits in one packet on every link, in bytes.
    """

    data_mtu: int


@attrs.frozen
class ChannelError:
    """The data fd of a channel failed, or was closed by its other end.

    With ``Direction.TX`` nothing more is read from it until it is removed and added again. With
    ``Direction.RX`` it refused a message; later messages are written, and counted if that fails.
    With EAGAIN (a BlockingIOError) nothing failed: the descriptor has no room, and up to 1024
    messages wait until it is read from; this event comes at most once a second.

    Attributes:
        channel: The channel, 0 to 31.
        direction: TX if reading from it failed, RX if writing to it did.
        error: The error of the system, None at the end of the data that is read.
    """

    channel: int
    direction: Direction
    error: OSError | None


@attrs.frozen
class EventsLost:
    """The reader was too slow, and events before the next one are lost.

    Attributes:
        count: The number of events lost.
    """

    count: int


Event = HostStatusChanged | LinkStatusChanged | DataMtuChanged | ChannelError | EventsLost


@final
class EventReceiver(trio.abc.ReceiveChannel[Event], metaclass=NoPublicConstructor):
    """A channel with the events of a handle.

    A reader never slows the handle: if it is too slow, the oldest events are lost, and the next one
    it receives is an EventsLost with their number.
    """

    _MADE_BY = "Handle.events()"

    def __init__(self) -> None:
        self._mailbox: Mailbox[Event] = Mailbox(EVENT_BUFFER)
        self._lost = 0

    def put(self, event: Event) -> None:
        """Add ``event``. Called by the handle."""
        self._lost += self._mailbox.put(event)

    def end(self) -> None:
        """End the channel after the events that wait. Called by the handle."""
        self._mailbox.end()

    async def receive(self) -> Event:
        """Receive the next event. Cancelling loses none.

        Raises:
            trio.EndOfChannel: The handle has ended.
        """
        event = await self._mailbox.take()
        if not self._lost:
            return event
        # Events that were lost, perhaps during this wait, came before this one.
        self._mailbox.put_back(event)
        lost, self._lost = self._lost, 0
        return EventsLost(lost)

    async def aclose(self) -> None:
        """Close the channel."""
        self._mailbox.close()
        await trio.lowlevel.checkpoint()
