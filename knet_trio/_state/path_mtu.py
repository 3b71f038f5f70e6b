"""The search for the path MTU of a link: probes when they are due, and their replies."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable

import trio

from knet_trio._core.freshness import ProbeNumbers
from knet_trio._core.onwire import PmtudReply
from knet_trio._core.pmtud import PathMtuSearch
from knet_trio._core.sizes import PathSizes
from knet_trio._logs.names import LogSubsystem
from knet_trio._state.context import Context
from knet_trio._state.control_output import ControlOutput
from knet_trio._state.heartbeat import Heartbeat


class PathMtu:
    """Searches the path MTU while the link is up.

    Args:
        context: The shared state of the handle.
        title: The name of the link in the log.
        sizes: The sizes of headers on the path.
        heartbeat: The heartbeat of the link.
        output: Sends the probes.
        changed: Called after each new result.
        onwire: The largest packet in bytes on the wire, if the transport fragments packets itself;
            None to search.

    Attributes:
        search: The state of the search, read only.
    """

    def __init__(
        self,
        context: Context,
        title: str,
        sizes: PathSizes,
        heartbeat: Heartbeat,
        output: ControlOutput,
        changed: Callable[[], None],
        onwire: int | None,
    ) -> None:
        self._onwire = onwire
        self.search: PathMtuSearch = PathMtuSearch(sizes, context.pmtud_interval)
        self._context = context
        self._title = title
        self._heartbeat = heartbeat
        self._output = output
        self._changed = changed
        self._numbers = ProbeNumbers(secrets.randbelow)
        # The smallest MTU that the network reported since the search began.
        self._reported: int | None = None
        # Set when no search is under way any more.
        self._ended = trio.Event()

    @property
    def mtu(self) -> int | None:
        """The largest message in one packet, in bytes; None while the path cannot carry data."""
        return self.search.mtu

    @property
    def found(self) -> int | None:
        """``mtu`` once it is known for the envelope in use, otherwise None."""
        search = self.search
        if search.onwire is None or search.sizes.envelope != self._context.envelope:
            return None
        return search.mtu

    @property
    def _fixed(self) -> int | None:
        """The MTU that is used without a search, None to search."""
        fixed = self._context.fixed_mtu
        return self._onwire if fixed is None else fixed

    @property
    def overhead(self) -> int:
        """Bytes of headers, salt and hash; 0 until the MTU is known, and if the program sets it."""
        search = self.search
        if self._onwire is None or self._context.fixed_mtu is not None or search.onwire is None:
            return search.overhead
        return search.sizes.overhead

    @property
    def reported(self) -> int | None:
        """The smallest MTU that the network reported since the last search began, in bytes."""
        return self._reported

    async def search_now(self) -> None:
        """Search, unless a search is under way, and wait for its end."""
        search, now = self.search, self._context.now()
        if self._heartbeat.connected and search.fixed is None:
            if not search.searching:
                self._reported = None
                search.start(now)
            self.discover(now)
        while search.searching:
            await self._ended.wait()
        await trio.lowlevel.checkpoint()

    def begin(self, now: float) -> None:
        """Forget the result and search, since the link went up or has another destination."""
        self._reported = None
        self.search.reset()
        self.search.fix(self._fixed, now)
        self._schedule()

    def stop(self) -> None:
        """Forget the result, and search no more."""
        self.search.reset()
        self._context.discoveries.discard(self.discover)
        self._report_end()

    def restart(self, now: float) -> None:
        """Search again, or use the fixed MTU, since the envelope or the settings changed.

        With the same envelope the old result is used until there is a new one.
        """
        search = self.search
        if search.sizes.envelope == self._context.envelope and self._heartbeat.connected:
            before = search.mtu, search.onwire
            search.fix(self._fixed, now)
            self._settle(before)
            return
        search.reset(search.sizes._replace(envelope=self._context.envelope))
        self._changed()
        if self._heartbeat.connected:
            self.begin(now)
            self._changed()

    def set_interval(self, interval: float, now: float) -> None:
        """Search again every ``interval`` seconds, the first time from now if that is sooner."""
        search = self.search
        search.interval = interval
        if self._heartbeat.connected:
            if not search.searching and search.fixed is None:
                search.deadline = min(search.deadline, now + interval)
            self._schedule()

    def discover(self, now: float) -> None:
        """Send the probe that is due, if any, and use a new result."""
        liveness = self._heartbeat.liveness
        if not liveness.connected:
            return
        search = self.search
        before = search.mtu, search.onwire
        while True:
            probe = search.poll(now, latency=liveness.latency, pong_timeout=liveness.timeout)
            if probe is None:
                break
            # Only this end reads the size field, so it carries a number that stands for the size.
            number = self._numbers.draw(probe.onwire)
            error = self._output.probe(number, probe.length)
            if error is not None and error.errno == errno.EMSGSIZE:
                self._numbers.take(number)
                search.refused(probe.onwire, self._output.kernel_mtu(), now)
        self._settle(before)

    def narrowed(self, onwire: int | None, now: float) -> None:
        """Handle that this machine refuses larger packets than before.

        The size is used at once, since larger packets are refused. A search shows whether the path
        carries even that.

        Args:
            onwire: The largest packet that is sent, in bytes on the wire; None if unknown.
            now: The time in seconds.
        """
        if not self._heartbeat.connected:
            return
        search = self.search
        before = search.mtu, search.onwire
        if onwire is not None and search.limited(onwire, now):
            self._settle(before)
        elif not search.searching:
            search.start(now)
        self.discover(now)

    def size_reported(self, onwire: int) -> None:
        """Note that the network reports an MTU of ``onwire`` bytes."""
        self._reported = onwire if self._reported is None else min(self._reported, onwire)

    def hinted(self, onwire: int, now: float) -> None:
        """Handle that a router on the path reports an MTU of ``onwire`` bytes.

        Such a report can be forged, so a probe of the size known before decides.
        """
        if self._heartbeat.connected and self.search.hinted(onwire, now):
            self._context.log.debug(
                LogSubsystem.PMTUD,
                "%s: the network reports an MTU of %s bytes, a probe of %s bytes is sent",
                self._title,
                onwire,
                self.search.onwire,
            )
            self.discover(now)

    def reply_received(self, reply: PmtudReply, now: float) -> bool:
        """Handle the reply to a probe.

        Returns:
            True if such a probe was sent.
        """
        search = self.search
        before = search.mtu, search.onwire
        onwire = self._numbers.take(reply.size)
        if onwire is None or not search.reply_received(onwire, now):
            return False
        self._settle(before)
        return True

    def _schedule(self) -> None:
        self._context.discoveries.set(self.discover, self.search.deadline)

    def _report_end(self) -> None:
        """Wake the tasks that wait for the end of a search, if it has ended."""
        if not self.search.searching:
            self._ended.set()
            self._ended = trio.Event()

    def _settle(self, before: tuple[int | None, int | None]) -> None:
        self._schedule()
        self._report_end()
        # A first search that ends where it began counts too: the MTU is known now.
        if (self.search.mtu, self.search.onwire) != before:
            self._log_result()
            self._changed()

    def _log_result(self) -> None:
        log, onwire = self._context.log, self.search.onwire
        if self.search.mtu is None:
            log.warning(
                LogSubsystem.PMTUD,
                "%s: the path takes up to %s bytes, too small for data",
                self._title,
                onwire,
            )
        else:
            log.debug(LogSubsystem.PMTUD, "%s: the path MTU is %s bytes", self._title, onwire)
