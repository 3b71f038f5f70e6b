"""How connections begin and end, whatever comes late or twice."""

from __future__ import annotations

import pytest

from knet_trio.streams._core.connection_stages import (
    CONNECTION_TRANSITIONS,
    ConnectionCue,
    ConnectionStage,
)
from knet_trio.streams._core.conversation import Conversation
from knet_trio.streams._core.faults import Fault
from knet_trio.streams._core.limits import (
    GREETINGS,
    KEEPALIVE,
    MAX_STREAMS,
    PROBES,
)
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import Failure, FailureCause, StreamState
from knet_trio.streams._core.wire import (
    RECEIVING,
    SENDING,
    Code,
    DataFrame,
    StreamKind,
    StreamPacketKind,
)
from knet_trio.streams._core.wire_reading import read_frames_untrusted
from knet_trio.streams._core.wire_writing import write_data_head, write_packet
from tests.streams.core.lossy import PATIENCE, TwoSides, Weather

BOTH = SENDING | RECEIVING


def joined(two: TwoSides, opener: int = 0) -> tuple[StreamState, StreamState]:
    """Open a stream, and return both ends of it."""
    here = two.open(opener)
    two.run_until(lambda: bool(two.opened[1 - opener]))
    there = two.opened[1 - opener].pop()
    two.connection(1 - opener).accept(there, two.now)
    two.run_until(lambda: here.accepted)
    return here, there


def say(two: TwoSides, side: int, stream: StreamState, other: StreamState, text: bytes) -> None:
    """Send something on a stream, and wait until it is there."""
    two.connection(side).write(stream, text)
    two.run_until(lambda: other.receiving.available >= len(text))
    assert two.read(1 - side, other) == text


def test_both_ways() -> None:
    two = TwoSides()
    here, there = joined(two)
    say(two, 0, here, there, b"hello")
    say(two, 1, there, here, b"good day")
    assert two.faults == []


def test_both_begin_at_the_same_time() -> None:
    two = TwoSides()
    streams = [two.open(side) for side in (0, 1)]
    two.run_until(lambda: bool(two.opened[0] and two.opened[1]))
    assert two.connection(0).local == two.connection(1).remote
    assert two.connection(1).local == two.connection(0).remote
    for side, stream in enumerate(streams):
        say(two, side, stream, two.opened[1 - side][0], b"at once")
    assert not two.ended[0]
    assert not two.ended[1]


@pytest.mark.parametrize("seed", range(50))
def test_greetings_that_are_lost_and_repeated(seed: int) -> None:
    two = TwoSides(seed)
    two.weather = Weather(loss=0.5, duplicate=0.5, reorder=0.5, jitter=0.3)
    streams = [two.open(side) for side in (0, 1)]
    two.run_until(lambda: bool(two.opened[0] and two.opened[1]))
    two.weather = Weather()
    for side, stream in enumerate(streams):
        say(two, side, stream, two.opened[1 - side][0], b"at last")
    assert not two.ended[0]
    assert not two.ended[1]


def test_a_greeting_that_nobody_wants_anything_with_is_given_up() -> None:
    two = TwoSides()
    two.cut = True
    two.sides[0].begin(two.now)
    two.run_for(60)
    assert two.sent[0] == GREETINGS
    assert two.sides[0].connection is None


def test_a_greeting_lasts_as_long_again_with_news_of_the_links() -> None:
    two = TwoSides()
    two.cut = True
    greeting = two.sides[0].begin(two.now)
    for _ in range(2 * GREETINGS):
        two.run_for(0.01)
        two.sides[0].hint(two.now)
    two.run_for(0.5)
    assert two.sides[0].connection is greeting
    two.run_for(60)
    assert two.sides[0].connection is None


def test_an_old_greeting_changes_nothing() -> None:
    two = TwoSides()
    recorded: list[bytes] = []

    def record(side: int, packet: bytes) -> None:
        if side == 0:
            recorded.append(packet)

    two.tap = record
    here, there = joined(two)
    say(two, 0, here, there, b"before")
    # The same process has another connection by now.
    two.sides[0].close(Failure(FailureCause.CLOSED_HERE, ""), Code.CLOSED, two.now)
    two.run_for(PATIENCE + 1)
    old = list(recorded)
    here, there = joined(two)
    for packet in old:
        two.deliver(1, packet)
        two.run_for(0.1)
    say(two, 0, here, there, b"still here")
    assert two.opened[1] == []


def test_a_restart_is_found_by_the_next_packet() -> None:
    two = TwoSides()
    here, _ = joined(two)
    two.restart(1)
    two.run_for(KEEPALIVE + 0.5)
    assert here.sending_failure is not None
    assert here.sending_failure.cause is FailureCause.FORGOTTEN
    joined(two)


