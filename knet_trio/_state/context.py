"""The shared state of all parts of one handle."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import trio

from knet_trio._core.onwire import next_seq
from knet_trio._core.sizes import CLEAR, EnvelopeSizes
from knet_trio._core.stamps import SECRET_SIZE, Stamps
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._logs.log import HandleLog
from knet_trio._state.chores import Chores
from knet_trio._state.closed_channels import ClosedChannels
from knet_trio._state.counters import HandleCounters
from knet_trio._state.loop_watch import LoopWatch
from knet_trio._state.refusals import LOG_LINES, LastDrop
from knet_trio._state.schedule import Schedule
from knet_trio._state.send_socket import BufferTimer, Connections
from knet_trio._state.turns import Turns
from knet_trio._state.workers import Worker, new_worker
from knet_trio._waiting import check_in_trio
from knet_trio.abc import Compressor
from knet_trio.address import Address
from knet_trio.config import DEFAULT_RECONNECT_INTERVAL, DefragBuffers
from knet_trio.errors import DropCause
from knet_trio.events import Event, EventReceiver
from knet_trio.message import Filter

if TYPE_CHECKING:
    # A link has the context.
    from knet_trio._state.link import LinkState


class Compression(NamedTuple):
    """The compressor in use, and the size in bytes above which messages are compressed."""

    compressor: Compressor
    threshold: int


class Context:
    """The shared state of one handle: its id, settings, counters, timers and log."""

    def __init__(
        self,
        host_id: int,
        *,
        crypto: CryptoSlots,
        access_lists: bool,
        pmtud_interval: float,
        fixed_mtu: int | None,
        log_fd: int | None = None,
        log_level: int | str | None = None,
    ) -> None:
        self.host_id = host_id
        self.crypto = crypto
        self.access_lists = access_lists
        self.pmtud_interval = pmtud_interval
        self.fixed_mtu = fixed_mtu
        self.filter: Filter | None = None
        self.compression: Compression | None = None
        # The wire ids of the algorithms whose messages are accepted, None for all.
        self.accept_compression: frozenset[int] | None = None
        self.forwarding = True
        self.hedge = True
        self.reconnect_interval = DEFAULT_RECONNECT_INTERVAL
        self.defrag_buffers: DefragBuffers = DefragBuffers()
        # Returns the time in seconds on Trio's clock.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        # The number of the last message sent.
        self.seq: int = 0
        # The stamps in the pings of this handle.
        self.stamps: Stamps = Stamps(secrets.token_bytes(SECRET_SIZE))
        self.counters: HandleCounters = HandleCounters()
        # The number of calls of ``refuse``.
        self.refusals: int = 0
        self.event_receivers: set[EventReceiver] = set()
        self.closed_channels: ClosedChannels = ClosedChannels()
        self.turns: Turns = Turns()
        self.worker: Worker = new_worker()
        # Called with the ids of hosts whose lanes may go on, since there is room again.
        self.on_room: Callable[[Sequence[int]], None] = lambda _: None
        # Returns whether a socket of this handle has an address.
        self.is_own: Callable[[Address], bool] = lambda _: False
        # Opens sockets for single links.
        self.connections: Connections = Connections()
        self.bug: Exception | None = None
        self.bug_found: trio.Event = trio.Event()
        self.loop_watch: LoopWatch = LoopWatch()
        self.heartbeats: Schedule = Schedule(self.turns, self.loop_watch)
        self.discoveries: Schedule = Schedule(self.turns)
        self.chores: Chores = Chores(self.turns)
        self.buffers: BufferTimer = BufferTimer(
            self.heartbeats, lambda host_ids: self.on_room(host_ids)
        )
        self.log: HandleLog = HandleLog(
            host_id, level=log_level, fd=log_fd, remind=self.heartbeats.set
        )

    @property
    def envelope(self) -> EnvelopeSizes:
        """The sizes of the parts that the current envelope adds to a packet, in bytes."""
        cipher = self.crypto.sealer
        if cipher is None:
            return CLEAR
        return EnvelopeSizes(cipher.salt_size, cipher.hash_size, cipher.block_size)

    def advance_seq(self) -> int:
        """Take the next sequence number."""
        self.seq = next_seq(self.seq)
        return self.seq

    def publish(self, event: Event) -> None:
        """Pass ``event`` to all event receivers."""
        for receiver in self.event_receivers:
            receiver.put(event)

    def refuse(
        self,
        cause: DropCause,
        *details: object,
        times: int = 1,
        link: LinkState | None = None,
        key: Hashable = None,
        topic: Hashable = None,
        error: BaseException | None = None,
    ) -> None:
        """Count dropped packets or messages, and log that.

        Args:
            cause: The cause: selects the counter, and the log line in ``refusals.LOG_LINES``.
            details: The values for the log line.
            times: The number of packets or messages.
            link: The link that they came over or were meant for, which counts them too.
            key: Separates floods of the same cause in the log, if there is no ``link``.
            topic: Joins floods of several causes in the log, which are one line then.
            error: An error to log with its traceback.
        """
        self.refusals += 1
        if link is None:
            self.counters.drop(cause, times)
        else:
            self.counters.drops[cause] += times
            link.counters.drop(cause, times)
        line = LOG_LINES.get(cause)
        if line is None:
            return
        level, subsystem, words = line
        now = self.now()
        if link is None:
            self.counters.last_drops[cause] = LastDrop(words, details, now)
            key = (cause if topic is None else topic, key)
        else:
            link.counters.last_drops[cause] = LastDrop(words, details, now)
            words = f"%s: {words}"
            details = (link.title, *details)
            key = (cause if topic is None else topic, link.title)
        self.log.log(level, subsystem, words, *details, key=key, cause=error, times=times)

    def crash(self, error: Exception) -> None:
        """End the handle with ``error``, a bug found during a call of the program."""
        # Trio's error for a call from another thread is not a bug of the handle, and that thread
        # must not end it.
        check_in_trio()
        if self.bug is None:
            self.bug = error
            self.bug_found.set()

    def ended_error(self) -> trio.ClosedResourceError:
        """Return the error that calls raise once the handle has ended."""
        why = "the handle has ended"
        if self.bug is not None:
            why = (
                f"a bug has ended the handle ({type(self.bug).__name__}): leave the block of"
                " open_handle, which raises it"
            )
        return trio.ClosedResourceError(why)

    def raise_bug(self) -> None:
        """Raise the bug that ends the handle, if any; called by a task of the handle."""
        if self.bug is not None:
            raise self.bug
