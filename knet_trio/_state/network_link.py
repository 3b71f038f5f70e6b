"""The state of a link over the network."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Sequence
from typing import Final

import trio

from knet_trio._core.acl import AccessList
from knet_trio._core.admission import LinkPhase
from knet_trio._core.liveness import PongOutcome
from knet_trio._core.onwire import Ping
from knet_trio._core.sizes import MAX_ONWIRE, PathSizes
from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio._state.asked_pings import AskedPings
from knet_trio._state.context import Context
from knet_trio._state.control_output import ControlOutput
from knet_trio._state.diagnose import diagnose_link
from knet_trio._state.explain_link import explain_link
from knet_trio._state.heartbeat import Heartbeat
from knet_trio._state.link import LinkState
from knet_trio._state.link_address import Challenged, LinkAddress
from knet_trio._state.link_sender import LinkSender
from knet_trio._state.path_mtu import PathMtu
from knet_trio._state.refusals import LOG_LINES
from knet_trio._state.send_lane import SendLane
from knet_trio._state.send_socket import SendSocket
from knet_trio._state.trust import HostTrust
from knet_trio.abc import Cipher, ConnectionChange, Endpoint, PathTrouble, Transport
from knet_trio.address import Address
from knet_trio.config import LinkConfig
from knet_trio.errors import DropCause
from knet_trio.status import LinkCause, LinkDiagnosis, LinkStatus

# Errors about a destination that take a link down before the pong timeout: at once if this machine
# reports them; if the network does, when the peer does not answer a ping either.
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


# Causes for which a link goes down although its connection may seem to be up.
_OF_NO_USE: Final = frozenset({LinkCause.NO_PONG, LinkCause.UNREACHABLE, LinkCause.REFUSED})


ASK_EVERY: Final = 0.01
"""Seconds between two pings that ask a host for its life, over one link."""


class NetworkLinkState(LinkState):
    """A link over the network, which goes up and down by the results of its parts.

    Args:
        context: The shared state of the handle.
        host_id: The host at the other end.
        config: The settings.
        transport: The transport.
        send_socket: The socket that the link shares with others.
        lane: The messages that wait to be sent to the host.
        trust: The confirmed lives of the host.
        changed: Called when the use, the MTU or the destination of the link has changed.
        report: Called with troubles of other links that are found on the way.

    Attributes:
        transport: The transport.
        address: The destination, and the access list.
        sender: The sending part.
        output: The control packets.
        heartbeat: The pings, and the timeout of their pongs.
        path_mtu: The search for the path MTU.
    """

    def __init__(
        self,
        context: Context,
        host_id: int,
        config: LinkConfig,
        transport: Transport,
        send_socket: SendSocket,
        lane: SendLane,
        trust: HostTrust,
        changed: Callable[[], None],
        report: Callable[[Endpoint, Sequence[PathTrouble]], None],
    ) -> None:
        super().__init__(context, host_id, config)
        self._changed = changed
        self._asked_at = -math.inf
        self.transport = transport
        self.address: LinkAddress = LinkAddress(config.dst, any_port=transport.has_connections)
        self.sender: LinkSender = LinkSender(
            context,
            host_id,
            send_socket,
            self.address,
            self.counters,
            refused=self._refused,
            too_large=self._too_large,
            rerouted=changed,
            has_connections=transport.has_connections,
        )
        self.output: ControlOutput = ControlOutput(
            context, host_id, config.link_id, self.sender, self.address, lane, trust, report
        )
        self._asked_pings = AskedPings()
        self.heartbeat: Heartbeat = Heartbeat(
            context, config, self.output, self.take_down, self._lapsed
        )
        sizes = PathSizes(config.src.is_ipv6, transport.header_size, context.envelope)
        self.path_mtu: PathMtu = PathMtu(
            context,
            self.title,
            sizes,
            self.heartbeat,
            self.output,
            self._changed,
            MAX_ONWIRE if transport.has_connections else None,
        )
        self._warn_of_faults()

    @property
    def enabled(self) -> bool:
        """True if the link is in use: its heartbeat runs."""
        return self.heartbeat.running

    @property
    def acl(self) -> AccessList:
        """The access list: the addresses from which packets are accepted."""
        return self.address.acl

    @property
    def endpoint(self) -> Endpoint:
        """The socket that the link shares with others."""
        return self.sender.shared.endpoint

    @property
    def destination(self) -> Address | None:
        """The address of the peer, None while a dynamic link has not learned it."""
        return self.address.destination

    @property
    def phase(self) -> LinkPhase:
        """The phase of the link, which decides what packets are accepted."""
        heartbeat = self.heartbeat
        if not heartbeat.running:
            return LinkPhase.DISABLED
        if heartbeat.connected:
            return LinkPhase.UP
        return LinkPhase.ANSWERED if heartbeat.counted else LinkPhase.SILENT

    @property
    def usable(self) -> bool:
        """True if the link can carry data now."""
        heartbeat = self.heartbeat
        return heartbeat.running and heartbeat.connected and self.path_mtu.mtu is not None

    def status(self) -> LinkStatus:
        """Return the current state and counters."""
        dst = self.address.destination
        liveness, search = self.heartbeat.liveness, self.path_mtu.search
        pings = self.heartbeat.last_pings()
        return LinkStatus(
            src_ipaddr=self.config.src.host,
            src_port=self.config.src.port,
            dst_ipaddr=dst.host if dst else None,
            dst_port=dst.port if dst else None,
            enabled=self.enabled,
            connected=liveness.connected,
            dynconnected=self.address.dynamic and dst is not None,
            latency=liveness.latency,
            pong_last=liveness.last_pong,
            mtu=search.mtu or 0,
            proto_overhead=self.path_mtu.overhead,
            reason=self._reason_with_fault(),
            since=self.since,
            carries_data=self.usable,
            loss=pings.loss,
            jitter=pings.jitter,
            latency_p50=pings.p50,
            latency_p99=pings.p99,
            stats=self.counters.snapshot(liveness),
        )

    def _reason_with_fault(self) -> str:
        """Return the reason; of a link that is down, with the last fault that was found since."""
        if self.connected.is_on or not self.enabled:
            return self.reason
        counters = self.counters
        # What is only logged for debugging follows from the state of the link, and is no fault.
        found = [
            (drop.at, str(drop))
            for cause, drop in counters.last_drops.items()
            if LOG_LINES[cause].level is not LogLevel.DEBUG
        ]
        if counters.trouble is not None:
            found.append((counters.trouble.at, counters.trouble.what))
        at, last_fault = max(found, default=(-math.inf, ""))
        if at < self.since or last_fault == self.reason:
            return self.reason
        return f"{self.reason}; last fault: {last_fault}"

    async def ping(self) -> float | None:
        """Send a ping now and wait for its pong.

        Returns:
            The round trip in seconds; None if no pong came within ``pong_timeout``, if the link is
            not up or goes down meanwhile, or if this machine did not send the ping.
        """
        await trio.lowlevel.checkpoint()
        if not self.connected.is_on:
            return None
        sent = self.heartbeat.ping(self.context.now(), timed=False)
        if sent is None:
            return None
        return await self._asked_pings.wait(sent, self.config.pong_timeout)

    async def discover_mtu(self) -> None:
        """Search the path MTU now if the link is up, and wait for the end of the search."""
        await self.path_mtu.search_now()

    def diagnose(self) -> LinkDiagnosis:
        """Return what may be wrong with the link, as a record."""
        return diagnose_link(self)

    def explain(self) -> str:
        """Return why the link is up or down, and what to do about it, as text."""
        return explain_link(self)

    # Settings.

    def set_priority(self, priority: int) -> None:
        """Set the priority.

        Raises:
            InvalidArgumentError: The number is out of range.
        """
        super().set_priority(priority)
        self._changed()

    def set_pong_count(self, pong_count: int) -> None:
        """Set the number of pongs after which the next one takes the link up.

        Raises:
            InvalidArgumentError: The number is out of range.
        """
        super().set_pong_count(pong_count)
        self.heartbeat.set_pong_count(pong_count)

    def set_timers(self, interval: float, timeout: float, samples: int) -> None:
        """Change the timers of the heartbeat; see ``LinkState.set_timers``.

        Raises:
            InvalidArgumentError: A value is out of range; nothing has changed.
        """
        super().set_timers(interval, timeout, samples)
        self.heartbeat.set_timers(self.context.now(), self.config)
        self._warn_of_faults()

    def clear_statistics(self) -> None:
        """Set the counters to zero, and start the latencies again."""
        super().clear_statistics()
        self.heartbeat.clear_latency()

    # Up and down.

    def _start(self) -> None:
        self.heartbeat.start(self.context.now())
        self._set_reason("it is enabled and has not come up yet")
        self._changed()
        self.context.log.debug(LogSubsystem.LINK, "%s is enabled", self.title)

    def _stop(self, reason: str, cause: LinkCause) -> None:
        if not self.enabled:
            return
        self.heartbeat.stop()
        was_up = self.connected.is_on
        self.take_down(self.context.now(), reason, cause)
        if not was_up:
            self._changed()

    def pong_received(self, sent: float, now: float) -> None:
        """Handle a pong, which may take the link up.

        Args:
            sent: The time that the ping carried.
            now: The time in seconds.
        """
        if self._asked_pings:
            self._asked_pings.answered(sent, now - sent)
        outcome = self.heartbeat.pong_received(sent, now)
        if outcome is PongOutcome.UNEXPECTED or outcome is PongOutcome.LATE:
            self.context.refuse(DropCause.UNEXPECTED_PONG, link=self)
        elif outcome is PongOutcome.WENT_UP:
            self.address.forget_heard()
            self.path_mtu.begin(now)
            log, title, reason = self.context.log, self.title, "the peer answers pings"
            log.info(LogSubsystem.LINK, "%s is up: %s", title, reason, key=("up", title))
            self._set_connected(True, reason, LinkCause.ANSWERED)
            self._changed()

    def connection_changed(self, change: ConnectionChange) -> None:
        """Handle that the connection to the peer was made or lost."""
        now, log, title = self.context.now(), self.context.log, self.title
        key = ("connection", change.is_up, title)
        if change.is_up:
            log.debug(LogSubsystem.SCTP, "%s: %s", title, change.reason, key=key)
            self.heartbeat.now_connected(now)
            return
        self.heartbeat.disconnected()
        self.counters.note(change.reason, now, change.errno, local=change.local)
        # If the link is up, its going down is logged with the same reason.
        say = log.debug if self.connected.is_on else log.info
        say(LogSubsystem.SCTP, "%s: %s", title, change.reason, key=key)
        # The same reason again, without an answer since, changes nothing.
        if (
            self.connected.is_on
            or self.phase is LinkPhase.ANSWERED
            or (self.enabled and self.reason != change.reason)
        ):
            self.take_down(now, change.reason, LinkCause.DISCONNECTED)

    def question(self, now: float, report: str) -> None:
        """Doubt a link that is up, and send pings, since the network reports the peer unreachable.

        The peer of a dynamic link may have another address (a NAT gave it another port), which its
        next ping shows: so it gets a ping interval of additional time.

        Args:
            now: The time in seconds.
            report: The report of the network, in words.
        """
        grace = self.config.ping_interval if self.address.dynamic else 0.0
        if self.heartbeat.question(now, report, grace):
            self.context.log.info(
                LogSubsystem.LINK,
                "%s is in doubt: %s; pings are being sent to the peer",
                self.title,
                report,
                key=("doubt", self.title),
            )

    def take_down(self, now: float, reason: str, cause: LinkCause = LinkCause.REFUSED) -> None:
        """Take the link down because of ``reason``, which is counted as ``cause``."""
        was_up = self.connected.is_on
        self.heartbeat.fail(now)
        self._asked_pings.give_up()
        if cause in _OF_NO_USE:
            self.sender.reset(reason)
            self.heartbeat.disconnected()
        self._forget_peer()
        if not was_up:
            self._set_reason(reason)
            return
        self.path_mtu.stop()
        # No warning if the link was disabled on purpose.
        log, wanted = self.context.log, self.enabled
        say = log.warning if wanted else log.info
        key = ("down", self.title, wanted)
        say(LogSubsystem.LINK, "%s is down: %s", self.title, reason, key=key)
        self._set_connected(False, reason, cause)
        self._changed()

    def _lapsed(self) -> None:
        self._set_reason("no pong came in time after the last one")
        self._forget_peer()
        self._changed()

    def _forget_peer(self) -> None:
        """Forget the address of the peer, if it was learned."""
        if self.address.dynamic:
            self.address.forget()
            self.sender.moved()

    def end(self) -> None:
        """Take the link down without an event, since the handle has ended."""
        super().end()
        self._asked_pings.give_up()
        self.heartbeat.stop()
        self.heartbeat.fail(self.context.now())

    def close(self) -> None:
        """Take the link down for good, since it is being removed."""
        super().close()
        self.path_mtu.stop()
        self.sender.close()

    # The address of the peer.

    def challenge(
        self, place: Address, ping: Ping, now: float, answer: Cipher | None, *, greeted: bool
    ) -> None:
        """Send a ping to ``place``, where ``ping`` came from, to find out if the peer is there.

        Args:
            place: The address.
            ping: The ping.
            now: The time in seconds.
            answer: The cipher that seals the ping, None to send it in the clear.
            greeted: True if ``ping`` is answered before the peer has proven its address.
        """
        self.address.challenge(place, ping, greeted=greeted)
        self.heartbeat.ask(place, now, answer)

    def ask(self, now: float, answer: Cipher | None) -> None:
        """Send a ping that asks the host for its life, unless one was sent just before."""
        destination = self.destination
        if destination is not None and not 0 <= now - self._asked_at < ASK_EVERY:
            self._asked_at = now
            self.heartbeat.ask(destination, now, answer)

    def follow(self, place: Address) -> Challenged | None:
        """Use ``place`` as destination from now on: the peer has answered from there.

        Returns:
            The ping from the place and its answer; None if another place was asked since.
        """
        challenged = self.address.follow(place)
        self.sender.moved()
        self.heartbeat.moved()
        self.context.log.info(
            LogSubsystem.LINK,
            "%s: the peer is at %s",
            self.title,
            place,
            key=("follow", self.title),
        )
        if self.connected.is_on:
            # The path is another one, and a search under way has results of the old one.
            self.path_mtu.begin(self.context.now())
        self._changed()
        return challenged

    def heard_elsewhere(self, place: Address) -> None:
        """Note that a ping of the peer came from ``place``, which is not the destination."""
        self.address.hear(place, self.context.now())
        if not self.connected.is_on:
            self.context.log.warning(
                LogSubsystem.LINK,
                "%s: pings that name its peer as sender come from %s, but the link leads to %s:"
                " compare addresses and ports on both sides",
                self.title,
                place,
                self.destination,
                key=("elsewhere", self.title),
            )

    # Data, and errors of the system.

    def copies_missed(self, packets: int) -> None:
        """Count copies that this link had no room for and that other links sent."""
        self.counters.drop(DropCause.SEND_QUEUE_FULL, packets)

    def _warn_of_faults(self) -> None:
        """Warn of settings that do not go together."""
        fault = self.config.find_fault()
        if fault is not None:
            self.context.log.warning(
                LogSubsystem.LINK, "%s: %s", self.title, fault, key=("fault", self.title)
            )

    def _too_large(self) -> None:
        self.path_mtu.narrowed(self.output.kernel_mtu(), self.context.now())

    def _refused(self, error: OSError) -> None:
        if self.sender.is_lost(error):
            # The link goes down when all packets that came before over the connection are received.
            self.heartbeat.doubt()
            return
        now = self.context.now()
        reason = f"this machine refuses to send: {os.strerror(error.errno or 0)}"
        self.counters.note(reason, now, error.errno or 0)
        if error.errno != errno.EMSGSIZE:
            self.heartbeat.doubt()
            # A ping shows whether this machine goes on refusing, and whether it was this machine
            # at all: errors about earlier packets are reported the same way.
            self.question(now, reason)
        # Searches for the path MTU get this error on purpose.
        log = self.context.log
        say = log.debug if error.errno == errno.EMSGSIZE else log.warning
        say(LogSubsystem.TX, "%s: %s", self.title, reason, key=(error.errno, self.title))
