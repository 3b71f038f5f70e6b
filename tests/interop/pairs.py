"""One of our handles and a C node with links between them.

Ours is host 1, run by the test's own thread; the C node is host 2, in its own process. Link i
leads from `ours[i]` to `theirs[i]` and has priority i, so the last one is preferred: not the one
that the lowest id would choose.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import trio

from knet_trio import (
    Channel,
    CryptoConfig,
    DataMtuChanged,
    Handle,
    Host,
    HostStatus,
    LinkPolicy,
    LinkStatistics,
    Message,
    open_handle,
)
from tests.interop.c_node import LIBKNET, Address, CCrypto, CNode, open_c_node
from tests.interop.namespaces import NamespacePair
from tests.ports import free_udp_port

OURS: Final = 1
THEIRS: Final = 2
PORT: Final = 5405
PING_INTERVAL: Final = 0.1
# Seconds between two looks at what nobody notifies of.
POLL: Final = 0.02
# A whole test's backlog: only the tests of a full channel want less.
RECEIVE_BUFFER: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the two are connected. To open one of them again, use the same setup."""

    ours: tuple[Address, ...]
    theirs: tuple[Address, ...]
    namespaces: NamespacePair | None = None
    crypto: CCrypto | None = None
    policy: LinkPolicy = LinkPolicy.PASSIVE
    pong_timeout: float = 1.0
    channels: tuple[int, ...] = (0,)
    hedge: bool = False
    """Off, for the C library has nothing like it: both sides choose links by the same rules."""
    program: str = LIBKNET
    """What runs the other node: see `open_c_node`."""
    transport: str = "udp"
    """Of all links."""


def on_loopback(
    address: str = "127.0.0.1",
    *,
    crypto: CCrypto | None = None,
    pong_timeout: float = 1.0,
    channels: tuple[int, ...] = (0,),
) -> Setup:
    """One link between two free ports of this machine."""
    return Setup(
        ours=((address, free_udp_port(address)),),
        theirs=((address, free_udp_port(address)),),
        crypto=crypto,
        pong_timeout=pong_timeout,
        channels=channels,
    )


def in_namespaces(
    namespaces: NamespacePair,
    links: int = 1,
    *,
    address: Callable[[int, int], str] = NamespacePair.v4,
    crypto: CCrypto | None = None,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    pong_timeout: float = 1.0,
    hedge: bool = False,
) -> Setup:
    """That many links over the veth pairs: ours in namespace 0, the C node in namespace 1."""
    return Setup(
        ours=tuple((address(0, i), PORT) for i in range(links)),
        theirs=tuple((address(1, i), PORT) for i in range(links)),
        namespaces=namespaces,
        crypto=crypto,
        policy=policy,
        pong_timeout=pong_timeout,
        hedge=hedge,
    )


@dataclass(frozen=True)
class Ours:
    """Our handle, the C node as it sees it, and its channels."""

    handle: Handle
    host: Host
    channels: dict[int, Channel]

    @property
    def channel(self) -> Channel:
        """Channel 0."""
        return self.channels[0]

    async def receive_count(self, count: int) -> list[bytes]:
        """The next messages of channel 0."""
        datas: list[bytes] = []
        while len(datas) < count:
            messages = await self.channel.receive_many(count - len(datas))
            datas += [check_message(message) for message in messages]
        return datas

    async def wait_data_mtu(self, wanted: int | Callable[[int], bool]) -> None:
        """Until the handle's data MTU is that, or fulfils that."""

        def fulfilled() -> bool:
            found = self.handle.data_mtu
            return wanted(found) if callable(wanted) else found == wanted

        async with self.handle.events() as events:
            while not fulfilled():
                event = await events.receive()
                assert not isinstance(event, DataMtuChanged) or event.data_mtu > 0


def check_message(message: Message, channel: int = 0) -> bytes:
    """The bytes of a message that came from the C node on that channel."""
    assert (message.source, message.channel) == (THEIRS, channel)
    return message.data


@dataclass(frozen=True)
class Pair:
    """Both of them, each reachable to the other."""

    setup: Setup
    ours: Ours
    c: CNode


@asynccontextmanager
async def open_ours(setup: Setup) -> AsyncGenerator[Ours, None]:
    """Our handle with its links, whether or not anybody answers."""
    crypto = setup.crypto
    config = None
    if crypto is not None:
        config = CryptoConfig(crypto.key, crypto.cipher, crypto.hash, crypto.model)
    async with open_handle(OURS, crypto=config, hedge=setup.hedge) as handle:
        host = handle.add_host(THEIRS, policy=setup.policy)
        channels = {
            number: handle.open_channel(number, receive_buffer=RECEIVE_BUFFER)
            for number in setup.channels
        }
        namespaces = setup.namespaces
        for i, (src, dst) in enumerate(zip(setup.ours, setup.theirs, strict=True)):
            with nullcontext() if namespaces is None else namespaces.inside(0):
                await host.add_link(
                    i,
                    src,
                    dst,
                    priority=i,
                    ping_interval=PING_INTERVAL,
                    pong_timeout=setup.pong_timeout,
                    pong_count=1,
                    transport=setup.transport,
                )
        yield Ours(handle, host, channels)


@asynccontextmanager
async def open_theirs(setup: Setup) -> AsyncGenerator[CNode, None]:
    """The C node with its links, whether or not anybody answers."""
    namespaces = setup.namespaces
    async with open_c_node(
        THEIRS,
        namespace=None if namespaces is None else namespaces.names[1],
        crypto=setup.crypto,
        channels=setup.channels,
        program=setup.program,
    ) as c:
        if setup.crypto is not None:
            await c.clear_traffic(False)
        await c.add_host(OURS, policy=setup.policy.value)
        for i in range(len(setup.theirs)):
            await add_c_link(c, setup, i)
        yield c


