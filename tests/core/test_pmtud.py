"""The search for the path MTU, against simulated paths."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.onwire import PING_SIZE
from knet_trio._core.pmtud import ATTEMPTS, HINT_PAUSE, MAX_PROBES, PathMtuSearch, Probe
from knet_trio._core.sizes import CLEAR, MAX_ONWIRE, UDP_HEADER, EnvelopeSizes, PathSizes

CBC = EnvelopeSizes(salt=16, hash=32, block=16)
CTR = EnvelopeSizes(salt=16, hash=32, block=1)
HASH_ONLY = EnvelopeSizes(salt=0, hash=32, block=0)

LATENCY = 0.01
PONG_TIMEOUT = 2.0
START = 100.0

ALL_SIZES = st.builds(
    PathSizes,
    st.booleans(),
    st.just(UDP_HEADER),
    st.sampled_from([CLEAR, CBC, CTR, HASH_ONLY]),
)


def on_the_wire(sizes: PathSizes, probe: Probe) -> int:
    """How large the probe is once it is enveloped and has its headers."""
    envelope, length = sizes.envelope, probe.length
    if envelope.block > 1:
        length += envelope.block - length % envelope.block
    return sizes.headers + envelope.salt + length + envelope.hash


class SimulatedPath:
    """A path that carries up to ``mtu`` bytes, behind an interface that takes up to ``local``.

    ``hint`` is what the kernel says with a refusal. ``lost`` tells, for each probe that would go
    through, whether it is lost all the same.
    """

    def __init__(
        self,
        search: PathMtuSearch,
        mtu: int,
        *,
        local: int = MAX_ONWIRE,
        hint: Callable[[int], int | None] = lambda _: None,
        lost: Callable[[Probe], bool] = lambda _: False,
    ) -> None:
        self.search = search
        self.mtu = mtu
        self.local = local
        self.hint = hint
        self.lost = lost
        self.now = START
        self.sent: list[Probe] = []

    def run(self) -> None:
        """From the start of a search to its end, with a clock that only jumps to the deadline."""
        self.search.start(self.now)
        while self.search.searching:
            self.step()
            assert len(self.sent) <= ATTEMPTS * (MAX_PROBES + 1)

    def step(self) -> None:
        search = self.search
        self.now = max(self.now, search.deadline)
        probe = search.poll(self.now, latency=LATENCY, pong_timeout=PONG_TIMEOUT)
        if probe is None:
            return
        self.sent.append(probe)
        size = on_the_wire(search.sizes, probe)
        assert size <= probe.onwire
        if size > self.local:
            search.refused(probe.onwire, self.hint(probe.onwire), self.now)
        elif size <= self.mtu and not self.lost(probe):
            self.now += LATENCY
            assert search.reply_received(probe.onwire, self.now)


def largest_payload(sizes: PathSizes, mtu: int) -> int:
    """The most user bytes whose probe still fits, found the slow way."""
    return max(
        sizes.payload(onwire)
        for onwire in range(mtu, min(mtu + 20, MAX_ONWIRE) + 1)
        if on_the_wire(sizes, Probe(onwire, sizes.probe_length(onwire))) <= mtu
    )


def smallest_mtu(sizes: PathSizes) -> int:
    return 1280 if sizes.ipv6 else 576


def paths() -> st.SearchStrategy[tuple[PathSizes, int]]:
    """Sizes, and an MTU that is fit for data with them."""
    return ALL_SIZES.flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.integers(smallest_mtu(sizes), MAX_ONWIRE))
    )


class TestFinding:
    @given(paths())
    def test_it_finds_the_largest_size_a_silent_path_carries(
        self, path: tuple[PathSizes, int]
    ) -> None:
        sizes, mtu = path
        search = PathMtuSearch(sizes)
        simulated = SimulatedPath(search, mtu)
        simulated.run()
        assert search.mtu == largest_payload(sizes, mtu)
        # One for the largest size, and one for each halving, down to a block of the cipher.
        assert search.probes <= 1 + math.log2(65536 / max(1, sizes.envelope.block))

    @given(paths())
    def test_it_finds_it_in_two_probes_where_the_kernel_tells(
        self, path: tuple[PathSizes, int]
    ) -> None:
        sizes, mtu = path
        search = PathMtuSearch(sizes)
        simulated = SimulatedPath(search, mtu, local=mtu, hint=lambda _: mtu)
        simulated.run()
        assert search.onwire == mtu or mtu == MAX_ONWIRE - 1
        assert search.mtu == sizes.payload(search.onwire or 0)
        assert len(simulated.sent) <= 2

    @given(paths())
    def test_it_finds_it_where_the_kernel_refuses_without_telling(
        self, path: tuple[PathSizes, int]
    ) -> None:
        sizes, mtu = path
        search = PathMtuSearch(sizes)
        simulated = SimulatedPath(search, mtu, local=mtu)
        simulated.run()
        assert search.mtu == largest_payload(sizes, mtu)
        # Nothing was waited for: refusals come at once.
        assert len(simulated.sent) == search.probes
        assert simulated.now <= START + LATENCY * (len(simulated.sent) + 1)

    @given(paths(), st.integers(0, 3000))
    def test_it_finds_a_path_narrower_than_the_interface(
        self, path: tuple[PathSizes, int], wider: int
    ) -> None:
        sizes, mtu = path
        local = min(mtu + wider, MAX_ONWIRE)
        search = PathMtuSearch(sizes)
        SimulatedPath(search, mtu, local=local, hint=lambda _: local).run()
        assert search.mtu in (largest_payload(sizes, mtu), sizes.payload(mtu))

    @given(paths(), st.data())
    def test_lost_probes_are_tried_again(
        self, path: tuple[PathSizes, int], data: st.DataObject
    ) -> None:
        sizes, mtu = path
        losses: dict[int, int] = {}

        def lost(probe: Probe) -> bool:
            left = losses.get(probe.onwire)
            if left is None:
                left = data.draw(st.integers(0, ATTEMPTS - 1))
            losses[probe.onwire] = left - 1
            return left > 0

        search = PathMtuSearch(sizes)
        SimulatedPath(search, mtu, lost=lost).run()
        assert search.mtu == largest_payload(sizes, mtu)

    @given(paths(), st.data())
    def test_hints_that_make_no_sense_and_any_loss_still_end_in_bounded_probes(
        self, path: tuple[PathSizes, int], data: st.DataObject
    ) -> None:
        sizes, mtu = path
        hints = st.one_of(st.none(), st.integers(-5, 70000))
        search = PathMtuSearch(sizes)
        simulated = SimulatedPath(
            search,
            mtu,
            local=data.draw(st.integers(0, MAX_ONWIRE)),
            hint=lambda _: data.draw(hints),
            lost=lambda _: data.draw(st.booleans()),
        )
        simulated.run()
        assert not search.searching
        assert simulated.now < search.deadline < math.inf

    def test_hints_that_creep_downwards_are_given_up_on_and_what_was_known_stays(self) -> None:
        sizes = PathSizes(False, UDP_HEADER, CLEAR)
        search = PathMtuSearch(sizes, interval=60.0)
        SimulatedPath(search, 1500).run()
        assert search.mtu == 1446
        creeping = SimulatedPath(search, 0, local=0, hint=lambda onwire: onwire - 1)
        creeping.now = search.deadline
        creeping.run()
        assert search.probes == MAX_PROBES
        assert search.mtu == 1446
        assert search.onwire == 1500
        assert search.deadline == creeping.now + 60.0

    def test_a_path_too_narrow_for_data_has_no_mtu(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 575).run()
        assert search.mtu is None
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 576).run()
        assert search.mtu == search.sizes.minimum_payload

    @pytest.mark.parametrize("envelope", [CLEAR, CBC, CTR, HASH_ONLY])
    def test_a_path_that_carries_nothing_but_pings_has_no_mtu(
        self, envelope: EnvelopeSizes
    ) -> None:
        sizes = PathSizes(False, UDP_HEADER, envelope)
        search = PathMtuSearch(sizes)
        SimulatedPath(search, 0).run()
        assert search.mtu is None
        # A ping is known to come through; a stream cipher's size is a byte over what it sends.
        ping = on_the_wire(sizes, Probe(0, PING_SIZE))
        assert search.onwire == ping + (envelope.block == 1)


class TestWaiting:
    def waiting(self, *, latency: float, pong_timeout: float) -> float:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.start(START)
        assert search.poll(START, latency=latency, pong_timeout=pong_timeout) is not None
        return search.deadline - START

    def test_an_answer_is_waited_for_some_round_trips(self) -> None:
        assert self.waiting(latency=0.125, pong_timeout=2.0) == 1.0

    def test_a_fast_path_is_still_given_a_tenth_of_a_second(self) -> None:
        assert math.isclose(self.waiting(latency=0.0, pong_timeout=2.0), 0.1)

    def test_never_longer_than_for_a_pong(self) -> None:
        assert self.waiting(latency=10.0, pong_timeout=2.0) == 2.0
        assert self.waiting(latency=0.0, pong_timeout=0.0625) == 0.0625

    def test_a_size_is_asked_for_three_times_before_it_is_held_for_bad(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        path = SimulatedPath(search, 0)
        search.start(START)
        for _ in range(4):
            path.step()
        first, second, third, fourth = (probe.onwire for probe in path.sent)
        assert first == second == third == MAX_ONWIRE
        assert fourth < MAX_ONWIRE

    def test_nothing_is_sent_before_the_deadline(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        assert search.deadline == math.inf
        assert search.poll(START, latency=0.0, pong_timeout=2.0) is None
        search.start(START)
        first = search.poll(START, latency=0.125, pong_timeout=2.0)
        assert first == Probe(MAX_ONWIRE, MAX_ONWIRE - 28)
        assert search.poll(START + 0.5, latency=0.125, pong_timeout=2.0) is None
        assert search.poll(START + 1.0, latency=0.125, pong_timeout=2.0) == first


def search_at(candidate_mtu: int) -> tuple[PathMtuSearch, int, int]:
    """A search in the clear that holds one size for bad, wrongly, and asks for a smaller one."""
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    path = SimulatedPath(search, candidate_mtu, lost=lambda _: True)
    search.start(START)
    while len({probe.onwire for probe in path.sent}) < 3:
        path.step()
    sizes = list(dict.fromkeys(probe.onwire for probe in path.sent))
    return search, sizes[1], sizes[2]


class TestAnswers:
    def test_an_answer_nobody_asked_for_is_told_apart(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        assert search.reply_received(1500, START) is False
        search.start(START)
        assert search.reply_received(MAX_ONWIRE, START) is False
        search.poll(START, latency=0.0, pong_timeout=2.0)
        assert search.reply_received(MAX_ONWIRE - 1, START) is False
        assert search.reply_received(MAX_ONWIRE, START) is True
        assert search.mtu == 65481

    def test_an_answer_to_the_search_before_is_none_to_this_one(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 1500).run()
        search.start(START + 60)
        assert search.reply_received(1500, START + 60) is False

    def test_a_second_answer_to_the_same_probe_changes_nothing(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 1500).run()
        result = (search.mtu, search.onwire, search.deadline)
        assert search.reply_received(1500, START + 99) is True
        assert (search.mtu, search.onwire, search.deadline) == result

    def test_a_late_answer_shows_that_a_size_held_for_bad_is_good(self) -> None:
        search, held_for_bad, smaller = search_at(40000)
        assert smaller < held_for_bad < 40000
        assert search.reply_received(held_for_bad, START + 50)
        # What is larger is open again, up to what was not taken back.
        path = SimulatedPath(search, 40000)
        path.now = START + 50
        while search.searching:
            path.step()
        assert search.onwire == 40000

    def test_an_answer_smaller_than_what_is_known_to_be_good_changes_nothing(self) -> None:
        search, held_for_bad, smaller = search_at(40000)
        search.reply_received(held_for_bad, START + 50)
        deadline = search.deadline
        assert search.reply_received(smaller, START + 51) is True
        assert search.searching
        assert search.deadline == deadline

    def test_a_refusal_of_what_is_not_being_asked_changes_nothing(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.refused(1500, 1400, START)
        assert not search.searching
        search.start(START)
        search.poll(START, latency=0.0, pong_timeout=2.0)
        deadline = search.deadline
        search.refused(1500, 1400, START)
        assert search.deadline == deadline


class TestResult:
    def test_before_a_search_has_ended_it_is_what_every_path_carries(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CBC))
        assert search.mtu == 469
        assert search.onwire is None
        assert search.overhead == 0

    def test_after_a_search_the_overhead_is_known(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CBC))
        SimulatedPath(search, 1500, local=1500, hint=lambda _: 1500).run()
        assert (search.mtu, search.overhead) == (1397, 102)

    def test_it_stays_during_the_next_search(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 1500).run()
        search.start(START + 60)
        assert search.searching
        assert search.mtu == 1446

    def test_the_next_search_begins_by_itself_an_interval_later_and_sees_the_path_change(
        self,
    ) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR), interval=10.0)
        path = SimulatedPath(search, 1500)
        path.run()
        assert search.deadline == path.now + 10.0
        path.mtu = 9000
        path.step()
        while search.searching:
            path.step()
        assert path.now > START + 10.0
        assert search.mtu == 9000 - 54

    def test_a_path_that_seems_too_small_gets_a_second_look_soon_and_ever_later_ones(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR), interval=5.0)
        path = SimulatedPath(search, 400)
        for wait in (1.0, 2.0, 4.0, 5.0, 5.0):
            path.run()
            assert search.mtu is None
            assert search.deadline == path.now + wait
            path.now = search.deadline
            path.sent.clear()
        path.mtu = 1500
        path.run()
        assert search.mtu == 1446
        assert search.deadline == path.now + 5.0
        # It was an interruption; so may the next one be.
        path.mtu = 400
        path.run()
        assert search.deadline == path.now + 1.0

    def test_a_reset_is_back_at_the_minimum_and_searches_no_more(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        SimulatedPath(search, 1500).run()
        search.reset()
        assert search.mtu == 522
        assert search.overhead == 0
        assert search.deadline == math.inf
        assert not search.searching

    def test_a_reset_may_bring_another_envelope(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.reset(PathSizes(False, UDP_HEADER, CBC))
        assert search.mtu == 469

    def test_an_envelope_that_leaves_nothing_of_the_smallest_path_still_allows_a_byte(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, EnvelopeSizes(16, 1000, 16)))
        assert search.mtu == 1
        search.reset()
        assert search.mtu == 1


class TestFixed:
    def test_a_fixed_mtu_is_taken_without_a_probe(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.fix(1400, START)
        assert (search.mtu, search.onwire) == (1346, 1400)
        assert search.deadline == math.inf
        search.start(START + 1)
        assert not search.searching

    def test_it_may_be_under_the_minimum_if_a_byte_is_left(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.fix(55, START)
        assert search.mtu == 1
        search.fix(54, START)
        assert search.mtu is None

    def test_after_a_reset_a_poll_takes_it_again(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.fix(1400, START)
        search.reset()
        assert search.mtu == 522
        search.deadline = START + 1
        assert search.poll(START + 1, latency=0.0, pong_timeout=2.0) is None
        assert search.mtu == 1346

    def test_without_it_the_search_begins_again(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.fix(1400, START)
        search.fix(None, START + 1)
        assert search.searching
        assert search.deadline == START + 1

    def test_the_overhead_is_known_once_a_search_has_ended(self) -> None:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
        search.fix(1400, START)
        assert search.overhead == 0
        search.fix(None, START)
        SimulatedPath(search, 1500).run()
        assert search.overhead == 54
        search.fix(1400, START)
        assert search.overhead == 54


class TestHints:
    """What something on the way says of the size it takes."""

    def found(self, mtu: int = 1500) -> tuple[PathMtuSearch, SimulatedPath]:
        search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR), interval=60.0)
        path = SimulatedPath(search, mtu)
        path.run()
        path.sent.clear()
        return search, path

    def finish(self, search: PathMtuSearch, path: SimulatedPath) -> list[int]:
        """The sizes that are asked for until nothing is."""
        while search.searching:
            path.step()
        return [probe.onwire for probe in path.sent]

    def test_one_that_is_forged_costs_a_probe_and_changes_nothing(self) -> None:
        search, path = self.found()
        before = (search.mtu, search.onwire, search.deadline)
        assert search.hinted(600, path.now)
        assert search.mtu == before[0]
        assert self.finish(search, path) == [1500]
        assert (search.mtu, search.onwire, search.deadline) == before

    def test_one_that_is_true_is_believed_when_the_old_size_is_not_answered(self) -> None:
        search, path = self.found()
        path.mtu = 1400
        began = path.now
        assert search.hinted(1400, path.now)
        assert self.finish(search, path) == [1500] * ATTEMPTS + [1400]
        assert search.onwire == 1400
        assert path.now - began < 4 * 0.1

    def test_a_lost_probe_is_no_proof_of_it(self) -> None:
        search, path = self.found()
        losses = iter([True] * (ATTEMPTS - 1))

        def lost(_: Probe) -> bool:
            return next(losses, False)

        path.lost = lost
        search.hinted(600, path.now)
        assert self.finish(search, path) == [1500] * ATTEMPTS
        assert search.onwire == 1500

    def test_an_answer_that_comes_late_takes_it_back(self) -> None:
        search, path = self.found()

        def lost(probe: Probe) -> bool:
            return answers_late and probe.onwire == 1500

        answers_late = True
        path.lost = lost
        search.hinted(600, path.now)
        while path.sent.count(path.sent[-1] if path.sent else Probe(0, 0)) < ATTEMPTS:
            path.step()
        now = search.deadline
        probe = search.poll(now, latency=LATENCY, pong_timeout=PONG_TIMEOUT)
        assert probe is not None
        assert probe.onwire == 600
        assert search.reply_received(1500, now)
        answers_late = False
        self.finish(search, path)
        assert search.onwire == 1500

    def test_others_are_not_looked_into_for_a_while_after_a_forged_one(self) -> None:
        search, path = self.found()
        search.hinted(600, path.now)
        assert not search.hinted(700, path.now)
        self.finish(search, path)
        assert not search.hinted(600, path.now)
        assert not search.hinted(600, path.now + HINT_PAUSE - 0.25)
        assert search.hinted(600, path.now + HINT_PAUSE)

    def test_a_search_that_was_due_meanwhile_is_made_up_for(self) -> None:
        search, path = self.found()
        path.now = search.deadline - LATENCY / 2
        search.hinted(600, path.now)
        self.finish(search, path)
        assert search.deadline == path.now
        path.step()
        assert search.searching

    def test_this_machine_refuses_the_size_known_before(self) -> None:
        search, path = self.found()
        search.hinted(600, path.now)
        path.mtu = path.local = 1400

        def hint(_: int) -> int:
            return 1400

        path.hint = hint
        assert self.finish(search, path) == [1500, 1400]
        assert search.onwire == 1400


def test_a_later_search_begins_with_what_the_last_one_found() -> None:
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    search.start(0.0)
    assert probe_sizes(search, carries=1500) == [65535, 1500]
    search.reset()
    search.start(10.0)
    assert probe_sizes(search, carries=1500, now=10.0) == [1500, 1501]
    assert search.onwire == 1500
    search.start(20.0)
    # It has grown: the step more is answered, so the search goes on from there.
    assert probe_sizes(search, carries=9000, now=20.0)[:2] == [1500, 1501]
    assert search.onwire == 9000
    search.start(30.0)
    assert probe_sizes(search, carries=1400, now=30.0)[:2] == [9000, 1400]
    assert search.onwire == 1400


@pytest.mark.parametrize("envelope", [CLEAR, CBC, CTR, HASH_ONLY])
def test_a_path_that_carried_nothing_but_pings_is_found_to_carry_more(
    envelope: EnvelopeSizes,
) -> None:
    sizes = PathSizes(False, UDP_HEADER, envelope)
    search = PathMtuSearch(sizes)
    path = SimulatedPath(search, 0)
    path.run()
    assert search.mtu is None
    path.mtu = 1500
    path.run()
    assert search.mtu == largest_payload(sizes, 1500)


def test_what_was_found_under_a_smaller_envelope_may_be_less_than_a_ping_takes() -> None:
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    path = SimulatedPath(search, 0)
    path.run()
    sizes = PathSizes(False, UDP_HEADER, CBC)
    search.reset(sizes)
    path.mtu = 1500
    path.run()
    assert search.mtu == largest_payload(sizes, 1500)


def probe_sizes(search: PathMtuSearch, *, carries: int, now: float = 0.0) -> list[int]:
    """What a search asks of a path whose kernel knows its MTU."""
    sizes: list[int] = []
    while search.searching:
        probe = search.poll(now, latency=0.001, pong_timeout=1.0)
        assert probe is not None
        sizes.append(probe.onwire)
        if probe.onwire > carries:
            search.refused(probe.onwire, carries, now)
        else:
            search.reply_received(probe.onwire, now)
    return sizes
