"""The judge is shown something wrong of each kind, and says so."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio

from knet_trio.streams import RefusedError
from tests.streams.pairs import pumps_of
from tests.streams.simulation.cluster import Cluster
from tests.streams.simulation.data import make_bytes
from tests.streams.simulation.play import play
from tests.streams.simulation.record import BrokenPromiseError, Call, Record, Result
from tests.streams.simulation.scenario import Job, JobKind, Scenario, Style

STREAM, REQUEST, MESSAGES, ABORTED = range(4)
SCENARIO = Scenario(
    seed=1,
    patience=10,
    jobs=(
        Job(number=STREAM, kind=JobKind.STREAM, begin=0, a=1, b=2, size=50_000, back=50_000),
        Job(number=REQUEST, kind=JobKind.REQUEST, begin=0, a=2, b=1, size=5_000, back=5_000),
        Job(number=MESSAGES, kind=JobKind.MESSAGES, begin=0, a=1, b=2, size=1_000, back=5),
        Job(
            number=ABORTED,
            kind=JobKind.STREAM,
            begin=0,
            a=1,
            b=2,
            size=5_000,
            style=Style.ABORT,
        ),
    ),
)


def call_of(cluster: Cluster, job: int) -> Call:
    """The call of the host that wants a job."""
    wanted = cluster.jobs[job]
    return next(c for c in cluster.record.calls if c.job is wanted and c.host == wanted.a)


def say(text: str) -> Callable[[Cluster], None]:
    """Have a call fail with an error that says that."""

    def tamper(cluster: Cluster) -> None:
        call = call_of(cluster, STREAM)
        call.result, call.errors = Result.FAILED, [trio.BrokenResourceError(text)]

    return tamper


def lose_a_message(cluster: Cluster) -> None:
    del cluster.record.messages[2][2]


def repeat_a_message(cluster: Cluster) -> None:
    cluster.record.messages[2].append(cluster.record.messages[2][0])


def swap_messages(cluster: Cluster) -> None:
    heads = cluster.record.messages[2]
    heads[0], heads[1] = heads[1], heads[0]


def do_twice(cluster: Cluster) -> None:
    cluster.record.executed[REQUEST] += 1


def refuse_what_was_done(cluster: Cluster) -> None:
    call_of(cluster, REQUEST).errors = [RefusedError("it has no requests() open")]


def refuse_without_a_reason(cluster: Cluster) -> None:
    call = call_of(cluster, STREAM)
    call.result, call.errors = Result.FAILED, [RefusedError("it has no listener() open")]


def hang(cluster: Cluster) -> None:
    call_of(cluster, REQUEST).result = Result.OPEN


def forget_the_end(cluster: Cluster) -> None:
    cluster.record.ways[STREAM, True].ended = False


def wait_for_ever(cluster: Cluster) -> None:
    call = call_of(cluster, REQUEST)
    cluster.broken[1, 2].append((call.begin, call.begin + 100))
    call.end = call.begin + 50


def hold_memory(cluster: Cluster) -> None:
    life = cluster.nodes[1].life
    assert life is not None
    assert life.streams is not None
    pumps_of(life.streams)[0].requests.held += 1


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lose_a_message, "was taken and did not come"),
        (repeat_a_message, "came twice"),
        (swap_messages, "came late"),
        (do_twice, "was done 2 times"),
        (refuse_what_was_done, "done and refused"),
        (refuse_without_a_reason, "no reason"),
        (hang, "it hangs"),
        (forget_the_end, "did not come to the end"),
        (wait_for_ever, "waited for too long"),
        (hold_memory, "bytes are held"),
        (say("host 2 has not answered within patience: no link to it works"), "no reason"),
        (say("host 2 has restarted its streams and lost this one"), "no reason"),
        (say("host 2 violated the protocol"), "no reason"),
        (say("cancelled by host 2"), "no reason"),
    ],
)
def test_what_is_wrong_is_found(tamper: Callable[[Cluster], None], says: str) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        play(SCENARIO, tamper)
    assert caught.group_contains(BrokenPromiseError, match=says)


def test_what_is_right_is_let_pass() -> None:
    played = play(SCENARIO)
    assert played.results["done"] > 10
    assert played.results["failed"] == played.results["open"] == 0


def test_bytes_are_compared_as_they_come() -> None:
    async def main() -> None:
        record = Record()
        expected = make_bytes(1, 100)
        record.read(1, False, expected[:50], expected)
        with pytest.raises(BrokenPromiseError, match="other bytes at 50"):
            record.read(1, False, expected[:50], expected)
        way = record.ways[1, False]
        way.sent = 50
        with pytest.raises(BrokenPromiseError, match="an early end"):
            # Nobody has closed it.
            record.read(1, False, b"", expected)
        way.closed, way.sent, way.sending = True, 20, 80
        with pytest.raises(BrokenPromiseError, match="an early end"):
            # That is in the middle of what was sent last.
            record.read(1, False, b"", expected)
        way.sent = 50
        record.read(1, False, b"", expected)
        assert record.lives == []
        assert record.new_life(1).ended == math.inf

    trio.run(main)


def test_each_job_has_bytes_of_its_own() -> None:
    all_bytes = [make_bytes(job, 64, back=back) for job in range(200) for back in (False, True)]
    assert len(set(all_bytes)) == len(all_bytes)
