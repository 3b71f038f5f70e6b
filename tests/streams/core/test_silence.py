"""When a connection is given up: nobody is heard of, or nothing is acknowledged."""

from __future__ import annotations

from knet_trio.streams._core.limits import KEEPALIVE
from knet_trio.streams._core.receiving_half import ReceivingStage
from knet_trio.streams._core.stream_state import FailureCause
from knet_trio.streams._core.wire import Code
from tests.streams.core.lossy import PATIENCE, TwoSides
from tests.streams.core.test_conversation import BOTH, joined, say


def has_connection(two: TwoSides) -> bool:
    return two.sides[0].connection is not None


def test_an_idle_connection_whose_host_is_gone_ends() -> None:
    two = TwoSides()
    here, there = joined(two)
    for side, stream in enumerate((here, there)):
        two.connection(side).reset(stream, BOTH, Code.CANCELLED)
    # Nothing was heard for long, which says nothing.
    two.run_for(10 * PATIENCE)
    assert has_connection(two)
    two.cut = True
    two.sides[0].hint(two.now)
    two.run_for(PATIENCE / 2)
    assert has_connection(two)
    two.run_for(PATIENCE)
    assert not has_connection(two)
    before = two.sent[0]
    two.run_for(1000)
    assert two.sent[0] == before
    two.cut = False
    here, there = joined(two)
    say(two, 0, here, there, b"again")


def test_an_idle_connection_survives_a_cut() -> None:
    two = TwoSides()
    here, there = joined(two)
    for side, stream in enumerate((here, there)):
        two.connection(side).reset(stream, BOTH, Code.CANCELLED)
    two.run_for(10 * PATIENCE)
    connection = two.connection(0)
    two.cut = True
    two.sides[0].hint(two.now)
    two.run_for(PATIENCE - 5)
    two.cut = False
    two.run_for(10 * PATIENCE)
    assert two.sides[0].connection is connection
    assert not connection.has_unacknowledged


def test_what_is_not_acknowledged_takes_no_more_memory_as_time_passes() -> None:
    two = TwoSides(patience=86400)
    here, there = joined(two)
    two.run_for(1)
    two.deaf = 1
    two.connection(0).write(here, bytes(100_000))
    two.run_for(60)
    recovery = two.connection(0).recovery
    records, on_the_way = len(recovery), recovery.in_flight
    two.run_for(1000)
    assert len(recovery) <= records
    assert recovery.in_flight <= on_the_way
    # It is there all the same.
    two.deaf = None
    two.run_until(lambda: there.receiving.available == 100_000)
    two.run_until(lambda: not two.connection(0).has_unacknowledged, 5)


def test_who_talks_and_never_acknowledges_is_given_up() -> None:
    two = TwoSides()
    here, there = joined(two)
    two.run_for(1)
    began = two.now
    two.deaf = 1
    # The other side is more patient.
    two.sides[1]._patience = 10 * PATIENCE  # pyright: ignore[reportPrivateUsage]
    two.connection(0).write(here, b"hello?")
    while here.sending_failure is None:
        # The other side has something to say all the time.
        two.connection(1).write(there, b"x")
        two.sides[1].hint(two.now)
        two.run_for(0.5)
        assert two.now < began + PATIENCE + 2
    assert two.now > began + PATIENCE - 2
    assert here.sending_failure.cause is FailureCause.SILENCE


def test_a_probe_is_sent_though_what_was_lost_is_of_no_use_any_more() -> None:
    two = TwoSides()
    kept, _ = joined(two)
    here, there = joined(two)
    two.run_for(1)
    two.deaf = 1
    # The credit for a stream that ends.
    two.connection(0).widen(here, two.now)
    two.flush()
    two.deaf = None
    two.connection(1).finish(there)
    two.run_until(lambda: here.receiving.stage is ReceivingStage.WHOLE)
    two.connection(0).end_read(here)
    two.run_for(KEEPALIVE / 2)
    assert not two.connection(0).has_unacknowledged
    assert kept.sending_failure is None


def test_patience_may_be_shorter_than_the_time_between_pings() -> None:
    two = TwoSides(patience=KEEPALIVE / 4)
    here, there = joined(two)
    two.run_for(20)
    assert here.sending_failure is there.sending_failure is None
    say(two, 0, here, there, b"still here")
    two.cut = True
    two.run_for(KEEPALIVE / 2)
    assert here.sending_failure is not None
