"""The channel a user sends to and receives from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import trio

from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._pipeline.batches import Outgoing, pack_messages
from knet_trio._runtime import Runtime
from knet_trio._waiting import Mailbox
from knet_trio.config import check_host_id
from knet_trio.errors import InvalidArgumentError, UnknownHostError
from knet_trio.message import Message

BytesLike = bytes | bytearray | memoryview


class Channel(trio.abc.SendChannel[bytes], trio.abc.ReceiveChannel[Message]):
    """One of a handle's 32 channels. Made by ``Handle.open_channel``.

    What is sent on a channel arrives on the channel of the same number of other hosts. Sending
    hands a message of 1 to 65536 bytes to the handle, waiting while that is behind; what becomes
    of it later is counted in ``Handle.statistics()``. ``to`` names the hosts it is for, in place of
    the filter; with neither it is for everybody.

    A cancelled call has not happened: nothing was sent, nothing was taken.
    """

    def __init__(self, runtime: Runtime, channel: int, mailbox: Mailbox[Message]) -> None:
        self._runtime = runtime
        self._channel = channel
        self._mailbox = mailbox
        self._closed = False

    def __repr__(self) -> str:
        return f"<Channel {self._channel}{' closed' if self._closed else ''}>"

    @property
    def channel(self) -> int:
        """Its number, 0 to 31."""
        return self._channel

    async def send(  # pyright: ignore[reportIncompatibleMethodOverride]  # trio says `value`
        self, data: BytesLike, *, to: Iterable[int] | None = None
    ) -> None:
        """Hand over a message.

        Raises InvalidArgumentError for a message or ``to`` that cannot be, UnknownHostError for a
        host in ``to`` that the handle does not have, ``trio.ClosedResourceError`` if the channel
        was closed or the handle has ended. Source: man knet_send.
        """
        await self._runtime.transmitter.send((self._outgoing_one(data, to),))

    def send_nowait(self, data: BytesLike, *, to: Iterable[int] | None = None) -> None:
        """Like ``send``, but raises ``trio.WouldBlock`` if it would have to wait."""
        self._runtime.transmitter.send_nowait((self._outgoing_one(data, to),))

    async def send_many(
        self, datas: Iterable[BytesLike], *, to: Iterable[int] | None = None
    ) -> None:
        """Hand over several messages at once, which costs little more than one.

        They are sent in their order; when cancelled, none of them was sent.
        """
        outgoing = self._outgoing(datas, to)
        await self._runtime.transmitter.send(outgoing)

    async def send_sync(self, data: BytesLike, *, to: Iterable[int] | None = None) -> None:
        """Send a message to one host past all queues, and raise what went wrong.

        Returns when a link has taken it, which is not yet that it arrived. The SendError raised
        says why none did. Source: man knet_send_sync.
        """
        outgoing = self._outgoing_one(data, to)
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            await self._runtime.transmitter.send_sync(outgoing)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive(self) -> Message:
        """The next message.

        Raises ``trio.EndOfChannel`` once the handle has ended and all is taken,
        ``trio.ClosedResourceError`` if the channel was closed here. Source: man knet_recv.
        """
        return (await self._mailbox.take(1))[0]

    def receive_nowait(self) -> Message:
        """The next message if one is there, else ``trio.WouldBlock``."""
        return self._mailbox.take_nowait(1)[0]

    async def receive_many(self, limit: int | None = None) -> list[Message]:
        """Wait for a message and take all that are there, at most ``limit``."""
        if limit is not None and limit < 1:
            raise InvalidArgumentError(f"a limit of {limit} messages is less than one")
        return await self._mailbox.take(limit)

    def close(self) -> None:
        """Send and receive no more; what arrives for the channel is dropped and counted."""
        if not self._closed:
            self._closed = True
            self._mailbox.close()
            self._runtime.receiver.mailboxes.pop(self._channel, None)

    async def aclose(self) -> None:
        """Like ``close``. Source: man knet_handle_remove_datafd."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _outgoing_one(self, data: BytesLike, to: Iterable[int] | None) -> Outgoing:
        self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        return Outgoing((_check_message(data),), self._channel, hosts)

    def _outgoing(self, datas: Iterable[BytesLike], to: Iterable[int] | None) -> list[Outgoing]:
        self._check_open()
        hosts = None if to is None else self._check_hosts(to)
        return pack_messages(_check_messages(datas), self._channel, hosts)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
        self._runtime.check_running()

    def _check_hosts(self, to: object) -> tuple[int, ...]:
        if isinstance(to, str | bytes) or not isinstance(to, Iterable):
            raise InvalidArgumentError(f"to={to!r} is not a list of host ids, such as to=[2]")
        host_ids = cast("Iterable[object]", to)
        hosts = tuple(dict.fromkeys(check_host_id(host_id) for host_id in host_ids))
        if not hosts:
            raise InvalidArgumentError("to=[] names no host; leave it out to send to everybody")
        for host in hosts:
            if host not in self._runtime.node.peers:
                raise UnknownHostError(f"the handle has no host {host}; add_host({host}) first")
        return hosts


def _check_message(data: object) -> bytes:
    if not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise InvalidArgumentError(f"a message is bytes, not {type(data).__name__}")
        data = bytes(cast("bytearray", data))
    if not 0 < len(data) <= MAX_MESSAGE:
        raise InvalidArgumentError(f"a message has 1 to {MAX_MESSAGE} bytes, not {len(data)}")
    return data


def _check_messages(datas: Iterable[object]) -> list[bytes]:
    messages = list(datas)
    # Asked of all at once, since there may be many.
    if set(map(type, messages)) == {bytes}:
        checked = cast("list[bytes]", messages)
        if min(map(len, checked)) > 0 and max(map(len, checked)) <= MAX_MESSAGE:
            return checked
    return [_check_message(data) for data in messages]
