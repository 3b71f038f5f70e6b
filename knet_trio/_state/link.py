"""One link at work: its heartbeat, its path MTU, where it sends to, and what it counts."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import attrs

from knet_trio._core.acl import AccessList, AclEntry
from knet_trio._core.freshness import ProbeNumbers, SeenPings
from knet_trio._core.liveness import STALL, Liveness, PongOutcome
from knet_trio._core.onwire import (
    TIME_SIZE,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    encode_ping,
    encode_pmtud,
    encode_pmtud_reply,
    encode_pong,
)
from knet_trio._core.pmtud import PathMtuSearch
from knet_trio._core.sizes import PathSizes
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.counters import Kind, LinkCounters, Tally
from knet_trio._state.lane import SendLane
from knet_trio._state.link_sender import LinkSender
from knet_trio._state.outlet import Outlet
from knet_trio._waiting import AsyncBool
from knet_trio.abc import PathTrouble, Transport
from knet_trio.address import Address
from knet_trio.config import LinkConfig
from knet_trio.errors import DropCause
from knet_trio.events import LinkStatusChanged
from knet_trio.status import LinkStatus

# What the network says of a destination that makes waiting for the pong timeout pointless.
UNREACHABLE_ERRNOS: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.ENONET,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
    }
)


@attrs.define
class Trouble:
    """The last thing that went wrong on a path, and when, on trio's clock."""

    what: str
    at: float


class Move(NamedTuple):
    """A ping of the peer came from ``source``; whether it is there shows when ``stamp`` is back."""

    source: Address
    stamp: bytes
    ping: Ping


