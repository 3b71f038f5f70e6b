"""The handle: this host in its cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from traceback import clear_frames
from types import MappingProxyType
from typing import Final, final

import trio

from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio._core.onwire import MAX_CHANNELS
from knet_trio._core.pmtud import DEFAULT_INTERVAL
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._logs import settings
from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio._opening import opens
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

# Seconds in which messages sent before the end of the block may still leave.
_LAST_WORDS: Final = 1.0
_MAX_FD: Final = 2**31 - 1


@final
class Handle(HandleSettings, metaclass=NoPublicConstructor):
    """This host in its cluster, with its hosts, links and channels.

    Returned by ``open_handle``.
    """

    _MADE_BY = "knet_trio.open_handle()"
    __slots__ = ("_hosts",)
    _SET_OTHERWISE = MappingProxyType(
        {
            "crypto": "set_crypto(config, slot) and use_crypto(slot), or replace_crypto(config)",
            "filter": "set_filter(filter) sets it",
            "compress": "set_compress(config) sets it",
            "forwarding": "write `await handle.set_forwarding(False)`, or True",
            "data_mtu": "it follows from the path MTUs; `mtu` can be set",
            "policy": "each host has its own: write `host.policy = ...`",
            "priority": "each link has its own: write `link.priority = ...`",
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
        """The hosts that were added, by host id. See knet_host_get_host_list(3)."""
        return MappingProxyType(self._hosts)

    def add_host(
        self, host_id: int, *, name: str | None = None, policy: LinkPolicy = LinkPolicy.PASSIVE
    ) -> Host:
        """Add a host. Add links to it with ``Host.add_link``.

        Args:
            host_id: The id, 0 to 65535. The handle's own id is for a loopback link.
            name: A name of 1 to 255 bytes in UTF-8, unique among the hosts. None: the id in
                decimal.
            policy: How the host's links share its messages.

        Returns:
            The new host. It is reachable once a link is up.

        Raises:
            AlreadyExistsError: The id or the name is in use.
            InvalidArgumentError: An argument is out of range.

        See knet_host_add(3).
        """
        self._runtime.check_running()
        check_host_id(host_id)
        if host_id in self._hosts:
            raise AlreadyExistsError(
                f"host {host_id} exists already: get_host({host_id}) returns it"
            )
        check_policy(policy)
        if name is None:
            name = str(host_id)
            other = self._runtime.handle.find(name)
            if other is not None:
                raise AlreadyExistsError(
                    f"host {other.host_id} is named {name!r}, which is the name of host {host_id}"
                    " without name=: give one of them another name"
                )
        check_name(self._runtime, name)
        state = self._runtime.handle.add(host_id, name, policy)
        host = self._hosts[host_id] = construct(Host, self._runtime, state, self._hosts)
        return host

    def get_host(self, host_id_or_name: int | str) -> Host:
        """Return the host with an id or a name.

        Args:
            host_id_or_name: An ``int`` is an id, a ``str`` a name: ``"2"`` is the host of that
                name.

        Raises:
            UnknownHostError: No such host was added. It is a LookupError too.
            InvalidArgumentError: The argument is neither an id nor a name.

        See knet_host_get_id_by_host_name(3).
        """
        return self._hosts[find_host(self._runtime.handle, host_id_or_name).host_id]

    # Messages.

    def open_channel(
        self, channel: int | None = None, *, receive_buffer: int = DEFAULT_RECEIVE_BUFFER
    ) -> Channel:
        """Open a channel, to send and to receive messages.

        Args:
            channel: The number, 0 to 31. None: the first free one.
            receive_buffer: The largest number of messages that wait to be received. When the buffer
                is full, the newest message of the host with most messages in it is dropped and
                counted, so that a host that sends too fast displaces only its own messages.

        Returns:
            The channel, which is open until ``Channel.close`` or the end of the handle.

        Raises:
            BusyError: The channel is open already.
            LimitError: All channels are open.

        See knet_handle_add_datafd(3).
        """
        self._runtime.check_running()
        check_integer("receive_buffer", receive_buffer, 1, 2**31 - 1)
        channel = self._free_channel(channel)
        queue = ChannelQueue(receive_buffer, self._context.turns)
        self._runtime.receiver.channels[channel] = queue
        return construct(Channel, self._runtime, channel, queue)

    @property
    def channel_queues(self) -> Mapping[int, int]:
        """The number of messages that wait in each open channel and data fd, by channel number."""
        channels = self._runtime.receiver.channels
        return MappingProxyType({number: len(channels[number]) for number in sorted(channels)})

    def _free_channel(self, channel: int | None) -> int:
        """Return ``channel`` if it is free, or with None the first free one."""
        channels = self._runtime.receiver.channels
        if channel is None:
            free = (number for number in range(MAX_CHANNELS) if number not in channels)
            channel = next(free, None)
            if channel is None:
                raise LimitError(f"all {MAX_CHANNELS} channels are open: close one first")
        elif check_integer("channel", channel, 0, MAX_CHANNELS - 1) in channels:
            raise BusyError(f"channel {channel} is open already: close it first")
        return channel

    def add_datafd(
        self, fd: int | None = None, channel: int | None = None, *, return_info: bool = False
    ) -> Datafd:
        """Use a file descriptor as a channel.

        Each read from ``fd``, of up to 65536 bytes, is sent as a message; each message received is
        written to it. The descriptor becomes non-blocking and close-on-exec. The program closes it,
        after ``remove_datafd``. When reading ends, an operation fails, or the descriptor has no
        room for a message, ``events()`` reports a ChannelError.

        Args:
            fd: The descriptor. None: make a socket pair that preserves message boundaries. The
                program's end is ``Datafd.fd`` of the result, and the handle closes it.
            channel: The number, 0 to 31. None: the first free one.
            return_info: Write libknet's structure before each received message, in the same write
                and in the machine's byte order: the size of the structure (``size_t``), the host id
                of the sender (16 bits), and padding; 16 bytes on 64-bit machines.

        Returns:
            The descriptor and its channel.

        Raises:
            BusyError: The channel or the descriptor is in use.
            LimitError: All channels are in use.
            InvalidArgumentError: The descriptor is not open, or cannot be polled.

        See knet_handle_add_datafd(3).
        """
        self._runtime.check_running()
        check_boolean("return_info", return_info)
        channel = self._free_channel(channel)
        return self._runtime.datafds.add(fd, channel, return_info=return_info)

    def remove_datafd(self, fd: int) -> None:
        """Stop using ``fd``, at once.

        Messages read from it are still sent; messages received and not yet written are lost.

        Args:
            fd: The descriptor, as returned in ``Datafd.fd``.

        Raises:
            InvalidArgumentError: ``fd`` is not a data fd of this handle.

        See knet_handle_remove_datafd(3).
        """
        self._runtime.check_running()
        self._runtime.datafds.remove(check_integer("fd", fd, 0, _MAX_FD))

    def get_datafd(self, channel: int) -> int:
        """Return the data fd of a channel.

        Args:
            channel: The number, 0 to 31.

        Raises:
            InvalidArgumentError: The channel has no data fd.

        See knet_handle_get_datafd(3).
        """
        return self._runtime.datafds.get_fd(check_integer("channel", channel, 0, MAX_CHANNELS - 1))

    def get_channel(self, fd: int) -> int:
        """Return the channel number of a data fd.

        Args:
            fd: The descriptor.

        Raises:
            InvalidArgumentError: ``fd`` is not a data fd of this handle.

        See knet_handle_get_channel(3).
        """
        return self._runtime.datafds.get_channel(check_integer("fd", fd, 0, _MAX_FD))

    def set_filter(self, filter: Filter | None) -> None:
        """Set the function that chooses the destinations and the channel of each message.

        Args:
            filter: The filter. None: a message goes to every host, or to those in ``to=``.

        Raises:
            InvalidArgumentError: ``filter`` is not callable.

        See knet_handle_enable_filter(3).
        """
        self._runtime.check_running()
        self._context.filter = check_filter(filter)

    @property
    def forwarding(self) -> bool:
        """True while messages are sent and received. ``set_forwarding`` changes it."""
        return self._context.forwarding

    async def set_forwarding(self, forwarding: bool) -> None:
        """Start or stop sending and receiving messages. Links stay up.

        While forwarding is off, messages are dropped and counted in both directions. Before it
        stops, messages that were accepted earlier are sent for up to a second; the rest is dropped
        and counted. If the call is cancelled, forwarding does not change.

        Args:
            forwarding: True to start, False to stop.

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
        """Set the level up to which a subsystem is logged.

        Args:
            subsystem: A name such as ``"link"``, or libknet's number.
            level: ``"error"``, ``"warning"``, ``"info"``, ``"debug"``, or libknet's number.

        Raises:
            InvalidArgumentError: The subsystem or the level does not exist.

        See knet_log_set_loglevel(3).
        """
        self._runtime.check_running()
        self._context.log.set_level(subsystem, level)

    def get_log_level(self, subsystem: int | str) -> LogLevel:
        """Return the level up to which a subsystem is logged.

        Args:
            subsystem: A name such as ``"link"``, or libknet's number.

        Raises:
            InvalidArgumentError: The subsystem does not exist.

        See knet_log_get_loglevel(3).
        """
        return self._context.log.get_level(subsystem)

    @property
    def log_lost(self) -> int:
        """The number of log records that were lost because ``log_fd`` had no room for them."""
        return self._context.log.lost

    def explain(self) -> str:
        """Return a text for people: which hosts are reachable, why others not, what was dropped."""
        self._runtime.check_here()
        if self._runtime.ended:
            return f"the handle of host {self.host_id} has ended"
        return explain_handle(self._runtime.handle)

    def diagnose(self) -> HandleDiagnosis:
        """Return what may be wrong with the handle, as values: ``explain`` is the same as text.

        ``Link.diagnose`` does this for a link.
        """
        self._runtime.check_running()
        return diagnose_handle(self._context)

    def statistics(self) -> HandleStatistics:
        """Return the current counters. See knet_handle_get_stats(3)."""
        return self._context.counters.snapshot()

    def clear_statistics(self, *, links: bool = False) -> None:
        """Set the counters to zero.

        Args:
            links: Also set the counters of every link to zero. With many links this takes several
                turns of the event loop.

        See knet_handle_clear_stats(3).
        """
        self._runtime.check_running()
        check_boolean("links", links)
        self._context.counters.clear()
        if links:
            self._runtime.handle.clear_link_statistics()

    def events(self) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Event]]:
        """Receive the changes of hosts, links, channels and the data MTU from now on.

        ::

            async with handle.events() as events:
                async for event in events:
                    ...

        A reader that is too slow loses the oldest events, and receives an EventsLost with their
        number. The channel ends with the handle.
        """
        return self._events()

    @opens("handle.events() as events")
    async def _events(self) -> AsyncGenerator[EventReceiver, None]:
        self._runtime.check_running()
        receiver = construct(EventReceiver)
        receivers = self._context.event_receivers
        receivers.add(receiver)
        try:
            yield receiver
        finally:
            receivers.discard(receiver)
            receiver.end()