def test_a_restart_is_found_by_a_greeting() -> None:
    two = TwoSides()
    here, _ = joined(two)
    two.restart(1)
    two.sides[1].begin(two.now)
    two.run_for(0.1)
    assert here.sending_failure is not None
    assert here.sending_failure.cause in (FailureCause.RESTARTED, FailureCause.FORGOTTEN)
    joined(two)


def test_packets_of_before_a_restart_are_refused() -> None:
    two = TwoSides()
    recorded: list[bytes] = []
    two.tap = lambda side, packet: recorded.append(packet) if side == 0 else None
    here, there = joined(two)
    say(two, 0, here, there, b"do it")
    two.restart(1)
    for packet in recorded:
        two.deliver(1, packet)
    two.run_for(5)
    assert two.opened[1] == []
    # Its answers to the old greetings are for nobody.
    assert {error.fault for error in two.faults} == {Fault.NO_CONNECTION}


def test_who_is_silent_for_too_long_is_given_up_and_may_come_back() -> None:
    two = TwoSides()
    here, there = joined(two)
    began = two.now
    two.cut = True
    two.run_until(lambda: here.sending_failure is not None)
    assert PATIENCE - 2 < two.now - began < PATIENCE + 2
    assert here.sending_failure is not None
    assert here.sending_failure.cause is FailureCause.SILENCE
    two.run_until(lambda: there.receiving_failure is not None)
    two.cut = False
    here, there = joined(two)
    say(two, 1, there, here, b"again")


def test_a_side_that_gave_up_tells_the_other_when_it_hears_of_it() -> None:
    two = TwoSides()
    _, there = joined(two)
    # Only one side gives up.
    two.sides[0].close(Failure(FailureCause.CLOSED_HERE, ""), Code.CLOSED, two.now)
    two.connection(1).write(there, b"are you there?")
    two.run_for(0.1)
    assert there.sending_failure == Failure(FailureCause.FORGOTTEN, "")


def test_closing_is_told_with_its_reason() -> None:
    two = TwoSides()
    here, there = joined(two)
    failure = Failure(FailureCause.CLOSED_HERE, "time to go")
    for packet in two.sides[0].close(failure, Code.CLOSED, two.now):
        two.deliver(1, packet)
    assert here.sending_failure == failure
    assert there.receiving_failure == Failure(FailureCause.CLOSED, "time to go")


def test_idle_streams_are_kept_alive_and_idle_connections_are_silent() -> None:
    two = TwoSides()
    here, there = joined(two)
    two.run_for(5)
    before = sum(two.sent)
    two.run_for(100)
    assert 180 < sum(two.sent) - before < 500
    for side, stream in ((0, here), (1, there)):
        two.connection(side).reset(stream, BOTH, Code.CANCELLED)
    two.run_for(5)
    before = sum(two.sent)
    two.run_for(1000)
    assert sum(two.sent) == before
    assert two.sides[0].connection is not None


def test_a_process_that_was_stopped_does_not_take_that_for_silence() -> None:
    two = TwoSides()
    here, there = joined(two)
    # Nobody polls for a minute, and nothing is delivered.
    two.now += 60
    two.run_for(5)
    assert here.sending_failure is None
    say(two, 0, here, there, b"I am back")


