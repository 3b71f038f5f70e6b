"""What a handle reports while it runs.

See knet_handle_enable_sock_notify(3), knet_handle_enable_pmtud_notify(3),
knet_host_enable_status_change_notify(3) and knet_link_enable_status_change_notify(3).
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from knet_trio._waiting import Mailbox
from knet_trio.message import Direction

# Events a reader may be behind before the oldest are lost.
EVENT_BUFFER: Final = 256


@attrs.frozen
class HostStatusChanged:
    """A host became reachable or unreachable.

    Attributes:
        host_id: The id of the host.
        reachable: Whether a link to it can carry data now.
        remote: Always False, see ``HostStatus``.
        external: Always False likewise.
    """

    host_id: int
    reachable: bool
    remote: bool = False
    external: bool = False


@attrs.frozen
class LinkStatusChanged:
    """A link went up or down.

    Attributes:
        host_id: The id of its host.
        link_id: The id of the link, 0 to 7.
        connected: Whether it is up now.
        reason: Why, in a few words.
    """

    host_id: int
    link_id: int
    connected: bool
    reason: str


@attrs.frozen
class DataMtuChanged:
    """The largest message that goes in one packet has another size now.

    Attributes:
        data_mtu: That size, in bytes.
    """

    data_mtu: int


@attrs.frozen
class ChannelError:
    """The data fd of a channel failed, or came to its end.

    With ``Direction.TX`` nothing more is read from it until it is removed and added again. With
    ``Direction.RX`` it refused a message; later ones are tried, and counted if they fail too. With
    EAGAIN (a BlockingIOError) nothing failed: the descriptor has no room, and messages wait until
    it is read from, at most 1024. That is told once a second at most.

    Attributes:
        channel: The channel, 0 to 31.
        direction: TX for what the handle reads from it and sends, RX for what it writes to it.
        error: What the system said, None for the end of what is read.
    """

    channel: int
    direction: Direction
    error: OSError | None


@attrs.frozen
class EventsLost:
    """The reader was too slow, and the oldest events before the next one are gone.

    Attributes:
        count: How many.
    """

    count: int


Event = HostStatusChanged | LinkStatusChanged | DataMtuChanged | ChannelError | EventsLost


class EventReceiver(trio.abc.ReceiveChannel[Event]):
    """One reader of a handle's events.

    It never slows the handle: a slow reader loses the oldest events, and the next one that it
    receives is an EventsLost that says how many.
    """

    def __init__(self) -> None:
        self._mailbox: Mailbox[Event] = Mailbox(EVENT_BUFFER)
        self._lost = 0

    def put(self, event: Event) -> None:
        """Add ``event``. Called by the handle."""
        self._lost += self._mailbox.put(event)

    def end(self) -> None:
        """Have ``receive`` raise ``trio.EndOfChannel`` after what is left. Called by the handle."""
        self._mailbox.end()

    async def receive(self) -> Event:
        """Wait for the next event and take it.

        Raises:
            trio.EndOfChannel: The handle has ended.
        """
        event = await self._mailbox.take()
        if not self._lost:
            return event
        # What was lost, maybe while waiting here, came before it.
        self._mailbox.put_back(event)
        lost, self._lost = self._lost, 0
        return EventsLost(lost)

    async def aclose(self) -> None:
        """Receive no more."""
        self._mailbox.close()
        await trio.lowlevel.checkpoint()
