"""The handle: everything a host needs to take part."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from types import MappingProxyType
from typing import Final

import trio

from knet_trio._core.onwire import MAX_CHANNELS
from knet_trio._core.pmtud import DEFAULT_INTERVAL
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._logs import settings
from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio._runtime import Runtime
from knet_trio._settings import (
    HandleSettings,
    check_accept_compression,
    check_dscp,
    check_filter,
    check_mtu,
    check_pmtud_interval,
    check_reconnect_interval,
    make_compression,
)
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.context import Context
from knet_trio.channel import Channel
from knet_trio.config import (
    DEFAULT_RECEIVE_BUFFER,
    DEFAULT_RECONNECT_INTERVAL,
    CompressConfig,
    CryptoConfig,
    check_host_id,
    check_integer,
)
from knet_trio.datafd import Datafd
from knet_trio.errors import (
    AlreadyExistsError,
    BusyError,
    LimitError,
    UnknownHostError,
)
from knet_trio.events import Event, EventReceiver
from knet_trio.host import Host, check_name, check_policy
from knet_trio.message import Filter
from knet_trio.status import HandleStatistics

# What was sent before the block's end still goes out, unless the sockets take nothing.
_LAST_WORDS: Final = 1.0


class Handle(HandleSettings):
    """This host in its cluster: hosts and their links, channels, and the settings of all.

    Made by ``open_handle``.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._hosts: dict[int, Host] = {}

    def __repr__(self) -> str:
        return f"<Handle of host {self.host_id}: {len(self.hosts)} hosts>"

    @property
    def host_id(self) -> int:
        """The id of this host."""
        return self._context.host_id

    # Hosts.

    @property
    def hosts(self) -> Mapping[int, Host]:
        """The other hosts by their ids. Source: man knet_host_get_host_list."""
        return MappingProxyType(self._hosts)

    def add_host(
        self, host_id: int, *, name: str | None = None, policy: LinkPolicy = LinkPolicy.PASSIVE
    ) -> Host:
        """Add a host, to be given links. Its name is its id unless another is given.

        Raises AlreadyExistsError for an id or name in use. Source: man knet_host_add.
        """
        self._runtime.check_running()
        check_host_id(host_id)
        if host_id in self._hosts:
            raise AlreadyExistsError(f"host {host_id} is there already")
        name = str(host_id) if name is None else name
        check_name(self._runtime, name)
        state = self._runtime.handle.add(host_id, name, check_policy(policy))
        host = self._hosts[host_id] = Host(self._runtime, state, self._hosts)
        return host

    def get_host(self, host_id_or_name: int | str) -> Host:
        """The host of that id or name. Raises UnknownHostError (a LookupError) if there is none.

        Source: man knet_host_get_id_by_host_name.
        """
        if isinstance(host_id_or_name, str):
            state = self._runtime.handle.find(host_id_or_name)
            host_id = None if state is None else state.host_id
        else:
            host_id = host_id_or_name
        host = self._hosts.get(host_id) if isinstance(host_id, int) else None
        if host is not None:
            return host
        raise UnknownHostError(
            f"the handle has no host {host_id_or_name!r}",
            errno=errno.ENOENT if isinstance(host_id_or_name, str) else None,
        )

    # Messages.

    def open_channel(
        self, channel: int | None = None, *, receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    ) -> Channel:
        """Open channel 0 to 31, or with None the first that is free.

        Messages wait in it until they are received, ``receive_buffer`` of them at most. When one
        more comes, the newest of the host that has most in it is dropped and counted, so a host
        that sends too much displaces its own messages only. Raises BusyError for a channel that is
        open, LimitError when all are. Source: man knet_handle_add_datafd.
        """
        self._runtime.check_running()
        check_integer("receive_buffer", receive_buffer, 1, 2**31 - 1)
        channel = self._free_channel(channel)
        queue = ChannelQueue(receive_buffer, self._context.turns)
        self._runtime.receiver.channels[channel] = queue
        return Channel(self._runtime, channel, queue)

    def _free_channel(self, channel: int | None) -> int:
        """``channel`` if it can be opened, with None the first that can."""
        channels = self._runtime.receiver.channels
        if channel is None:
            free = (number for number in range(MAX_CHANNELS) if number not in channels)
            channel = next(free, None)
            if channel is None:
                raise LimitError(f"all {MAX_CHANNELS} channels are open; close one first")
        elif check_integer("channel", channel, 0, MAX_CHANNELS - 1) in channels:
            raise BusyError(f"channel {channel} is open; close it first")
        return channel

    def add_datafd(self, fd: int | None = None, channel: int | None = None) -> Datafd:
        """Make a descriptor a channel: 0 to 31, or with None the first that is free.

        What is read from ``fd``, up to 65536 bytes at a time, is sent as a message; what arrives is
        written to it. It becomes non-blocking and close-on-exec, stays the program's to close, and
        has to be removed before. With None a socket pair is made that keeps messages apart; the
        program's end is ``fd`` of the answer, and the handle closes it. When reading ends or
        something fails there is a ChannelError among the ``events()``.

        Raises BusyError for a channel or descriptor in use, LimitError when all channels are,
        InvalidArgumentError for a descriptor that is not open or cannot be waited for. Source: man
        knet_handle_add_datafd.
        """
        self._runtime.check_running()
        return self._runtime.datafds.add(fd, self._free_channel(channel))

    def remove_datafd(self, fd: int) -> None:
        """Let go of ``fd`` at once. Raises InvalidArgumentError if it is no data fd.

        What was read from it still goes out; what arrived and is not written yet is gone. Source:
        man knet_handle_remove_datafd.
        """
        self._runtime.check_running()
        self._runtime.datafds.remove(fd)

    def get_datafd(self, channel: int) -> int:
        """The data fd of a channel, InvalidArgumentError if it has none.

        Source: man knet_handle_get_datafd.
        """
        return self._runtime.datafds.get_fd(channel)

    def get_channel(self, fd: int) -> int:
        """The channel of a data fd, InvalidArgumentError if it is none.

        Source: man knet_handle_get_channel.
        """
        return self._runtime.datafds.get_channel(fd)

    def set_filter(self, filter: Filter | None) -> None:
        """Ask ``filter`` where each message goes, or with None send them to everybody.

        Source: man knet_handle_enable_filter.
        """
        self._context.filter = check_filter(filter)

    @property
    def forwarding(self) -> bool:
        """Whether messages are sent and received."""
        return self._context.forwarding

    async def set_forwarding(self, forwarding: bool) -> None:
        """Let messages pass, or stop them.

        Before they are stopped, those handed over before go out, as far as there is room within a
        second. While it is off messages are dropped and counted, both ways.

        Raises:
            trio.ClosedResourceError: The handle ended meanwhile.

        See knet_handle_setfwd(3).
        """
        self._runtime.check_running()
        if forwarding:
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(_LAST_WORDS):
                await self._runtime.flush()
            self._runtime.check_running()
        self._context.forwarding = forwarding
        if not forwarding:
            self._runtime.transmitter.stop()
        settings.log_forwarding(self._context.log, forwarding)

    # What it tells.

    def set_log_level(self, subsystem: int | str, level: int | str) -> None:
        """Log what a subsystem says up to ``level``: ``error``, ``warning``, ``info``, ``debug``.

        Both are names or numbers. Raises InvalidArgumentError for one that is not known. Source:
        man knet_log_set_loglevel.
        """
        self._context.log.set_level(subsystem, level)

    def get_log_level(self, subsystem: int | str) -> LogLevel:
        """The level of a subsystem. Raises InvalidArgumentError for one that is not known.

        Source: man knet_log_get_loglevel.
        """
        return self._context.log.get_level(subsystem)

    @property
    def log_lost(self) -> int:
        """How many records ``log_fd`` had no room for."""
        return self._context.log.lost

    def statistics(self) -> HandleStatistics:
        """The counters now. Source: man knet_handle_get_stats."""
        return self._context.counters.snapshot()

    def clear_statistics(self, *, links: bool = False) -> None:
        """Start the counters again, with ``links`` those of every link too.

        Source: man knet_handle_clear_stats.
        """
        self._context.counters.clear()
        if links:
            for link in self._runtime.handle.links():
                link.clear_statistics()

    def events(self) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Event]]:
        """Everything that changes from now on, as a channel to receive from.

        ::

            async with handle.events() as events:
                async for event in events:
                    ...

        A slow reader loses the oldest and receives an EventsLost saying how many.
        """
        return self._events()

    @asynccontextmanager
    async def _events(self) -> AsyncGenerator[EventReceiver, None]:
        self._runtime.check_running()
        receiver = EventReceiver()
        receivers = self._context.event_receivers
        receivers.add(receiver)
        try:
            yield receiver
        finally:
            receivers.discard(receiver)
            receiver.end()


