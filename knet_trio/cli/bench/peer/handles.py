"""The handles of knet_trio's peer, and the state of their traffic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from knet_trio import Channel, CompressConfig, CryptoConfig, Handle, Link, open_handle
from knet_trio.cli.bench.peer.commands import Answer, Arguments, CommandError, Span
from knet_trio.cli.bench.peer.credits import Credits, credit_message, is_probe

DATA: Final = 0
CONTROL: Final = 1
QUIET: Final = 2

# Messages, more than any window, which is the actual limit.
RECEIVE_BUFFER: Final = 16384
_FAST: Final = 1


@attrs.define
class Sink:
    """The count of messages that arrive at a handle.

    Attributes:
        size: The expected size of messages, in bytes.
        step: The number of messages after which a credit is sent.
        received: The number of messages received.
        wrong: The number of messages with another size.
        reported: The number of messages in the last credit.
        span: The measurement.
        scope: Cancels the task that receives.
    """

    size: int
    step: int
    received: int = 0
    wrong: int = 0
    reported: int = 0
    span: Span = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define
class Collected:
    """The numbered messages that arrived.

    Attributes:
        seen: The numbers that arrived.
        latencies: The latencies, in seconds.
        repeated: The number of repeated arrivals.
        pause: The longest pause between two arrivals, in seconds.
        last: When the last message arrived.
        scope: Cancels the task that receives.
    """

    seen: set[int] = attrs.field(factory=set[int])
    latencies: list[float] = attrs.field(factory=list[float])
    repeated: int = 0
    pause: float = 0.0
    last: float = 0.0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define(eq=False)
class OpenHandle:
    """A handle with its channels, its links, and its traffic.

    Attributes:
        handle: The handle.
        data: The channel for load.
        control: The channel for credits.
        quiet: The channel for messages beside the load.
        to: The id of the host that gets its messages, None for all hosts.
        links: The links.
        enabled_at: When a link was last enabled.
        sink: The sink, None if there is none.
        collected: The collected messages, None if none are collected.
        credits: The credits of a source that runs, None if none does.
        credited: Set and replaced by a new event when credits have come.
    """

    handle: Handle
    data: Channel
    control: Channel
    quiet: Channel
    to: int | None = None
    links: list[Link] = attrs.field(factory=list[Link])
    enabled_at: float = 0.0
    sink: Sink | None = None
    collected: Collected | None = None
    credits: Credits | None = None
    credited: trio.Event = attrs.field(factory=trio.Event)


class OpenHandles:
    """All handles of this process, each open until the peer ends."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._opened: dict[int, OpenHandle] = {}

    def find(self, arguments: Arguments) -> OpenHandle:
        """Return the handle that ``handle=`` names.

        Raises:
            CommandError: There is no such handle.
        """
        opened = self._opened.get(arguments.integer("handle", 1))
        if opened is None:
            raise CommandError("there is no such handle")
        return opened

    async def open(self, arguments: Arguments) -> Answer:
        """Carry out ``handle``: open a handle."""
        opened = await self._nursery.start(self._hold, arguments)
        self._opened[arguments.integer("id", 1)] = opened
        return {"ok": True}

    async def _hold(self, arguments: Arguments, task_status: trio.TaskStatus[OpenHandle]) -> None:
        compress = arguments.text("compress")
        async with open_handle(
            arguments.integer("id", 1),
            crypto=read_crypto(arguments),
            compress=CompressConfig(compress, _FAST) if compress else None,
            hedge=arguments.text("hedge", "1") == "1",
        ) as handle:
            opened = open_channels(handle, (DATA, CONTROL, QUIET))
            task_status.started(opened)
            await self._control(opened)

    def use(self, opened: OpenHandle) -> None:
        """Use a handle that is already open, and stays open until after this object."""
        self._opened[opened.handle.host_id] = opened
        self._nursery.start_soon(self._control, opened)

    async def _control(self, opened: OpenHandle) -> None:
        while True:
            for message in await opened.control.receive_many():
                if not is_probe(message.data):
                    if opened.credits is not None:
                        opened.credits.take(message.data, time.monotonic())
                elif opened.sink is not None:
                    await report(opened, opened.sink)
            opened.credited.set()
            opened.credited = trio.Event()


def read_crypto(arguments: Arguments) -> CryptoConfig | None:
    """Return the crypto configuration in the arguments, None for clear packets."""
    cipher = arguments.text("cipher")
    if not cipher:
        return None
    return CryptoConfig(
        bytes.fromhex(arguments.text("key")),
        cipher,
        arguments.text("hash"),
        arguments.text("model", "openssl"),
    )


def open_channels(handle: Handle, channels: Sequence[int], to: int | None = None) -> OpenHandle:
    """Open the three channels: for load, for credits, and for messages beside the load."""
    data, control, quiet = (
        handle.open_channel(channel, receive_buffer=RECEIVE_BUFFER) for channel in channels
    )
    return OpenHandle(handle, data, control, quiet, to)


async def report(opened: OpenHandle, sink: Sink) -> None:
    """Send a credit to the source: the number of messages received."""
    sink.reported = sink.received
    message = credit_message(opened.handle.host_id, sink.received)
    await opened.control.send(message, to=opened.to)