def test_streams_are_opened_as_far_as_the_other_side_lets_them() -> None:
    two = TwoSides()
    streams = [two.open(0) for _ in range(MAX_STREAMS)]
    assert two.sides[0].open(StreamKind.STREAM, two.now) is None
    two.run_until(lambda: len(two.opened[1]) == MAX_STREAMS)
    for stream in streams[: MAX_STREAMS // 2]:
        two.connection(0).reset(stream, BOTH, Code.CANCELLED)
    two.run_for(1)
    for stream in two.opened[1]:
        if stream.receiving.stage is ReceivingStage.RESET:
            two.connection(1).reset(stream, BOTH, Code.CANCELLED)
    two.run_until(lambda: two.connection(0).can_open)
    assert two.connection(0).room_to_open
    two.open(0)
    assert two.faults == []


def test_a_stream_is_opened_once_however_often_its_packets_come() -> None:
    two = TwoSides()
    recorded: list[bytes] = []
    two.tap = lambda side, packet: recorded.append(packet) if side == 0 else None
    asked = two.open(0, StreamKind.REQUEST)
    two.connection(0).write(asked, b"once")
    two.connection(0).finish(asked)
    two.run_until(lambda: bool(two.opened[1]))
    (there,) = two.opened[1]
    assert two.read(1, there) == b"once"
    two.connection(1).end_read(there)
    two.connection(1).finish(there)
    two.run_for(1)
    assert there.is_over
    frame = write_data_head(asked.key, StreamKind.REQUEST, 0, 4, last=True) + b"once"
    connection = two.connection(0)
    # As if it had been sent again in other packets.
    recorded += [
        write_packet(
            StreamPacketKind.FRAMES,
            connection.local,
            connection.remote,
            number,
            (frame,),
            checked=True,
        )
        for number in range(1000, 1010)
    ]
    for packet in recorded * 2:
        two.deliver(1, packet)
    assert len(two.opened[1]) == 1


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_question_and_an_answer_of_one_packet_each(loss: float) -> None:
    two = TwoSides()
    joined(two)
    two.weather = Weather(loss=loss, duplicate=loss, reorder=loss)
    two.run_for(1)
    short = 0
    for number in range(300):
        # Some are empty, and some do not go into one packet.
        question = b"%d?" % number * (number % 700)
        asked = two.open(0, StreamKind.REQUEST)
        short += two.say_whole(0, asked, question)
        two.run_until(lambda: bool(two.opened[1]))
        there = two.opened[1].pop()
        assert there.kind is StreamKind.REQUEST
        two.run_until(lambda: there.receiving.stage is ReceivingStage.WHOLE)  # noqa: B023
        assert two.connection(1).read_whole(there) == question
        short += two.say_whole(1, there, question.upper())
        two.run_until(lambda: asked.receiving.stage is ReceivingStage.WHOLE)  # noqa: B023
        assert two.connection(0).read_whole(asked) == question.upper()
        two.run_until(lambda: asked.is_over)  # noqa: B023
    # The stream that was there before is left.
    two.run_until(lambda: len(two.connection(1).streams) == 1)
    assert short > (500 if not loss else 50)
    assert {error.fault for error in two.faults} <= {Fault.DUPLICATE}
    if not loss:
        # The acknowledgements went along.
        assert sum(two.sent) < 2 * 300 + 300


def test_nothing_goes_the_short_way_that_has_to_wait_or_has_begun() -> None:
    two = TwoSides()
    here = two.open(0, StreamKind.REQUEST)
    # The other side's id is not known.
    assert not two.say_whole(0, here, b"first")
    two.run_until(lambda: bool(two.opened[1]))
    there = two.opened[1].pop()
    two.connection(1).write(there, b"a beginning")
    assert not two.say_whole(1, there, b"the rest")
    two.run_until(lambda: here.receiving.stage is ReceivingStage.WHOLE)
    assert two.connection(0).read_whole(here) == b"a beginningthe rest"
    two.run_for(1)
    # Another one comes first that waits to be sent.
    other, late = (two.open(0, StreamKind.REQUEST) for _ in range(2))
    two.connection(0).write(other, b"before")
    assert not two.say_whole(0, late, b"after")


@pytest.mark.parametrize("size", [1, 5000])
def test_there_are_two_probes_with_what_is_oldest(size: int) -> None:
    two = TwoSides()
    here, there = joined(two)
    two.run_for(1)
    probes: list[bytes] = []
    two.tap = lambda side, packet: probes.append(packet) if side == 0 else None
    two.cut = True
    two.connection(0).write(here, b"x" * size)
    two.flush()
    first = len(probes)
    probes.clear()
    two.run_until(lambda: bool(probes))
    assert len(probes) == PROBES
    offsets = [
        frame.offset
        for packet in probes
        for frame in read_frames_untrusted(packet)
        if isinstance(frame, DataFrame)
    ]
    assert len(offsets) == PROBES
    # One that was all there is, or the two oldest of several.
    assert (len(set(offsets)), first > 1) == ((1, False) if size == 1 else (2, True))
    two.cut = False
    two.run_until(lambda: there.receiving.available == size)
    two.run_for(0.5)
    assert not two.connection(0).has_unacknowledged
    assert two.faults == []


@pytest.mark.parametrize("stage", ConnectionStage)
def test_connections_follow_their_table(stage: ConnectionStage) -> None:
    for cue in ConnectionCue:
        conversation = TwoSides().sides[0]
        assert isinstance(conversation, Conversation)
        conversation._stage = stage  # pyright: ignore[reportPrivateUsage]
        expected = CONNECTION_TRANSITIONS.get((stage, cue))
        assert conversation._advance(cue) == (expected is not None)  # pyright: ignore[reportPrivateUsage]
        assert conversation.stage is (expected or stage)