class LinkState:
    """A link of one host. ``changed`` is called when what it can carry has changed."""

    def __init__(
        self,
        context: Context,
        host_id: int,
        config: LinkConfig,
        transport: Transport,
        outlet: Outlet,
        changed: Callable[[], None],
        connect: Callable[[Outlet, Address], Outlet | None] = lambda outlet, address: None,
        disconnect: Callable[[Outlet], None] = lambda outlet: None,
        report: Callable[[PathTrouble], None] = lambda trouble: None,
    ) -> None:
        now = context.now()
        self.context = context
        self.log = context.log
        # For the log, which may keep what it is told long after the link is gone.
        self.title = f"link {config.link_id} to host {host_id}"
        self.host_id = host_id
        self.config = config
        self.destination: Address | None = config.dst
        self.acl = AccessList()
        if config.dst is not None:
            self.acl.append(AclEntry.address(config.dst.host))
        self.liveness = Liveness(
            now,
            interval=config.ping_interval,
            timeout=config.pong_timeout,
            samples=config.latency_samples,
            pong_count=config.pong_count,
        )
        self.pmtud = PathMtuSearch(
            PathSizes(config.src.is_ipv6, transport.header_size, context.envelope),
            context.pmtud_interval,
        )
        self.seen_pings = SeenPings()
        self._probe_numbers = ProbeNumbers(secrets.randbelow)
        self._move: Move | None = None
        self.counters = LinkCounters()
        self.drops: Counter[DropCause] = Counter()
        self.connected = AsyncBool()
        self.lane = SendLane(context.seq)
        self.enabled = False
        self.enabled_at = now
        self.reason = "not enabled yet"
        self.trouble: Trouble | None = None
        self._changed = changed
        self._report = report
        self.sender = LinkSender(context, self, outlet, connect, disconnect)

    @property
    def link_id(self) -> int:
        """0 to 7."""
        return self.config.link_id

    @property
    def priority(self) -> int:
        """More is better."""
        return self.config.priority

    @property
    def dynamic(self) -> bool:
        """Whether it learns its peer's address from the peer."""
        return self.config.dst is None

    @property
    def usable(self) -> bool:
        """Whether it can carry data now."""
        return self.enabled and self.liveness.connected and self.pmtud.mtu is not None

    def status(self) -> LinkStatus:
        """How it is."""
        dst = self.destination
        return LinkStatus(
            src_ipaddr=self.config.src.host,
            src_port=self.config.src.port,
            dst_ipaddr=dst.host if dst else None,
            dst_port=dst.port if dst else None,
            enabled=self.enabled,
            connected=self.liveness.connected,
            dynconnected=self.dynamic and dst is not None,
            latency=self.liveness.latency,
            pong_last=self.liveness.last_pong,
            mtu=self.pmtud.mtu or 0,
            proto_overhead=self.pmtud.overhead,
            stats=self.counters.snapshot(self.liveness),
        )

    # Up and down.

    def set_enabled(self, enabled: bool) -> None:
        """Start or stop its heartbeat."""
        if enabled == self.enabled:
            return
        now = self.context.now()
        self.enabled = enabled
        if enabled:
            self.enabled_at = now
            self.liveness.restart(now)
            self.reason = "enabled, and no pong has come yet"
            self.context.heartbeats.set(self.heartbeat, now)
            self.log.debug(LogSubsystem.LINK, "%s is enabled", self.title)
        else:
            self.context.heartbeats.discard(self.heartbeat)
            self.take_down(now, "it was disabled here")

    def take_down(self, now: float, reason: str) -> None:
        """It is down, because of ``reason``."""
        was_up = self.connected.is_on
        self.liveness.fail(now)
        self.reason = reason
        if not was_up:
            return
        self.pmtud.reset()
        if self.dynamic:
            self.destination = self._move = None
            self.sender.moved()
        self.context.discoveries.discard(self.discover)
        self.counters.down_count += 1
        self.counters.down_times.append(time.time())
        # Nobody has to look into what was done on purpose.
        say = self.log.warning if self.enabled else self.log.info
        say(LogSubsystem.LINK, "%s is down: %s", self.title, reason)
        self._tell_connected(False)

    def close(self) -> None:
        """It is being removed."""
        self.set_enabled(False)
        self.context.discoveries.discard(self.discover)
        self.sender.close()
        self.connected.close()

    def learn(self, source: Address) -> None:
        """The peer of a dynamic link is at ``source`` now."""
        self.destination = source
        self._move = None
        self.sender.moved()
        self.log.info(
            LogSubsystem.LINK,
            "%s: the peer is at %s",
            self.title,
            source,
            key=("learn", self.title),
        )
        if self.connected.is_on:
            # The way there is another one, and a search under way was told of the old one.
            self._search(self.context.now())
        self._changed()

    def ask_moved(self, source: Address, ping: Ping) -> None:
        """Find out whether the peer, which answers elsewhere, has moved to ``source``.

        Anybody could have recorded ``ping`` and sent it from there. The pong to one that goes there
        comes from there only if the peer is there.
        """
        asked = self._move
        if asked is not None and asked.source == source:
            # The pong may take longer than the next ping, which must not make it worthless.
            stamp = asked.stamp
        else:
            stamp = secrets.token_bytes(TIME_SIZE)
        self._move = Move(source, stamp, ping)
        question = Ping(self.context.host_id, self.link_id, stamp, self.context.seq, True)
        self._send(Kind.PING, encode_ping(question), source)

    def take_move(self, source: Address, pong: Pong) -> Ping | None:
        """The ping by which the peer moved to ``source``, if ``pong`` shows that it did."""
        move = self._move
        if move is None or move.source != source or move.stamp != pong.time:
            return None
        self.learn(source)
        return move.ping

    def set_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change the heartbeat of the running link."""
        self.liveness.set_timers(self.context.now(), interval, timeout, samples)
        if self.enabled:
            self.context.heartbeats.set(self.heartbeat, self.liveness.deadline)

    def heartbeat(self, now: float) -> None:
        """Send the ping that is due and notice silence."""
        if not self.enabled:
            return
        if now - self.liveness.deadline > STALL:
            self.liveness.excuse(now)
        ping_due, went_down = self.liveness.poll(now)
        if went_down:
            silence = self.liveness.overdue(now)
            self.take_down(now, f"no pong for {silence:.3f} s")
        if ping_due:
            self.send_ping(now, timed=True)
        self.context.heartbeats.set(self.heartbeat, self.liveness.deadline)

    def send_ping(self, now: float, *, timed: bool) -> None:
        """Ask the peer for a sign of life, and tell it the number of the last message."""
        stamp = self.liveness.stamp(now)
        newest = self.context.seq
        lane = self.lane
        seq = lane.number_to_tell(newest) if timed else lane.force_number(newest)
        ping = Ping(self.context.host_id, self.link_id, stamp, seq, timed)
        self._send(Kind.PING, encode_ping(ping))

    def pong_received(self, pong: Pong, now: float) -> None:
        """A sign of life."""
        outcome = self.liveness.pong_received(now, pong.time)
        if outcome is PongOutcome.UNEXPECTED or outcome is PongOutcome.LATE:
            self.drop(DropCause.UNEXPECTED_PONG)
        elif outcome is PongOutcome.WENT_UP:
            self.reason = "the peer answers pings"
            self.counters.up_count += 1
            self.counters.up_times.append(time.time())
            self._search(now)
            self.log.info(LogSubsystem.LINK, "%s is up: %s", self.title, self.reason)
            self._tell_connected(True)
        self.context.heartbeats.set(self.heartbeat, self.liveness.deadline)

    def ping_received(self, ping: Ping) -> None:
        """Answer with the same fields."""
        pong = Pong(self.context.host_id, self.link_id, ping.time, ping.seq, ping.timed)
        self._send(Kind.PONG, encode_pong(pong))

    def _tell_connected(self, connected: bool) -> None:
        self.connected.set(connected)
        self.context.tell(LinkStatusChanged(self.host_id, self.link_id, connected, self.reason))
        self._changed()

    # LinkState MTU.

    def discover(self, now: float) -> None:
        """Send the probe that is due, if one is, and take over a result."""
        if not self.liveness.connected:
            return
        before = self.pmtud.mtu, self.pmtud.onwire
        while True:
            probe = self.pmtud.poll(
                now, latency=self.liveness.latency, pong_timeout=self.liveness.timeout
            )
            if probe is None:
                break
            # The size field is for nobody but this end, which knows what it asked about.
            number = self._probe_numbers.draw(probe.onwire)
            packet = PmtudProbe(self.context.host_id, self.link_id, number, probe.length)
            error = self._send(Kind.PMTU, encode_pmtud(packet))
            if error is not None and error.errno == errno.EMSGSIZE:
                self._probe_numbers.take(number)
                self.pmtud.refused(probe.onwire, self._kernel_mtu(), now)
        self._mtu_settled(before)

    def narrowed(self, onwire: int | None, now: float) -> None:
        """This machine sends no more than ``onwire`` bytes that way, None if it did not say.

        It is believed at once: whatever is larger is refused. A search shows if it is even less.
        """
        if not self.connected.is_on:
            return
        before = self.pmtud.mtu, self.pmtud.onwire
        if onwire is not None and self.pmtud.limited(onwire, now):
            self._mtu_settled(before)
        elif not self.pmtud.searching:
            self.pmtud.start(now)
        self.discover(now)

    def hinted(self, onwire: int, now: float) -> None:
        """Somebody on the way says that it takes no more than ``onwire`` bytes.

        It may be anybody: a probe of that size comes first.
        """
        if self.connected.is_on and self.pmtud.hinted(onwire, now):
            self.discover(now)

    def set_pmtud_interval(self, interval: float) -> None:
        """Search again every ``interval`` seconds, counted from now if that is sooner."""
        self.pmtud.interval = interval
        if self.connected.is_on:
            if not self.pmtud.searching and self.pmtud.fixed is None:
                self.pmtud.deadline = min(self.pmtud.deadline, self.context.now() + interval)
            self.context.discoveries.set(self.discover, self.pmtud.deadline)

    def restart_discovery(self, now: float) -> None:
        """Forget the path MTU, since the envelope or the settings changed, and search again."""
        sizes = self.pmtud.sizes._replace(envelope=self.context.envelope)
        self.pmtud.reset(sizes)
        self._changed()
        if self.connected.is_on:
            self._search(now)

    def probe_received(self, probe: PmtudProbe) -> None:
        """Tell the peer that its probe came through."""
        reply = PmtudReply(self.context.host_id, self.link_id, probe.size)
        self._send(Kind.PMTU, encode_pmtud_reply(reply))

    def reply_received(self, reply: PmtudReply, now: float) -> None:
        """The path carries what was asked."""
        before = self.pmtud.mtu, self.pmtud.onwire
        onwire = self._probe_numbers.take(reply.size)
        if onwire is None or not self.pmtud.reply_received(onwire, now):
            self.drop(DropCause.UNEXPECTED_PMTUD_REPLY)
            return
        self._mtu_settled(before)

    def _search(self, now: float) -> None:
        self.pmtud.reset()
        self.pmtud.fix(self.context.fixed_mtu, now)
        self.context.discoveries.set(self.discover, self.pmtud.deadline)

    def _mtu_settled(self, before: tuple[int | None, int | None]) -> None:
        self.context.discoveries.set(self.discover, self.pmtud.deadline)
        # A first search that ends where it began is news too: what was assumed is now known.
        if (self.pmtud.mtu, self.pmtud.onwire) != before:
            self._log_mtu()
            self._changed()

    def _log_mtu(self) -> None:
        mtu, onwire = self.pmtud.mtu, self.pmtud.onwire
        if mtu is None:
            self.log.warning(
                LogSubsystem.PMTUD,
                "%s: the path takes up to %s bytes, too small for data",
                self.title,
                onwire,
            )
        else:
            self.log.debug(LogSubsystem.PMTUD, "%s: the path MTU is %s bytes", self.title, onwire)

    def _kernel_mtu(self) -> int | None:
        # The refusal has just been queued: the smallest of what is there for this destination.
        sizes: list[int] = []
        for trouble in self.sender.outlet.endpoint.troubles():
            if trouble.errno != errno.EMSGSIZE or not trouble.concerns(self.destination):
                self._report(trouble)
            elif trouble.mtu is not None:
                sizes.append(trouble.mtu)
        return min(sizes, default=None)

    # What goes out and what does not.

    def drop(self, cause: DropCause, times: int = 1) -> None:
        """Count something that went no further, here and for the handle."""
        self.drops[cause] += times
        self.context.counters.drop(cause, times)

    def note(self, what: str) -> None:
        """Remember trouble, for ``explain``."""
        self.trouble = Trouble(what, self.context.now())

    @property
    def tallies(self) -> Sequence[Tally]:
        """What is counted, by the kind of packet."""
        return self.counters.tallies

    def send_too_large(self) -> None:
        """The system refused a datagram of data for its size."""
        self._refused(OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE)))
        self.narrowed(self._kernel_mtu(), self.context.now())

    def send_failed(self, error: OSError) -> None:
        """The system refused a datagram, and not for its size."""
        self._refused(error)

    def copies_missed(self, packets: int) -> None:
        """Other links took datagrams that this one had no room for."""
        self.drops[DropCause.SEND_QUEUE_FULL] += packets

    def _send(
        self, kind: Kind, packet: bytes, destination: Address | None = None
    ) -> OSError | None:
        """Send a control packet, or lose it: the next one comes anyway."""
        destination = destination or self.destination
        if destination is None:
            return None
        return self.sender.send_control(kind, self.context.crypto.seal((packet,))[0], destination)

    def _refused(self, error: OSError) -> None:
        if error.errno != errno.EMSGSIZE:
            self.liveness.doubt(self.context.now())
        reason = f"this machine refuses to send: {os.strerror(error.errno or 0)}"
        self.note(reason)
        # How path MTU searches find out, and no trouble.
        say = self.log.debug if error.errno == errno.EMSGSIZE else self.log.warning
        say(LogSubsystem.TX, "%s: %s", self.title, reason, key=(error.errno, self.title))


NetworkLinkState = LinkState