async def add_c_link(c: CNode, setup: Setup, link_id: int) -> None:
    """Give the C node that link."""
    await c.add_link(
        OURS,
        link_id,
        setup.theirs[link_id],
        setup.ours[link_id],
        priority=link_id,
        ping_interval=PING_INTERVAL,
        pong_timeout=setup.pong_timeout,
        transport=setup.transport,
    )


async def connect(ours: Ours, c: CNode) -> None:
    """Until every link is up on both sides and either host is reachable to the other."""
    for link in ours.host.links.values():
        await link.wait_connected()
        await wait_c_link(c, link.link_id, True)
    await ours.host.wait_reachable()
    await c.wait_reachable(OURS)
    assert ours.host.status == HostStatus(reachable=True)


@asynccontextmanager
async def open_pair(setup: Setup) -> AsyncGenerator[Pair, None]:
    """Both, connected."""
    async with open_theirs(setup) as c, open_ours(setup) as ours:
        await connect(ours, c)
        yield Pair(setup, ours, c)


# Links.


async def wait_c_link(c: CNode, link_id: int, connected: bool) -> None:
    """Until the C node calls that link up, or down."""
    await c.wait_link(OURS, link_id, lambda status: bool(status["connected"]) is connected)


async def wait_for(condition: Callable[[], bool]) -> None:
    """Until the condition, of something on our side that has no event, is true."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(POLL)


def our_link(pair: Pair, link_id: int) -> LinkStatistics:
    """The counters of that link on our side."""
    return pair.ours.host.links[link_id].status.stats


# Messages.


async def exchange(pair: Pair, datas: Sequence[bytes]) -> None:
    """Send each message both ways: all arrive as they are, in their order."""
    for data in datas:
        await pair.ours.channel.send(data)
    assert await pair.c.receive_count(len(datas)) == list(datas)
    for data in datas:
        await pair.c.send(data)
    assert await pair.ours.receive_count(len(datas)) == list(datas)


def numbered(number: int, size: int) -> bytes:
    """A message as the C node's streams make them."""
    return number.to_bytes(8, "big") + bytes(size - 8)


class Stream:
    """Numbered messages from our side, as `CNode.start_stream` sends them from the other."""

    def __init__(
        self,
        channel: Channel,
        size: int,
        interval: float,
        start: int = 0,
        count: float = math.inf,
    ) -> None:
        self.next = start
        """The number of the next message: those from `start` to it were handed over."""
        self.handed_over = start
        """The same, with one whose send has not returned yet."""
        self._channel = channel
        self._size, self._interval, self._start = size, interval, start
        self._count = count
        self._scope = trio.CancelScope()
        self._done = trio.Event()

    async def run(self) -> None:
        """Send `count` messages, or until told to stop."""
        began = trio.current_time()
        with self._scope:
            while self.sent < self._count:
                self.handed_over = self.next + 1
                await self._channel.send(numbered(self.next, self._size))
                self.next += 1
                # Against the schedule, as the other side does.
                await trio.sleep_until(began + self.sent * self._interval)
        self._done.set()

    @property
    def sent(self) -> int:
        """How many messages were handed over."""
        return self.next - self._start

    async def stop(self) -> int:
        """End it; the number after the last. A send that is cancelled here has not happened."""
        self._scope.cancel()
        await self._done.wait()
        return self.next

    async def flow(self, more: int) -> None:
        """Until so many more are sent."""
        target = self.next + more
        await wait_for(lambda: self.next >= target)


@asynccontextmanager
async def stream_of(
    ours: Ours, size: int, interval: float, start: int = 0
) -> AsyncGenerator[Stream, None]:
    """A stream from our side on channel 0, as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        stream = Stream(ours.channel, size, interval, start)
        nursery.start_soon(stream.run)
        yield stream
        await stream.stop()


_END: Final = (b"the end", b"the very end")


async def finish_ours(pair: Pair, size: int) -> list[int]:
    """The numbers of all messages from us that the C node has received since the last time."""
    numbers: list[int] = []
    # What comes late or twice by another link has come when the second marker has: it was sent
    # after the first had arrived.
    for marker in _END:
        await pair.ours.channel.send(marker)
        while (data := (await pair.c.receive())[1]) != marker:
            numbers.append(number_of(data, size))
    return numbers


async def finish_theirs(pair: Pair, size: int) -> list[int]:
    """The numbers of all messages from the C node that we have received since the last time."""
    numbers: list[int] = []
    for marker in _END:
        await pair.c.send(marker)
        while (data := check_message(await pair.ours.channel.receive())) != marker:
            numbers.append(number_of(data, size))
    return numbers


def number_of(data: bytes, size: int) -> int:
    """The number of a message that is as `numbered` made it."""
    number = int.from_bytes(data[:8], "big")
    assert data == numbered(number, size), f"message {number} of {len(data)} bytes was altered"
    return number


def gap(numbers: Sequence[int], first: int, end: int) -> range:
    """The numbers from `first` to `end` (exclusive) that are missing, which must be one run.

    Nothing may be there twice, or from outside.
    """
    assert len(set(numbers)) == len(numbers), "a message came twice"
    missing = sorted(set(range(first, end)) - set(numbers))
    assert len(numbers) + len(missing) == end - first, "a message came that was never sent"
    if not missing:
        return range(0)
    assert missing == list(range(missing[0], missing[-1] + 1)), f"several gaps: {missing}"
    return range(missing[0], missing[-1] + 1)
