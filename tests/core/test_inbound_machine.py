"""All that one host sends: messages, pings, silences and restarts, in any order."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import MAX_SEQ, Data
from knet_trio._core.runs import DataRun
from knet_trio.errors import DropCause
from tests.core.models import NUMBERS, WINDOW, SourceModel

STEPS = st.one_of(
    st.integers(0, 1),
    st.integers(-8, 8),
    st.integers(-WINDOW - 1, -WINDOW + 1),
    st.integers(WINDOW - 1, WINDOW + 1),
    st.integers(-NUMBERS // 2, NUMBERS // 2),
)
# About where ahead becomes behind.
HALF_WAY = [NUMBERS // 2 - 1, NUMBERS // 2, NUMBERS // 2 + 1]
LINKS = st.integers(0, 1)
PING_STEPS = st.one_of(st.none(), STEPS)


class SourceMachine(RuleBasedStateMachine):
    """A host speaks, falls silent and may speak again."""

    def __init__(self) -> None:
        super().__init__()
        self.drops: Counter[DropCause] = Counter()
        self.source = InboundSequence(self._drop, 2)
        self.model = SourceModel(2)

    def _drop(self, cause: DropCause) -> None:
        self.drops[cause] += 1

    def _number(self, step: int) -> int:
        return ((self.model.newest or 0) + step) % NUMBERS

    def _receive(self, data: Data) -> None:
        assert self.source.receive(data) == self.model.receive(data)

    @rule(step=STEPS)
    def whole_message(self, step: int) -> None:
        self._receive(Data(1, self._number(step), 0, False, 1, 0, 0, b"whole"))

    @rule(step=STEPS, count=st.integers(2, 4), channel=st.integers(0, 1), data=st.data())
    def fragment(self, step: int, count: int, channel: int, data: st.DataObject) -> None:
        frag_seq = data.draw(st.integers(1, count))
        self._receive(Data(1, self._number(step), 0, False, count, frag_seq, channel, b"part"))

    @rule(step=STEPS, count=st.integers(2, 3), backwards=st.booleans())
    def fragmented_message(self, step: int, count: int, backwards: bool) -> None:
        number = self._number(step)
        order = range(count, 0, -1) if backwards else range(1, count + 1)
        for frag_seq in order:
            self._receive(Data(1, number, 0, False, count, frag_seq, 0, b"part"))

    @rule(step=STEPS, messages=st.integers(2, 20))
    def run_of_messages(self, step: int, messages: int) -> None:
        number = min(self._number(step), MAX_SEQ + 1 - messages)
        payloads = [b"message %d" % i for i in range(messages)]
        self._receive_run(DataRun(1, number, 0, False, 1, 0, 0, payloads, 1))

    @rule(
        step=st.one_of(st.integers(-1, 1), STEPS),
        count=st.integers(2, 4),
        channel=st.integers(0, 1),
        packets=st.integers(2, 12),
        last=st.binary(min_size=1, max_size=4),
        shorter=st.booleans(),
        data=st.data(),
    )
    def run_of_fragments(
        self,
        step: int,
        count: int,
        channel: int,
        packets: int,
        last: bytes,
        shorter: bool,
        data: st.DataObject,
    ) -> None:
        first = data.draw(st.integers(1, count))
        # The last fragment of each message, or the last packet alone.
        payloads = [
            last if shorter and (first + i) % count == 0 else b"part" for i in range(packets)
        ]
        payloads[-1] = last
        run = DataRun(1, 0, 0, False, count, first, channel, payloads, count)
        number = min(self._number(step), MAX_SEQ + 1 - run.message_count)
        self._receive_run(run._replace(seq=number))

    def _receive_run(self, run: DataRun) -> None:
        assert self.source.receive_run(run) == self.model.receive_run(run)

    @rule(step=PING_STEPS, timed=st.booleans(), link=LINKS)
    def ping(self, step: int | None, timed: bool, link: int = 0) -> None:
        # A host that has sent nothing since it began says 0.
        number = 0 if step is None else self._number(step)
        self.source.ping_received(number, timed=timed, link=link)
        self.model.ping_received(number, timed=timed, link=link)

    @rule(link=LINKS)
    def ping_of_one_that_has_sent_nothing(self, link: int) -> None:
        self.ping(None, timed=True, link=link)

    @rule(step=st.one_of(STEPS, st.sampled_from(HALF_WAY)), timed=st.booleans())
    def silence_and_then_a_ping(self, step: int, timed: bool) -> None:
        self.contact_is_lost()
        self.ping(step, timed=timed)

    @rule()
    def contact_is_found(self) -> None:
        self.source.contact_found()
        self.model.contact_found()

    @rule()
    def contact_is_lost(self) -> None:
        self.source.contact_lost()
        self.model.contact_lost()

    @rule()
    def is_forgotten(self) -> None:
        self.source.clear()
        self.model.clear()

    @rule(limit=st.integers(1, 3))
    def may_hold(self, limit: int) -> None:
        self.source.set_buffers(limit)
        self.model.set_buffers(limit)

    @invariant()
    def the_same_is_known(self) -> None:
        assert self.source.newest == self.model.newest
        assert self.source.pending == self.model.pending
        assert self.drops == self.model.drops


TestSourceMachine = SourceMachine.TestCase
# Much has to come together before a wrong order, or a fragment of another, shows.
TestSourceMachine.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=100
)
