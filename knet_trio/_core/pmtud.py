"""The search for the path MTU of one link (PLPMTUD in spirit, RFC 4821 and RFC 8899).

A probe is a packet filled up to a size; its answer proves that the path carries that size::

    floor <= good < found <= bad          good: answered      bad: refused or never answered

The search starts at the largest packet there is and halves what lies between good and bad. Where
the kernel knows the MTU of the way out it says so in refusing a probe, and that size is next: most
searches are two probes. A later search begins with what the last one found. A lost probe is tried
again before it counts as bad, since a wrong MTU stays wrong for a whole interval. One too small for
data does not: no path is like that, but one that was interrupted for as long as a search takes.

What something on the way says of the size it takes is anybody's word. So the size known before is
asked for first, and only if that is not answered (as often as it takes to hold a size for bad) the
search begins, at the size that was said. An answer refutes it, and nothing has changed.
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
# Seconds until a path that seemed too small is searched again: twice as many each time.
SECOND_LOOK: Final = 1.0
# Seconds after a refuted hint in which others are not looked into: each costs a large probe.
HINT_PAUSE: Final = 1.0


class Probe(NamedTuple):
    """A PMTUD packet to send, of ``length`` bytes; it asks whether ``onwire`` bytes get through."""

    onwire: int
    length: int


class PathMtuSearch:
    """The state of one link's path MTU.

    Call ``poll`` when ``deadline`` has come and send what it returns; report refusals with
    ``refused`` and answers with ``reply_received``. ``mtu`` is the user bytes a data packet may
    carry, None while the path is not fit for data. ``hole`` is the smallest size that vanished on
    the way in the last search that ended, None if none did.
    """

    def __init__(self, sizes: PathSizes, interval: float = DEFAULT_INTERVAL) -> None:
        self.sizes: PathSizes = sizes
        self.interval = interval
        self.mtu: int | None = max(sizes.minimum_payload, 1)
        # None until a search has ended: `mtu` is then what every path carries.
        self.onwire: int | None = None
        self.fixed: int | None = None
        # The smallest size that vanished on the way, as far as the last search shows.
        self.hole: int | None = None
        self.deadline: float = math.inf
        self.probes: int = 0
        self._candidate: int | None = None
        self._attempts = 0
        self._good = 0
        # What the last search found, which the path mostly still carries.
        self._known: int | None = None
        # Every size held to be bad, since an answer that comes late may clear the smallest.
        self._bads: set[int] = set()
        # Those of them that were sent and never answered.
        self._lost: set[int] = set()
        self._asked: set[int] = set()
        self._second_look = SECOND_LOOK
        # The size that was said, while the one known before is asked for; when the search that this
        # delays was due, and until when no other hint is looked into.
        self._hint: int | None = None
        self._resumes_at = math.inf
        self._hints_after = -math.inf

    @property
    def searching(self) -> bool:
        """Whether a search is under way."""
        return self._candidate is not None

    @property
    def overhead(self) -> int:
        """Bytes of headers, salt and hash; 0 before the first search has ended.

        A fixed MTU is not searched for.
        """
        return 0 if self.onwire is None or self._known is None else self.sizes.overhead

    def start(self, now: float) -> None:
        """Start a search, or start it again; ``mtu`` stays until it ends."""
        if self.fixed is not None:
            self._found(self.fixed, now)
            return
        known = self._known
        # What is no larger than a ping is no beginning: that it passes proves nothing.
        fit = known is not None and known > self._floor()
        self._begin(known if known is not None and fit else MAX_ONWIRE, now)

    def reset(self, sizes: PathSizes | None = None) -> None:
        """Go back to the minimum, and do not search: the link is down or its envelope changes."""
        if sizes is not None:
            self.sizes = sizes
        self.mtu = max(self.sizes.minimum_payload, 1)
        self.onwire = self.hole = None
        self._candidate = self._hint = None
        self._second_look = SECOND_LOOK
        self.deadline = math.inf

    def fix(self, onwire: int | None, now: float) -> None:
        """Use ``onwire`` as the MTU of the path instead of searching; None searches again."""
        self.fixed = onwire
        self.start(now)

    def poll(self, now: float, *, latency: float, pong_timeout: float) -> Probe | None:
        """Return the probe to send at ``now``, None if none is due.

        ``latency`` is the round trip of the link in seconds.
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
        """Take ``onwire`` as the MTU from now on: this machine sends no more bytes that way.

        How much of that the path carries is searched for. Returns False, and does nothing, if it
        is no news or less than any path carries.
        """
        if not self._is_news(onwire):
            return False
        self._adopt(onwire)
        self._begin(onwire, now)
        self._bads.add(onwire + 1)
        return True

    def hinted(self, onwire: int, now: float) -> bool:
        """Find out whether the path carries what it did, since something on the way says no.

        It says ``onwire`` bytes. ``mtu`` stays until the size known before is not answered, and a
        smaller one is. Returns False, and does nothing, if it is no news, less than any path
        carries, another hint was refuted just now, or a search is under way, whose own probes cause
        such news.
        """
        known = self.onwire
        if known is None or self.searching or now < self._hints_after or not self._is_news(onwire):
            return False
        self._resumes_at = self.deadline
        self._begin(known, now)
        self._hint = onwire
        return True

    def refused(self, onwire: int, kernel_mtu: int | None, now: float) -> None:
        """Note that the system would not send the probe of ``onwire`` bytes (EMSGSIZE).

        ``kernel_mtu`` is the MTU that it knows of the way out, None if it did not say.
        """
        if self._candidate is None or onwire != self._candidate:
            return
        # What never left cannot be answered: such an answer is forged.
        self._asked.discard(onwire)
        # A hint is as bounded as everything else: it may be wrong each time.
        useful = self.probes < MAX_PROBES
        if useful and kernel_mtu is not None and self._good < kernel_mtu < onwire:
            self._hint = None
            self._bads.add(kernel_mtu + 1)
            self._try(kernel_mtu, now)
        else:
            self._is_bad(onwire, now)

    def reply_received(self, onwire: int, now: float) -> bool:
        """Take a reply into account; return False if this search did not ask for its size."""
        if onwire not in self._asked:
            return False
        if self._hint is not None:
            self._refute(now)
        elif self._candidate is not None and onwire > self._good:
            self._good = onwire
            # An answer that comes late proves as much as one in time.
            self._bads = {bad for bad in self._bads if bad > onwire}
            self._next(now)
        return True

    def _floor(self) -> int:
        # A ping of this size has been answered, or the link would not be up.
        envelope = self.sizes.envelope
        padded = PING_SIZE + (envelope.block - PING_SIZE % envelope.block if envelope.block else 0)
        return self.sizes.headers + envelope.salt + padded + envelope.hash

    def _is_news(self, onwire: int) -> bool:
        """Whether it is less than what is known, and a size that a path can have."""
        known = self.onwire
        usable = self.sizes.payload(onwire) >= self.sizes.minimum_payload
        return self.fixed is None and known is not None and onwire < known and usable

    def _begin(self, onwire: int, now: float) -> None:
        """Search afresh, with ``onwire`` as the first size."""
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
        """Search from ``hint`` on: the path does not carry the size ``known`` before any more."""
        # Its answer may come yet, and would prove as much as in time.
        asked = self._asked & {known}
        lost = self._lost & {known}
        self._begin(hint, now)
        self._lost |= lost
        self._asked |= asked
        self._bads |= {hint + 1, known}

    def _refute(self, now: float) -> None:
        """Go on as before the hint: the path carries as much as it did."""
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
            # What was known before is the better guess than half a search.
            self._candidate = None
            self.deadline = now + self.interval
        elif self._good == self._known:
            # Still as much; if one step more does not pass, nothing has changed.
            self._try(self._good + step, now)
        else:
            self._try((self._good + bad) // 2, now)

    def _adopt(self, onwire: int) -> bool:
        """Data goes by ``onwire`` from now on; whether that is enough for any."""
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
