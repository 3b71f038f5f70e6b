"""The checks of who waits for whom find what they are for."""

from __future__ import annotations

from collections import defaultdict

import attrs
import pytest

from knet_trio import DropCause
from knet_trio._pipeline.send_lanes import SendLanes
from knet_trio._state.send_lane import LANE_MESSAGES, LaneItem, SendLane
from tests.simulation.cluster import Cluster
from tests.simulation.messages import Name, read_name
from tests.simulation.play import play
from tests.simulation.scenario import Fault, Kind, Scenario
from tests.simulation.test_model import QUIET, broken, never, receipts
from tests.simulation.witness import Sender

# More for everybody than the lane of one who takes nothing has room for.
STUCK = attrs.evolve(
    QUIET,
    links=1,
    pong_timeout=5.0,
    send_buffer=8000,
    acts=(
        (
            Fault(kind=Kind.HOLD, begin=15.0, end=17.0, a=1, b=2),
            Fault(kind=Kind.FLOOD, begin=15.5, end=15.5, a=1, b=3, value=1400, flag=True),
        ),
    ),
)
# All that a host sends to the only other one has to wait.
ALONE = attrs.evolve(STUCK, hosts=2)
# The one whose lane is full is removed, and added again later.
REMOVED = attrs.evolve(
    STUCK,
    acts=(
        (
            Fault(kind=Kind.HOLD, begin=15.0, end=25.0, a=1, b=2),
            Fault(kind=Kind.FLOOD, begin=15.5, end=15.5, a=1, b=2, value=2500),
            Fault(kind=Kind.REMOVE, begin=15.6, end=30.0, a=1, b=2),
        ),
    ),
)


def no(*_: object) -> bool:
    """Whether anything is so."""
    return False


@pytest.mark.parametrize("scenario", [STUCK, ALONE, REMOVED])
def test_where_nothing_is_wrong_nothing_is_found(scenario: Scenario) -> None:
    play(scenario)


def test_one_host_that_holds_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendLanes, "_any_flows", no)
    assert "only, though link 0 worked" in broken(STUCK)


def test_a_wait_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendLanes, "progressed", never)
    assert "has not returned" in broken(ALONE)


def test_who_waits_for_a_host_that_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(cluster: Cluster) -> None:
        (sender,) = (life for life in cluster.lives() if life.host == 1)
        drops = sender.running.statistics().drops
        # A lane full of them, and the one that waited for room.
        assert drops[DropCause.HOST_DOWN] > LANE_MESSAGES

    play(REMOVED, look)
    monkeypatch.setattr(SendLanes, "host_lost", never)
    assert "has not returned" in broken(REMOVED)


def test_messages_that_overtake_others(monkeypatch: pytest.MonkeyPatch) -> None:
    append = SendLane.append

    def append_before(self: SendLane, item: LaneItem) -> None:
        append(self, item)
        if len(self.items) > 2 and not self.items[-2].started:
            self.items[-1], self.items[-2] = self.items[-2], self.items[-1]

    monkeypatch.setattr(SendLane, "append", append_before)
    assert "left for host 2" in broken(ALONE)


def test_a_message_whose_send_was_cancelled() -> None:
    def tamper(cluster: Cluster) -> None:
        calls = [sent.call for sent in cluster.ledger.values()]
        next(call for call in calls if call.one and not call.sync).cancelled = True

    assert "was sent, though its call was cancelled" in broken(QUIET, tamper)


def test_a_message_that_is_delivered_too_late() -> None:
    def tamper(cluster: Cluster) -> None:
        first = receipts(cluster)[0]
        receipts(cluster)[0] = first._replace(at=first.at + 0.1)

    assert "of which nothing came after" in broken(QUIET, tamper)


# Two hosts send what takes longer to open than to make; a third one sends meanwhile.
SLOW_TO_OPEN = attrs.evolve(
    QUIET,
    hosts=4,
    links=1,
    duplicate=0.0,
    traffic=5.0,
    compress=("", "bzip2", "bzip2", ""),
    acts=(
        tuple(
            Fault(kind=Kind.BULK, begin=15.5, end=15.5, a=sender, b=1, value=200)
            for sender in (2, 3)
        ),
    ),
)


def test_messages_that_take_long_to_open_hold_up_no_others() -> None:
    waited: dict[int, float] = {}

    def look(cluster: Cluster) -> None:
        me = Sender(1, 1)
        arrived: dict[Name | None, list[float]] = defaultdict(list)
        for track in cluster.witness.tracks.values():
            arrived[track.name()] += [crossing.ended for crossing in track.arrived(me)]
        for at, _, message in receipts(cluster):
            came = max(arrived[read_name(message.data)])
            waited[message.source] = max(waited.get(message.source, 0), at - came)

    play(SLOW_TO_OPEN, look)
    assert waited[2] > 0.5
    assert waited[3] > 0.5
    assert waited[4] < 0.01
