"""The search for the path MTU, over a path that changes, loses, delays and misleads.

The model is the path. Of the search it knows only what it must never do, and that it finds what the
path carries whenever the path holds still for as long as a search takes.
"""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from knet_trio._core.onwire import PING_SIZE
from knet_trio._core.pmtud import ATTEMPTS, MAX_PROBES, PathMtuSearch, Probe
from knet_trio._core.sizes import CLEAR, MAX_ONWIRE, UDP_HEADER, EnvelopeSizes, PathSizes

ENVELOPES = st.sampled_from(
    [
        CLEAR,
        EnvelopeSizes(salt=16, hash=20, block=16),
        EnvelopeSizes(salt=16, hash=64, block=16),
        EnvelopeSizes(salt=16, hash=32, block=1),
        EnvelopeSizes(salt=0, hash=32, block=0),
    ]
)
SIZES = st.builds(PathSizes, st.booleans(), st.just(UDP_HEADER), ENVELOPES)
# Sizes of networks, those about them, what carries next to nothing, and all else.
MTUS = st.one_of(
    st.sampled_from([0, 576, 1280, 1492, 1500, 9000, MAX_ONWIRE]),
    st.integers(1400, 1520),
    st.integers(0, MAX_ONWIRE),
)
LATENCY = 2.0**-6
PONG_TIMEOUT = 2.0


def on_the_wire(sizes: PathSizes, length: int) -> int:
    """How large a packet is once it is enveloped and has its headers."""
    salt, digest, block = sizes.envelope
    padding = block - length % block if block > 1 else 0
    return sizes.headers + salt + length + padding + digest


