"""The search for the path MTU of one link (PLPMTUD in spirit, RFC 4821 and RFC 8899).

A probe is a packet filled up to a size; its answer proves that the path carries that size::

    floor <= good < found <= bad          good: answered      bad: refused or never answered

The search starts at the largest packet size and halves the range between good and bad. If the
kernel knows the MTU of the route, it names the MTU when it refuses a probe, and that size is tried
next: most searches take two probes. A later search begins with the result of the last one. A lost
probe is tried again before its size counts as bad, since a wrong MTU stays wrong for a whole
interval. A result too small for data is searched again sooner: no real path is so small, but a path
may be interrupted for as long as a search takes.

A router that does not forward a packet reports the size that it would take: a *hint*, which anybody
can forge. So the size known before is probed first. If that probe is answered, the hint is refuted,
and nothing has changed. Only if it is not answered (in as many attempts as make a size bad), a
search begins at the size in the hint.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from knet_trio._core.onwire import PING_SIZE
from knet_trio._core.sizes import MAX_ONWIRE, PathSizes

DEFAULT_INTERVAL: Final = 60.0
MAX_PROBES: Final = 30
ATTEMPTS: Final = 3
MIN_PROBE_TIMEOUT: Final = 0.1
PROBE_TIMEOUT_LATENCIES: Final = 8
# The seconds until a path that seemed too small is searched again: twice as long each time.
SECOND_LOOK: Final = 1.0
# The seconds after a refuted hint in which other hints are ignored: each costs a large probe.
HINT_PAUSE: Final = 1.0


class Probe(NamedTuple):
    """A PMTUD packet to send.

    Attributes:
        onwire: The size on the wire that it tries, in bytes.
        length: The size of the packet before its envelope, in bytes.
    """

    onwire: int
    length: int


class PathMtuSearch:
    """The search for one link's path MTU, and its result.

    Call ``poll`` when ``deadline`` has come and send the probe that it returns. Report refusals to
    ``refused`` and answers to ``reply_received``.

    Args:
        sizes: The arithmetic of the path.
        interval: The time between searches, in seconds.

    Attributes:
        sizes: The arithmetic of the path.
        interval: The time between searches, in seconds.
        mtu: The user bytes that a data packet may carry; None while the path carries no data.
        onwire: The path MTU in bytes; None until a search has ended, while ``mtu`` is what every
            path carries.
        fixed: The path MTU that is used without a search, in bytes; None to search.
        hole: The smallest size that vanished on the way in the last search that ended, in bytes;
            None if none did.
        deadline: When to call ``poll`` next, in seconds.
        probes: The number of sizes that the present or last search has tried.
    """

    def __init__(self, sizes: PathSizes, interval: float = DEFAULT_INTERVAL) -> None:
        self.sizes: PathSizes = sizes
        self.interval = interval
        self.mtu: int | None = max(sizes.minimum_payload, 1)
        self.onwire: int | None = None
        self.fixed: int | None = None
        self.hole: int | None = None
        self.deadline: float = math.inf
        self.probes: int = 0
        self._candidate: int | None = None
        self._attempts = 0
        self._good = 0
        # The result of the last search, which the path mostly still carries.
        self._known: int | None = None
        # All bad sizes, since a late answer may clear the smallest of them.
        self._bads: set[int] = set()
        # The bad sizes that were sent and never answered.
        self._lost: set[int] = set()
        self._asked: set[int] = set()
        self._second_look = SECOND_LOOK
        # The size in the hint, while the size known before is probed; when the search that this
        # delays was due; and until when other hints are ignored.
        self._hint: int | None = None
        self._resumes_at = math.inf
        self._hints_after = -math.inf

    @property
    def searching(self) -> bool:
        """True if a search is under way."""
        return self._candidate is not None

    @property
    def overhead(self) -> int:
        """The bytes of headers, salt and hash; 0 before the first search has ended.

        With a fixed MTU there is no search.
        """
        return 0 if self.onwire is None or self._known is None else self.sizes.overhead

    def start(self, now: float) -> None:
        """Start a search, or start it again; ``mtu`` stays until it ends."""
        if self.fixed is not None:
            self._found(self.fixed, now)
            return
        known = self._known
        # A search does not begin at the size of a ping: that it passes is known.
        fit = known is not None and known > self._floor()
        self._begin(known if known is not None and fit else MAX_ONWIRE, now)

    def reset(self, sizes: PathSizes | None = None) -> None:
        """Go back to the minimum without a search: the link is down, or its envelope changes.

        Args:
            sizes: The new arithmetic of the path; None keeps the present one.
        """
        if sizes is not None:
            self.sizes = sizes
        self.mtu = max(self.sizes.minimum_payload, 1)
        self.onwire = self.hole = None
        self._candidate = self._hint = None
        self._second_look = SECOND_LOOK
        self.deadline = math.inf

    def fix(self, onwire: int | None, now: float) -> None:
        """Use ``onwire`` bytes as the path MTU without a search; None searches again."""
        self.fixed = onwire
        self.start(now)

    def poll(self, now: float, *, latency: float, pong_timeout: float) -> Probe | None:
        """Return the probe to send now, None if none is due. Times are seconds.

        Args:
            now: The time.
            latency: The average round trip of the link.
            pong_timeout: The longest time to wait for an answer.
        """
        if now < self.deadline:
            return None
        if self._candidate is None:
            self.start(now)
            if self.fixed is not None:
                return None
        elif self._attempts >= ATTEMPTS:
            self._lost.add(self._candidate)
            self._is_bad(self._candidate, now)
        candidate = self._candidate
        if candidate is None:
            return None
        self._attempts += 1
        if self._attempts == 1:
            self.probes += 1
        self._asked.add(candidate)
        patience = max(MIN_PROBE_TIMEOUT, PROBE_TIMEOUT_LATENCIES * latency)
        self.deadline = now + min(pong_timeout, patience)
        return Probe(candidate, self.sizes.probe_length(candidate))

    def limited(self, onwire: int, now: float) -> bool:
        """Use a smaller MTU from now on and begin a search: this machine sends no larger packets.

        Args:
            onwire: The largest size that this machine sends that way, in bytes.
            now: The time in seconds.

        Returns:
            True if the MTU has changed. False if nothing was done: ``onwire`` is not smaller than
            the known MTU, or is smaller than any path carries.
        """
        if not self._is_lower(onwire):
            return False
        self._adopt(onwire)
        self._begin(onwire, now)
        self._bads.add(onwire + 1)
        return True

    def hinted(self, onwire: int, now: float) -> bool:
        """Check a hint: probe whether the path still carries the size known before.

        ``mtu`` changes only if that size is not answered and a smaller one is.

        Args:
            onwire: The size in the hint, in bytes.
            now: The time in seconds.

        Returns:
            True if the check begins. False if nothing was done: ``onwire`` is not smaller than the
            known MTU or is smaller than any path carries, another hint was just refuted, or a
            search is under way, whose own probes cause hints.
        """
        known = self.onwire
        if known is None or self.searching or now < self._hints_after or not self._is_lower(onwire):
            return False
        self._resumes_at = self.deadline
        self._begin(known, now)
        self._hint = onwire
        return True

    def refused(self, onwire: int, kernel_mtu: int | None, now: float) -> None:
        """Note that the system refused to send a probe (EMSGSIZE).

        Args:
            onwire: The size on the wire that the probe tried, in bytes.
            kernel_mtu: The MTU that the system knows of the route, None if it does not know one.
            now: The time in seconds.
        """
        if self._candidate is None or onwire != self._candidate:
            return
        # The probe never left, so an answer to it would be forged.
        self._asked.discard(onwire)
        # The system's MTU is followed only so often, since it may be wrong each time.
        useful = self.probes < MAX_PROBES
        if useful and kernel_mtu is not None and self._good < kernel_mtu < onwire:
            self._hint = None
            self._bads.add(kernel_mtu + 1)
            self._try(kernel_mtu, now)
        else:
            self._is_bad(onwire, now)

    def reply_received(self, onwire: int, now: float) -> bool:
        """Take a reply into account; return False if this search did not try its size."""
        if onwire not in self._asked:
            return False
        if self._hint is not None:
            self._refute(now)
        elif self._candidate is not None and onwire > self._good:
            self._good = onwire
            # A late answer proves as much as one in time.
            self._bads = {bad for bad in self._bads if bad > onwire}
            self._next(now)
        return True

    def _floor(self) -> int:
        # A ping of this size has been answered, or the link would not be up.
        envelope = self.sizes.envelope
        padded = PING_SIZE + (envelope.block - PING_SIZE % envelope.block if envelope.block else 0)
        return self.sizes.headers + envelope.salt + padded + envelope.hash

    def _is_lower(self, onwire: int) -> bool:
        """Return whether ``onwire`` is smaller than the known MTU, and a path can have it."""
        known = self.onwire
        usable = self.sizes.payload(onwire) >= self.sizes.minimum_payload
        return self.fixed is None and known is not None and onwire < known and usable

    def _begin(self, onwire: int, now: float) -> None:
        """Begin a search with ``onwire`` as the first size."""
        self._hint = None
        self._good = self._floor()
        self._bads = {MAX_ONWIRE + 1}
        self._lost.clear()
        self.probes = 0
        self._asked.clear()
        self._try(onwire, now)

    def _try(self, onwire: int, now: float) -> None:
        self._candidate = onwire
        self._attempts = 0
        self.deadline = now

    def _is_bad(self, onwire: int, now: float) -> None:
        if self._hint is not None:
            self._believe(self._hint, onwire, now)
            return
        self._bads.add(onwire)
        self._next(now)

    def _believe(self, hint: int, known: int, now: float) -> None:
        """Begin a search at ``hint``, since the path no longer carries the size ``known``."""
        # The known size may still be answered, which proves as much as an answer in time.
        asked = self._asked & {known}
        lost = self._lost & {known}
        self._begin(hint, now)
        self._lost |= lost
        self._asked |= asked
        self._bads |= {hint + 1, known}

    def _refute(self, now: float) -> None:
        """Go on as before the hint, since the path still carries the size known before."""
        self._candidate = self._hint = None
        self._hints_after = now + HINT_PAUSE
        self.deadline = max(now, min(self._resumes_at, now + self.interval))

    def _next(self, now: float) -> None:
        bad = min(self._bads)
        step = max(1, self.sizes.envelope.block)
        if bad - self._good <= step:
            self._known = self._good
            self.hole = bad if bad in self._lost else None
            self._found(self._good, now)
        elif self.probes >= MAX_PROBES:
            # The size known before is a better guess than the result of half a search.
            self._candidate = None
            self.deadline = now + self.interval
        elif self._good == self._known:
            # The size known before passes; if one step more does not, nothing has changed.
            self._try(self._good + step, now)
        else:
            self._try((self._good + bad) // 2, now)

    def _adopt(self, onwire: int) -> bool:
        """Use ``onwire`` as the path MTU from now on; return whether the path carries data."""
        payload = self.sizes.payload(onwire)
        fit = payload >= (1 if self.fixed is not None else self.sizes.minimum_payload)
        self.mtu = payload if fit else None
        self.onwire = onwire
        return fit

    def _found(self, onwire: int, now: float) -> None:
        fit = self._adopt(onwire)
        self._candidate = self._hint = None
        if self.fixed is not None:
            self.deadline = math.inf
        elif fit:
            self._second_look = SECOND_LOOK
            self.deadline = now + self.interval
        else:
            self.deadline = now + min(self.interval, self._second_look)
            self._second_look *= 2
