"""The handle: everything a host needs to take part."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from traceback import clear_frames
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
    check_clear_traffic,
    check_crypto,
    check_dscp,
    check_filter,
    check_mtu,
    check_pmtud_interval,
    check_reconnect_interval,
    make_compression,
)
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.context import Context
from knet_trio._state.destinations import find_host
from knet_trio._state.diagnose import diagnose_handle
from knet_trio._state.explain_handle import explain_handle
from knet_trio._waiting import check_in_trio
from knet_trio.channel import Channel
from knet_trio.config import (
    DEFAULT_RECEIVE_BUFFER,
    DEFAULT_RECONNECT_INTERVAL,
    CompressConfig,
    CryptoConfig,
    check_boolean,
    check_host_id,
    check_integer,
)
from knet_trio.datafd import Datafd
from knet_trio.errors import (
    AlreadyExistsError,
    BusyError,
    LimitError,
)
from knet_trio.events import Event, EventReceiver
from knet_trio.host import Host, check_name, check_policy
from knet_trio.message import Filter
from knet_trio.status import HandleDiagnosis, HandleStatistics

# What was sent before the block's end still goes out, unless the sockets take nothing.
_LAST_WORDS: Final = 1.0
_MAX_FD: Final = 2**31 - 1


class Handle(HandleSettings):
    """This host in its cluster: hosts and their links, channels, and the settings of all.

    ``open_handle`` makes it.
    """

    __slots__ = ("_hosts",)
    _SET_OTHERWISE = MappingProxyType(
        {
            "crypto": "set_crypto(config, slot) and use_crypto(slot), or replace_crypto(config)",
            "filter": "set_filter(filter) sets it",
            "compress": "set_compress(config) sets it",
            "forwarding": "write `await handle.set_forwarding(False)`, or True",
            "data_mtu": "it follows from the path MTUs; `mtu` can be set",
            "hosts": "`add_host` and `await host.remove()` change them",
        }
    )

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
        """The hosts that were added, by their ids. See knet_host_get_host_list(3)."""
        return MappingProxyType(self._hosts)

    def add_host(
        self, host_id: int, *, name: str | None = None, policy: LinkPolicy = LinkPolicy.PASSIVE
    ) -> Host:
        """Add a host; ``Host.add_link`` then gives it links.

        Args:
            host_id: 0 to 65535. The handle's own id is for a loopback link.
            name: Text of 1 to 255 bytes in UTF-8, unique among the hosts. None takes the id in
                decimal.
            policy: How the host's links share its messages.

        Raises:
            AlreadyExistsError: The id or the name is in use.
            InvalidArgumentError: An argument is out of range.

        See knet_host_add(3).
        """
        self._runtime.check_running()
        check_host_id(host_id)
        if host_id in self._hosts:
            raise AlreadyExistsError(
                f"host {host_id} is there already: get_host({host_id}) returns it"
            )
        check_policy(policy)
        if name is None:
            name = str(host_id)
            other = self._runtime.handle.find(name)
            if other is not None:
                raise AlreadyExistsError(
                    f"host {other.host_id} is called {name!r}, as host {host_id} would be if it is"
                    " given no name: give it one with name=, or the other one another"
                )
        check_name(self._runtime, name)
        state = self._runtime.handle.add(host_id, name, policy)
        host = self._hosts[host_id] = Host(self._runtime, state, self._hosts)
        return host

    def get_host(self, host_id_or_name: int | str) -> Host:
        """Return the host of that id or name.

        A name is never taken for an id: ``"2"`` is the host that is called so.

        Raises:
            UnknownHostError: There is none. It is a LookupError too.
            InvalidArgumentError: It is neither an id nor a name.

        See knet_host_get_id_by_host_name(3).
        """
        return self._hosts[find_host(self._runtime.handle, host_id_or_name).host_id]

    # Messages.

    def open_channel(
        self, channel: int | None = None, *, receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    ) -> Channel:
        """Open a channel.

        Args:
            channel: 0 to 31, None for the first that is free.
            receive_buffer: How many messages wait in it at most until they are received. When one
                more comes, the newest of the host that has most in it is dropped and counted, so a
                host that sends too much displaces its own messages only.

        Raises:
            BusyError: The channel is open.
            LimitError: All channels are open.

        See knet_handle_add_datafd(3).
        """
        self._runtime.check_running()
        check_integer("receive_buffer", receive_buffer, 1, 2**31 - 1)
        channel = self._free_channel(channel)
        queue = ChannelQueue(receive_buffer, self._context.turns)
        self._runtime.receiver.channels[channel] = queue
        return Channel(self._runtime, channel, queue)

    @property
    def channel_queues(self) -> Mapping[int, int]:
        """How many messages wait in each channel that is open, data fds too, by their numbers."""
        channels = self._runtime.receiver.channels
        return MappingProxyType({number: len(channels[number]) for number in sorted(channels)})

    def _free_channel(self, channel: int | None) -> int:
        """Return ``channel`` if it is not open, with None the first that is not."""
        channels = self._runtime.receiver.channels
        if channel is None:
            free = (number for number in range(MAX_CHANNELS) if number not in channels)
            channel = next(free, None)
            if channel is None:
                raise LimitError(f"all {MAX_CHANNELS} channels are open; close one first")
        elif check_integer("channel", channel, 0, MAX_CHANNELS - 1) in channels:
            raise BusyError(f"channel {channel} is open; close it first")
        return channel

    def add_datafd(
        self, fd: int | None = None, channel: int | None = None, *, return_info: bool = False
    ) -> Datafd:
        """Make a file descriptor a channel.

        What is read from ``fd``, up to 65536 bytes at a time, is sent as a message; what arrives is
        written to it. The descriptor becomes non-blocking and close-on-exec. It stays the program's
        to close, after ``remove_datafd``. When reading ends, something fails or there is no room
        for what arrives, there is a ChannelError among the ``events()``.

        Args:
            fd: None makes a socket pair that keeps messages apart. The program's end of it is the
                ``fd`` of what is returned, and the handle closes it.
            channel: 0 to 31, None for the first that is free.
            return_info: Write libknet's structure before each message that arrives, in one piece
                with it and in the machine's byte order: the structure's own size (``size_t``),
                the sender's host id (16 bits), and padding; 16 bytes on 64-bit machines.

        Raises:
            BusyError: The channel or the descriptor is in use.
            LimitError: All channels are in use.
            InvalidArgumentError: The descriptor is not open, or cannot be waited for.

        See knet_handle_add_datafd(3).
        """
        self._runtime.check_running()
        check_boolean("return_info", return_info)
        channel = self._free_channel(channel)
        return self._runtime.datafds.add(fd, channel, return_info=return_info)

    def remove_datafd(self, fd: int) -> None:
        """Let go of ``fd`` at once.

        What was read from it still goes out; what arrived and is not written yet is lost.

        Raises:
            InvalidArgumentError: It is not a data fd of this handle.

        See knet_handle_remove_datafd(3).
        """
        self._runtime.check_running()
        self._runtime.datafds.remove(check_integer("fd", fd, 0, _MAX_FD))

    def get_datafd(self, channel: int) -> int:
        """Return the data fd of a channel; raise InvalidArgumentError if it has none.

        See knet_handle_get_datafd(3).
        """
        return self._runtime.datafds.get_fd(check_integer("channel", channel, 0, MAX_CHANNELS - 1))

    def get_channel(self, fd: int) -> int:
        """Return the channel of a data fd; raise InvalidArgumentError if it is not one.

        See knet_handle_get_channel(3).
        """
        return self._runtime.datafds.get_channel(check_integer("fd", fd, 0, _MAX_FD))

    def set_filter(self, filter: Filter | None) -> None:
        """Have ``filter`` decide where each message goes; None sends them to every host.

        See knet_handle_enable_filter(3).
        """
        self._runtime.check_running()
        self._context.filter = check_filter(filter)

    @property
    def forwarding(self) -> bool:
        """Whether messages are sent and received; ``set_forwarding`` changes it."""
        return self._context.forwarding

    async def set_forwarding(self, forwarding: bool) -> None:
        """Let messages pass, or stop them.

        Before they are stopped, those handed over earlier go out, as far as there is room for them
        within a second; the rest is dropped and counted. While forwarding is off, messages are
        dropped and counted both ways.

        Raises:
            trio.ClosedResourceError: The handle ended meanwhile.

        See knet_handle_setfwd(3).
        """
        self._runtime.check_running()
        check_boolean("forwarding", forwarding)
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

    # The log, counters and events.

    def set_log_level(self, subsystem: int | str, level: int | str) -> None:
        """Log what a subsystem says up to ``level``.

        Args:
            subsystem: A name such as ``"link"``, or libknet's number.
            level: ``"error"``, ``"warning"``, ``"info"``, ``"debug"``, or libknet's number.

        Raises:
            InvalidArgumentError: One of them is not known.

        See knet_log_set_loglevel(3).
        """
        self._runtime.check_running()
        self._context.log.set_level(subsystem, level)

    def get_log_level(self, subsystem: int | str) -> LogLevel:
        """Return the level of a subsystem; raise InvalidArgumentError if it is not known.

        See knet_log_get_loglevel(3).
        """
        return self._context.log.get_level(subsystem)

    @property
    def log_lost(self) -> int:
        """How many log records were lost because ``log_fd`` had no room for them."""
        return self._context.log.lost

    def explain(self) -> str:
        """Say which hosts can be reached and why others cannot, and what was dropped, in words."""
        self._runtime.check_here()
        if self._runtime.ended:
            return f"the handle of host {self.host_id} has ended"
        return explain_handle(self._runtime.handle)

    def diagnose(self) -> HandleDiagnosis:
        """Return what may be wrong with the handle, for programs: ``explain`` says it in words.

        ``Link.diagnose`` has what concerns a link.
        """
        self._runtime.check_running()
        return diagnose_handle(self._context)

    def statistics(self) -> HandleStatistics:
        """Return the counters as they are now. See knet_handle_get_stats(3)."""
        return self._context.counters.snapshot()

    def clear_statistics(self, *, links: bool = False) -> None:
        """Set the counters to zero, with ``links`` those of every link too.

        With many links, those of some are set to zero a little later: as soon as it is their turn.

        See knet_handle_clear_stats(3).
        """
        self._runtime.check_running()
        check_boolean("links", links)
        self._context.counters.clear()
        if links:
            self._runtime.handle.clear_link_statistics()

    def events(self) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Event]]:
        """Receive everything that changes from now on.

        ::

            async with handle.events() as events:
                async for event in events:
                    ...

        A slow reader loses the oldest events, and receives an EventsLost that says how many.
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
    """Open a handle for this host.

    Leaving the block, by its end, an exception or cancellation, stops every task and closes every
    socket. At its normal end, messages handed over before still go out, as far as there is room for
    them within a second. The block owns a nursery, so errors leave it in exception groups.

    What happens is logged to ``logging`` as ``knet_trio.<subsystem>``, and to ``log_fd`` as
    libknet's records.

    Args:
        host_id: The id of this host, 0 to 65535, unique in the cluster.
        crypto: The envelope of all packets, None for none.
        allow_clear_traffic: Whether packets without envelope are accepted. None: only while no key
            is in use, whenever that came.
        compress: How messages are compressed before they are sent, None for not at all.
        accept_compression: The algorithms whose messages are opened, ``[]`` for none; others are
            dropped and counted. None: all that are installed.
        filter: Decides where messages go. None: to every host, or to those in ``to=``.
        forwarding: False lets no message pass until ``set_forwarding(True)``.
        access_lists: False lets every address speak on every link.
        privileged: Insist on socket buffers of 8 MiB, for SCTP of 1 MiB to receive and 512 KiB to
            send.
        mtu: The interface MTU to go by, in bytes. None discovers the MTU of each path.
        pmtud_interval: Seconds between such discoveries, 1 to 86400.
        reconnect_interval: Seconds from one attempt to connect to the next, of links over SCTP;
            UDP has no connections.
        hedge: Send over a second link too while there is doubt about the first.
        dscp: Marks the packets of high-priority links, 0 to 63.
        log_fd: Where libknet's log records go; the caller reads and closes the other end. What it
            has no room for is lost and counted. None or 0: only to ``logging``.
        log_level: What is logged, None for ``info``.

    Raises:
        InvalidArgumentError: An argument is out of its range.

    See knet_handle_new_ex(3).
    """
    with ExitStack() as at_end:
        try:
            check_in_trio()
            check_host_id(host_id)
            check_dscp(dscp)
            _check_log_fd(log_fd)
            check_boolean("privileged", privileged)
            context = Context(
                host_id,
                crypto=CryptoSlots(
                    allow_clear_traffic=check_clear_traffic(allow_clear_traffic), host_id=host_id
                ),
                access_lists=check_boolean("access_lists", access_lists),
                pmtud_interval=check_pmtud_interval(pmtud_interval),
                fixed_mtu=check_mtu(mtu),
                log_fd=log_fd,
                log_level=log_level,
            )
            at_end.callback(context.log.close)
            context.compression = make_compression(compress)
            context.accept_compression = check_accept_compression(accept_compression)
            context.filter = check_filter(filter)
            context.forwarding = check_boolean("forwarding", forwarding)
            context.hedge = check_boolean("hedge", hedge)
            context.reconnect_interval = check_reconnect_interval(reconnect_interval)
            # The last, so that no other wrong argument finds the key in the slots.
            if crypto is not None:
                context.crypto.set(check_crypto(crypto), 1)
                context.crypto.use(1)
            context.log.info(LogSubsystem.HANDLE, "the handle is open")
            if crypto is not None:
                settings.log_slot(context.log, 1, crypto)
                settings.log_sealing(context.log, 1)
        except BaseException as error:
            # Whoever keeps the error keeps the frames that it went through, and what is in them.
            clear_frames(error.__traceback__)
            raise
        finally:
            # This frame lives as long as the handle, and the key only until it is replaced.
            crypto = None
        async with trio.open_nursery() as nursery:
            runtime = Runtime(context, nursery, privileged=privileged, dscp=dscp)
            handle = Handle(runtime)
            runtime.start()
            try:
                yield handle
                if context.bug is None:
                    with trio.move_on_after(_LAST_WORDS):
                        await runtime.flush()
            finally:
                await runtime.end()
                context.log.info(LogSubsystem.HANDLE, "the handle has ended")


def _check_log_fd(fd: object) -> None:
    """Raise InvalidArgumentError if ``fd`` is no descriptor; 0 is none, as it is libknet's."""
    if fd is not None:
        check_integer("log_fd", fd, 0, _MAX_FD)