class PathMtuMachine(RuleBasedStateMachine):
    """One link that is up, so that pings pass whatever else does."""

    @initialize(sizes=SIZES, carries=MTUS)
    def begins(self, sizes: PathSizes, carries: int) -> None:
        self.now = 100.0
        self.search = PathMtuSearch(sizes, interval=60.0)
        self.carries = carries
        # What the kernel lets out of the interface, and whether it says so.
        self.interface = MAX_ONWIRE
        self.tells = False
        # Of this search: what it sent, how often, and what came back; and answers on their way.
        self.left: set[int] = set()
        self.attempts: list[int] = []
        self.proven: set[int] = set()
        self.delayed: list[int] = []
        self.believed = self.search.mtu
        # The size known before, while it is asked for since a router says that less passes.
        self.checked: int | None = None

    @property
    def smallest(self) -> int:
        """What every ping takes; a stream cipher's size is a byte over what it sends."""
        sizes = self.search.sizes
        return on_the_wire(sizes, PING_SIZE) + (sizes.envelope.block == 1)

    def passes(self, size: int) -> bool:
        return size <= max(min(self.carries, self.interface), self.smallest)

    def started(self) -> None:
        """Another search: what came back to the one before proves nothing in it."""
        if self.search.fixed is not None:
            return
        self.checked = None
        self.left.clear()
        self.attempts.clear()
        self.proven.clear()

    # The path.

    @rule(carries=MTUS)
    def the_path_changes(self, carries: int) -> None:
        self.carries = carries

    @rule(interface=MTUS, tells=st.booleans())
    def the_interface_changes(self, interface: int, tells: bool) -> None:
        self.interface = interface
        self.tells = tells

    # The search.

    @rule()
    def it_is_started(self) -> None:
        self.search.start(self.now)
        self.started()
        self.settle()

    @rule(late=st.sampled_from([0.0, LATENCY, 5.0, 1000.0]))
    def it_is_polled(self, late: float) -> None:
        self.step(late, arrives=True)

    @rule()
    def a_probe_is_lost(self) -> None:
        self.step(0.0, arrives=False)

    @rule()
    def an_answer_is_late(self) -> None:
        probe = self.step(0.0, arrives=False)
        if probe is not None and self.passes(on_the_wire(self.search.sizes, probe.length)):
            self.delayed.append(probe.onwire)

    @precondition(lambda self: self.delayed)
    @rule(data=st.data(), twice=st.booleans())
    def a_late_answer_comes(self, data: st.DataObject, twice: bool) -> None:
        index = data.draw(st.integers(0, len(self.delayed) - 1))
        self.answer(self.delayed[index] if twice else self.delayed.pop(index))

    @rule(size=st.one_of(st.integers(-1, 70000), MTUS))
    def an_answer_is_forged(self, size: int) -> None:
        if size not in self.left:
            before = (self.search.mtu, self.search.deadline, self.search.searching)
            assert not self.search.reply_received(size, self.now)
            assert (self.search.mtu, self.search.deadline, self.search.searching) == before

    @precondition(lambda self: set(self.attempts) - self.left)
    @rule(data=st.data())
    def what_never_left_is_answered(self, data: st.DataObject) -> None:
        refused = sorted(set(self.attempts) - self.left)
        self.an_answer_is_forged(data.draw(st.sampled_from(refused)))

    @rule(size=MTUS)
    def something_else_is_refused(self, size: int) -> None:
        """The error queue speaks of what another link sent."""
        if size not in self.left:
            deadline = self.search.deadline
            self.search.refused(size + MAX_ONWIRE + 1, size, self.now)
            assert self.search.deadline == deadline

    @rule(size=MTUS)
    def data_is_too_large_for_the_interface(self, size: int) -> None:
        before = (self.search.mtu, self.search.onwire, self.search.deadline)
        if self.search.limited(size, self.now):
            assert before[1] is not None
            assert size < before[1]
            assert self.search.searching
            assert self.search.onwire == size
            assert self.search.mtu == self.search.sizes.payload(size)
            self.started()
            self.settle(changed=True)
            probe = self.step(0.0, arrives=False)
            assert probe is not None
            assert probe.onwire == size
        else:
            assert (self.search.mtu, self.search.onwire, self.search.deadline) == before

    @rule(size=MTUS)
    def a_router_says_how_much_passes(self, size: int) -> None:
        before = (self.search.mtu, self.search.onwire)
        if self.search.hinted(size, self.now):
            assert before[1] is not None
            assert size < before[1]
            self.started()
            self.checked = before[1]
            probe = self.step(0.0, arrives=False)
            assert probe is not None
            assert probe.onwire == before[1]
        # Words alone change nothing.
        assert (self.search.mtu, self.search.onwire) == before

    @precondition(lambda self: self.checked is not None)
    @rule(losses=st.integers(0, ATTEMPTS - 2))
    def a_router_is_refuted_or_right(self, losses: int) -> None:
        """It is right exactly if the size known before does not pass."""
        before = self.search.mtu, self.search.onwire
        known = self.checked
        assert known is not None
        if self.attempts.count(known) != 1 or self.interface < known:
            return
        passes = self.passes(on_the_wire(self.search.sizes, self.search.sizes.probe_length(known)))
        for _ in range(losses):
            self.step(0.0, arrives=False)
        while self.checked is not None:
            self.step(0.0, arrives=True)
        if passes:
            assert not self.search.searching
            assert (self.search.mtu, self.search.onwire) == before
            # Others have to wait, so that nobody can make probes at will.
            assert not self.search.hinted(known - 1, self.now)
        else:
            assert self.search.searching or (self.search.onwire or 0) < known

    @rule(losses=st.integers(0, ATTEMPTS - 1), afresh=st.booleans())
    def the_path_holds_still_for_a_search(self, losses: int, afresh: bool) -> None:
        if self.search.fixed is not None:
            return
        if afresh or not self.search.searching:
            self.it_is_started()
        elif self.attempts:
            # What was seen of the path before may not be true of it any more.
            return
        lost = 0
        while self.search.searching:
            lost = lost + 1 if lost < losses else 0
            self.step(0.0, arrives=lost == 0)
        self.it_has_found_what_the_path_carries()

    @precondition(lambda self: self.search.fixed is None)
    @rule(others=st.integers(0, 6))
    def an_answer_comes_when_the_search_has_gone_on(self, others: int) -> None:
        self.it_is_started()
        while self.search.searching and len(set(self.attempts)) < others:
            self.step(0.0, arrives=True)
        probe = self.step(0.0, arrives=False) if self.search.searching else None
        if probe is None:
            return
        while self.goes_on() and self.attempts[-1] == probe.onwire:
            self.step(0.0, arrives=False)
        if not self.goes_on():
            # It was over with that: an answer changes nothing until the next.
            return
        if self.passes(on_the_wire(self.search.sizes, probe.length)):
            self.answer(probe.onwire)
        while self.search.searching:
            self.step(0.0, arrives=True)
        self.it_has_found_what_the_path_carries()

    def it_has_found_what_the_path_carries(self) -> None:
        mtu = max(min(self.carries, self.interface), self.smallest)
        sizes = self.search.sizes
        fit = sizes.payload(mtu)
        found = self.search.mtu
        if mtu > MAX_ONWIRE - sizes.envelope.block:
            # The largest size of all need not end a cipher block: the last may be given away.
            assert found in (fit, fit - sizes.envelope.block)
        else:
            assert found == (fit if fit >= sizes.minimum_payload else None)

    def goes_on(self) -> bool:
        return self.search.searching

    def step(self, late: float, *, arrives: bool) -> Probe | None:
        """What comes next, at its time or later; the probe that was sent, if one was."""
        search = self.search
        if search.deadline == math.inf:
            assert not search.searching
            return None
        begins = not search.searching
        self.now = max(self.now, search.deadline) + late
        if begins:
            self.started()
        probe = search.poll(self.now, latency=LATENCY, pong_timeout=PONG_TIMEOUT)
        if probe is not None:
            self.sent(probe, arrives=arrives)
        self.settle()
        return probe

    def sent(self, probe: Probe, *, arrives: bool) -> None:
        """A probe meets the interface, then the path."""
        size = on_the_wire(self.search.sizes, probe.length)
        assert size <= probe.onwire <= MAX_ONWIRE
        if self.checked not in (None, probe.onwire):
            # The size known before was not answered, and a search has begun.
            assert self.attempts == [self.checked] * ATTEMPTS
            self.left &= {self.checked}
            self.attempts.clear()
            self.checked = None
        # There is no use in asking for what is known.
        assert probe.onwire > max(self.proven, default=self.smallest)
        self.attempts.append(probe.onwire)
        assert self.attempts.count(probe.onwire) <= ATTEMPTS
        assert len(set(self.attempts)) <= MAX_PROBES
        self.left.add(probe.onwire)
        if size > max(self.interface, self.smallest):
            self.left.discard(probe.onwire)
            if self.checked is not None:
                self.checked = None
                self.attempts.clear()
            self.search.refused(probe.onwire, self.interface if self.tells else None, self.now)
        elif arrives and self.passes(size):
            self.now += LATENCY
            self.answer(probe.onwire)

    def answer(self, size: int) -> None:
        asked = size in self.left
        if asked and self.checked is not None:
            self.checked = None
        elif asked and self.search.searching:
            self.proven.add(size)
        assert self.search.reply_received(size, self.now) is asked
        self.settle()

    # What others do to it.

    @rule(envelope=st.one_of(st.none(), ENVELOPES))
    def it_is_reset(self, envelope: EnvelopeSizes | None) -> None:
        sizes = None if envelope is None else self.search.sizes._replace(envelope=envelope)
        self.search.reset(sizes)
        self.checked = None
        self.delayed.clear()
        assert self.search.mtu == self.search.sizes.minimum_payload
        assert self.search.deadline == math.inf
        self.settle(changed=True)

    @rule(mtu=st.one_of(st.none(), st.integers(576, MAX_ONWIRE)))
    def it_is_fixed(self, mtu: int | None) -> None:
        self.search.fix(mtu, self.now)
        self.checked = None
        self.started()
        self.settle()
        if mtu is None:
            assert self.search.searching
        else:
            payload = self.search.sizes.payload(mtu)
            assert self.search.mtu == (payload if payload >= 1 else None)
            assert self.search.deadline == math.inf

    # What holds at all times.

    def settle(self, *, changed: bool = False) -> None:
        """What is believed changes with the end of a search, and goes no further than proof."""
        search = self.search
        if search.searching and not changed:
            assert search.mtu == self.believed
        elif search.fixed is None and search.mtu != self.believed and not changed:
            best = max(self.proven, default=self.smallest)
            payload = search.sizes.payload(best)
            assert search.onwire == best
            assert search.mtu == (payload if payload >= search.sizes.minimum_payload else None)
        self.believed = search.mtu

    @invariant()
    def it_asks_to_be_called_while_there_is_something_to_do(self) -> None:
        if self.search.searching:
            assert self.search.deadline < math.inf
            assert self.search.deadline <= self.now + PONG_TIMEOUT

    @invariant()
    def there_is_an_mtu_of_a_byte_at_least_or_none(self) -> None:
        assert self.search.mtu is None or self.search.mtu >= 1


TestPathMtuMachine = PathMtuMachine.TestCase