@opens("open_handle(1) as handle")
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

    Leaving the block, at its end, by an exception or by cancellation, stops every task and closes
    every socket. At its normal end, messages that were accepted earlier are sent for up to a
    second. The block owns a nursery, so errors leave it in exception groups.

    The handle logs to ``logging`` as ``knet_trio.<subsystem>``, and to ``log_fd`` in libknet's
    format.

    Args:
        host_id: The id of this host, 0 to 65535, unique in the cluster.
        crypto: How all packets are encrypted and authenticated. None: not at all.
        allow_clear_traffic: True accepts packets that are not encrypted. None: only while no key is
            in use.
        compress: How messages are compressed before they are sent. None: not at all.
        accept_compression: The algorithms of which messages are decompressed, ``[]`` for none;
            messages of others are dropped and counted. None: all that are installed.
        filter: Chooses the destinations of messages. None: every host, or those in ``to=``.
        forwarding: False drops all messages until ``set_forwarding(True)``.
        access_lists: False accepts packets from every address on every link.
        privileged: Raise TransportError if the system does not grant socket buffers of 8 MiB (SCTP:
            1 MiB to receive and 512 KiB to send).
        mtu: The MTU of all paths, in bytes. None discovers the MTU of each path.
        pmtud_interval: Seconds between these discoveries, 1 to 86400.
        reconnect_interval: Seconds between two attempts to connect a link over SCTP.
        hedge: Send over a second link too while the first one is in doubt.
        dscp: The DSCP of packets on high-priority links, 0 to 63.
        log_fd: A descriptor to which libknet's log records are written; the caller reads and closes
            the other end. Records for which it has no room are lost and counted. None or 0: log
            only to ``logging``.
        log_level: The level up to which is logged. None: ``info``.

    Yields:
        The handle.

    Raises:
        InvalidArgumentError: An argument is out of range.
        OutsideTrioError: The call was not made in ``trio.run``.

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
            # Last, so that an error about another argument does not leave the key in the slots.
            if crypto is not None:
                context.crypto.set(check_crypto(crypto), 1)
                context.crypto.use(1)
            context.log.info(LogSubsystem.HANDLE, "the handle is open")
            if crypto is not None:
                settings.log_slot(context.log, 1, crypto)
                settings.log_sealing(context.log, 1)
        except BaseException as error:
            # The error keeps the frames it passed through, and so their variables: the key.
            clear_frames(error.__traceback__)
            raise
        finally:
            # This frame lives as long as the handle; the key must go when it is replaced.
            crypto = None
        async with trio.open_nursery() as nursery:
            runtime = Runtime(context, nursery, privileged=privileged, dscp=dscp)
            handle = construct(Handle, runtime)
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
    """Raise InvalidArgumentError if ``fd`` is not a descriptor. As in libknet, 0 means none."""
    if fd is not None:
        check_integer("log_fd", fd, 0, _MAX_FD)
