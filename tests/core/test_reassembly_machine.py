"""Reassembly, with a network that reorders and repeats and a stranger who forges fragments."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from knet_trio._core.defrag import Reassembly
from knet_trio._core.onwire import MAX_MESSAGE, Data, decode_untrusted, encode_message
from knet_trio._core.window import SequenceWindow
from knet_trio.errors import DropCause
from tests.core.models import ReassemblyModel, WindowModel

# Small ones, and some around what makes a message of two or three too large.
SIZES = st.one_of(
    st.integers(1, 6),
    st.sampled_from([MAX_MESSAGE // 3, MAX_MESSAGE // 2, MAX_MESSAGE // 2 + 1, MAX_MESSAGE]),
)

FIELDS = ["compress", "channel", "broadcast", "frag_num", "frag_seq", "payload"]


class ReassemblyMachine(RuleBasedStateMachine):
    """Messages are sent, and their fragments arrive in any order, any number of times or never."""

    def __init__(self) -> None:
        super().__init__()
        self.drops: Counter[DropCause] = Counter()
        self.window = SequenceWindow()
        self.reassembly = Reassembly(self._drop, self.window, 3)
        self.model = ReassemblyModel(WindowModel(), 3)
        self.sent: dict[int, bytes] = {}
        self.forged: set[int] = set()
        self.in_the_air: list[Data] = []

    def _drop(self, cause: DropCause) -> None:
        self.drops[cause] += 1

    @rule(
        message=st.binary(min_size=6, max_size=18),
        size=st.integers(2, 5),
        channel=st.integers(0, 1),
    )
    def sends(self, message: bytes, size: int, channel: int) -> None:
        seq = len(self.sent) + 1
        self.sent[seq] = message
        packets = encode_message(
            message,
            node=1,
            seq=seq,
            compress=0,
            broadcast=True,
            channel=channel,
            fragment_size=size,
        )
        decoded = [decode_untrusted(packet) for packet in packets]
        self.in_the_air += [packet for packet in decoded if isinstance(packet, Data)]

    @precondition(lambda self: self.in_the_air)
    @rule(data=st.data(), again=st.booleans())
    def arrives(self, data: st.DataObject, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.in_the_air) - 1))
        self._add(self.in_the_air[index] if again else self.in_the_air.pop(index))

    @precondition(lambda self: self.in_the_air)
    @rule()
    def the_first_of_each_arrives(self) -> None:
        """So that all buffers are taken, and each message was touched in its turn."""
        for each in {each.seq: each for each in reversed(self.in_the_air)}.values():
            self.in_the_air.remove(each)
            self._add(each)

    @precondition(lambda self: self.in_the_air)
    @rule(data=st.data(), backwards=st.booleans())
    def the_rest_arrives(self, data: st.DataObject, backwards: bool) -> None:
        """It shows which messages were given up for others."""
        seq = data.draw(st.sampled_from(sorted({each.seq for each in self.in_the_air})))
        rest = [each for each in self.in_the_air if each.seq == seq]
        self.in_the_air = [each for each in self.in_the_air if each.seq != seq]
        for each in reversed(rest) if backwards else rest:
            self._add(each)

    @precondition(lambda self: self.in_the_air)
    @rule(data=st.data(), field=st.sampled_from(FIELDS), size=SIZES)
    def a_forged_one_arrives(self, data: st.DataObject, field: str, size: int) -> None:
        """It differs from one that was sent in one thing."""
        true = data.draw(st.sampled_from(self.in_the_air[-12:]))
        self.forged.add(true.seq)
        match field:
            case "compress" | "channel":
                self._add(true._replace(**{field: 1 - getattr(true, field)}))
            case "broadcast":
                self._add(true._replace(broadcast=not true.broadcast))
            case "frag_num":
                self._add(true._replace(frag_num=true.frag_num + 1))
            case "frag_seq":
                other = data.draw(st.integers(1, true.frag_num))
                self._add(true._replace(frag_seq=other))
            case _:
                self._add(true._replace(payload=bytes(size)))
                # It may be that those that were sent do not fit any more.
                self._add(true)

    @rule(limit=st.integers(1, 4))
    def may_hold(self, limit: int) -> None:
        self.reassembly.set_limit(limit)
        self.model.set_limit(limit)

    @rule()
    def gives_up(self) -> None:
        self.reassembly.clear()
        self.model.clear()

    def _add(self, fragment: Data) -> None:
        self.window.advance(fragment.seq)
        self.model.window.advance(fragment.seq)
        whole = self.reassembly.add(fragment)
        assert whole == self.model.add(fragment)
        if whole is not None and fragment.seq not in self.forged:
            assert whole == self.sent[fragment.seq]

    @invariant()
    def the_same_was_dropped(self) -> None:
        assert self.drops == self.model.drops

    @invariant()
    def the_same_is_held_and_no_more_than_may_be(self) -> None:
        assert len(self.reassembly) == len(self.model.partials) <= self.model.limit


TestReassemblyMachine = ReassemblyMachine.TestCase
# Much has to come together before a wrong order, or a fragment of another, shows.
TestReassemblyMachine.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=100
)