@asynccontextmanager
async def open_handle(
    host_id: int,
    *,
    crypto: CryptoConfig | None = None,
    allow_clear_traffic: bool | None = None,
    compress: CompressConfig | None = None,
    accept_compression: Iterable[str] | None = None,
    filter: Filter | None = None,
    forwarding: bool = True,
    access_lists: bool = True,
    privileged: bool = False,
    mtu: int | None = None,
    pmtud_interval: float = DEFAULT_INTERVAL,
    reconnect_interval: float = DEFAULT_RECONNECT_INTERVAL,
    hedge: bool = True,
    dscp: int = 0,
    log_fd: int | None = None,
    log_level: int | str | None = None,
) -> AsyncGenerator[Handle, None]:
    """Open a handle for this host, whose id is ``host_id`` (0 to 65535, unique in the cluster).

    ``crypto`` envelopes all packets; ``allow_clear_traffic`` then says whether clear ones are
    accepted (None: only without crypto). ``compress`` makes messages smaller.
    ``accept_compression`` names the algorithms whose messages are taken, ``[]`` for none; others
    are dropped and counted (None: all that are installed). ``filter`` decides where messages go;
    with ``forwarding=False`` none passes until ``set_forwarding(True)``. ``access_lists=False``
    lets every address speak on every link. ``privileged`` insists on socket buffers of 8 MiB.
    ``mtu`` is the interface MTU to go by, None to discover that of each path every
    ``pmtud_interval`` seconds. ``reconnect_interval`` is how many seconds after it was lost a
    connection is tried again, by transports that have connections. ``hedge`` sends over a second
    link too while there is doubt about the first. ``dscp`` marks packets of high-priority links.

    What happens is told to ``logging`` as ``knet_trio.<subsystem>``, and to ``log_fd`` as libknet's
    records (None or 0: only to ``logging``). Both get what ``log_level`` lets through, None for
    ``info``. What ``log_fd`` has no room for is lost and counted; it is the caller's, who reads
    the other end and closes it.

    Leaving the block, by its end, an exception or cancellation, stops every task and closes every
    socket; at its end, messages handed over before still go out. It owns a nursery, so errors
    leave it in exception groups. Raises InvalidArgumentError for what does not fit. Source: man
    knet_handle_new_ex.
    """
    check_host_id(host_id)
    check_dscp(dscp)
    slots = CryptoSlots(
        allow_clear_traffic=crypto is None if allow_clear_traffic is None else allow_clear_traffic
    )
    if crypto is not None:
        slots.set(crypto, 1)
        slots.use(1)
    context = Context(
        host_id,
        crypto=slots,
        access_lists=access_lists,
        pmtud_interval=check_pmtud_interval(pmtud_interval),
        fixed_mtu=check_mtu(mtu),
        log_fd=log_fd,
        log_level=log_level,
    )
    with closing(context.log):
        context.compression = make_compression(compress)
        context.accept_compression = check_accept_compression(accept_compression)
        context.filter = check_filter(filter)
        context.forwarding = forwarding
        context.hedge = hedge
        context.reconnect_interval = check_reconnect_interval(reconnect_interval)
        context.log.info(LogSubsystem.HANDLE, "the handle is open")
        if crypto is not None:
            settings.log_slot(context.log, 1, crypto)
            settings.log_sealing(context.log, 1)
            # This frame lives as long as the handle, and the key only until it is replaced.
            crypto = None
        async with trio.open_nursery() as nursery:
            runtime = Runtime(context, nursery, privileged=privileged, dscp=dscp)
            handle = Handle(runtime)
            runtime.start()
            try:
                yield handle
                with trio.move_on_after(_LAST_WORDS):
                    await runtime.flush()
            finally:
                runtime.end()
                context.log.info(LogSubsystem.HANDLE, "the handle has ended")
