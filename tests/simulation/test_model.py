"""The checks find what they are for: each is shown something wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest

from knet_trio import DropCause, Message
from knet_trio._core.liveness import Liveness
from knet_trio._pipeline.transport import TransportStage
from knet_trio._state.context import Context
from knet_trio._state.counters import HandleCounters
from knet_trio._state.network_link import NetworkLinkState
from tests.simulation.cluster import Cluster
from tests.simulation.messages import Name, read_name
from tests.simulation.model import BrokenPromiseError
from tests.simulation.node import Receipt
from tests.simulation.play import causes, play
from tests.simulation.scenario import Fault, Kind, Scenario

QUIET = Scenario(
    seed=1,
    hosts=3,
    links=2,
    duplicate=0.2,
    ping_interval=0.5,
    pong_timeout=1.0,
    pong_count=1,
    hedge=False,
    traffic=0.5,
    acts=((),),
)
CUT = attrs.evolve(QUIET, acts=((Fault(kind=Kind.CUT, begin=15.0, end=35.0, a=1, b=2),),))

# A link is given what it then has to refuse.
NARROW = attrs.evolve(
    QUIET,
    links=1,
    traffic=2.0,
    acts=((Fault(kind=Kind.INTERFACE, begin=15.0, end=35.0, a=1, value=700),),),
)
# Copies come long after the messages, between which there are more than a window has room for.
SLOW = attrs.evolve(
    QUIET,
    hosts=2,
    policies=("active", "active"),
    delays=(0.0, 0.1),
    traffic=1.0,
    acts=((Fault(kind=Kind.NUMBERS, begin=20.0, end=20.0, a=1, value=5000),),),
)


def broken(scenario: Scenario, tamper: Callable[[Cluster], None] | None = None) -> str:
    """What is found to be wrong."""
    with pytest.raises(ExceptionGroup) as caught:
        play(scenario, tamper)
    assert any("the scenario was" in note for note in caught.value.__notes__)
    (cause,) = causes(caught.value)
    assert isinstance(cause, BrokenPromiseError)
    return str(cause)


def receipts(cluster: Cluster, host: int = 1) -> list[Receipt]:
    """What a host has got: something."""
    life = cluster.nodes[host].life
    assert life is not None
    assert life.receipts
    return life.receipts


def alter(cluster: Cluster, **changes: object) -> None:
    """Have host 1 get its first message otherwise."""
    first = receipts(cluster)[0]
    # Any value: some of them are what is wrong.
    message: Message = first.message._replace(**cast("dict[str, Any]", changes))
    receipts(cluster)[0] = first._replace(message=message)


def never(*_: object) -> None:
    """Do nothing."""


def is_enabled(link: NetworkLinkState) -> bool:
    """Whether it should work."""
    return link.enabled


def at_the_end_of_time(_: Liveness) -> float:
    """When a link goes down."""
    return 1e9


@pytest.mark.parametrize("scenario", [QUIET, CUT])
def test_where_nothing_is_wrong_nothing_is_found(scenario: Scenario) -> None:
    play(scenario)


class TestReceipts:
    def test_twice(self) -> None:
        def tamper(cluster: Cluster) -> None:
            receipts(cluster).append(receipts(cluster)[0])

        assert "twice" in broken(QUIET, tamper)

    def test_altered(self) -> None:
        def tamper(cluster: Cluster) -> None:
            data = receipts(cluster)[0].message.data
            alter(cluster, data=data[:-1] + bytes([data[-1] ^ 1]))

        assert "altered" in broken(QUIET, tamper)

    def test_never_sent(self) -> None:
        def tamper(cluster: Cluster) -> None:
            alter(cluster, data=b"who says that?")

        assert "got what nobody sent" in broken(QUIET, tamper)

    def test_on_another_channel(self) -> None:
        def tamper(cluster: Cluster) -> None:
            alter(cluster, channel=7)

        assert "on channel" in broken(QUIET, tamper)

    def test_from_somebody_else(self) -> None:
        def tamper(cluster: Cluster) -> None:
            alter(cluster, source=1)

        assert "from 1" in broken(QUIET, tamper)

    def test_for_somebody_else(self) -> None:
        def tamper(cluster: Cluster) -> None:
            for receipt in receipts(cluster, 2):
                name = read_name(receipt.message.data)
                assert name is not None
                if cluster.ledger[name].recipients == frozenset({2}) and name.sender == 3:
                    receipts(cluster, 1).append(receipt)
                    return
            pytest.fail("no such message")

        assert "not for it" in broken(QUIET, tamper)


class TestLosses:
    def test_a_message_that_came_through(self) -> None:
        def tamper(cluster: Cluster) -> None:
            del receipts(cluster)[0]

        assert "though every fragment came through" in broken(QUIET, tamper)

    def test_the_last_ones_must_arrive(self) -> None:
        def tamper(cluster: Cluster) -> None:
            del receipts(cluster)[-1]

        assert "though nothing was wrong" in broken(QUIET, tamper)

    def test_a_dead_link_that_is_used_for_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        patient = Liveness.adjusted_timeout

        def be_late(self: Liveness) -> float:
            last = self.last_pong or 0.0
            return last + patient(self, last) + 10

        monkeypatch.setattr(Liveness, "_silence_ends", be_late)
        assert "which was broken since 15.000, known by" in broken(CUT)

    def test_a_dead_link_that_is_used_though_it_is_known(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(NetworkLinkState, "usable", property(is_enabled))
        assert "which was down since" in broken(CUT)

    def test_what_became_too_large_has_another_number(self) -> None:
        again = list[Name]()

        def look(cluster: Cluster) -> None:
            for track in cluster.witness.tracks.values():
                name = track.name()
                if name is not None and name.number != track.number:
                    again.append(name)

        play(NARROW, look)
        assert {name.sender for name in again} == {1}

    def test_too_large_and_not_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TransportStage, "_give_up", never)
        assert "it was not even sent, though link 0 worked" in broken(NARROW)

    def test_beyond_the_window_copies_are_not_known_for_that(self) -> None:
        twice = Counter[Name]()

        def look(cluster: Cluster) -> None:
            names = [read_name(receipt.message.data) for receipt in receipts(cluster, 2)]
            twice.update(name for name in names if name is not None)

        play(SLOW, look)
        assert max(twice.values()) > 1


class TestLinks:
    def test_a_dead_link_that_is_never_found_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Liveness, "_silence_ends", at_the_end_of_time)
        long = attrs.evolve(CUT, acts=((attrs.evolve(CUT.acts[0][0], end=1000.0),),))
        assert "has link 0 to host 2 up, which does not work" in broken(long)


class TestCounters:
    def test_a_destination_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refuse = Context.refuse

        def forget(self: Context, cause: DropCause, *details: object, **more: Any) -> None:
            if cause is not DropCause.HOST_DOWN:
                refuse(self, cause, *details, **more)

        monkeypatch.setattr(Context, "refuse", forget)
        assert "it was not even sent" in broken(attrs.evolve(CUT, links=1))

    def test_a_drop_that_nobody_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(HandleCounters, "drop", never)
        found = broken(QUIET)
        assert any(what in found for what in ("are accounted for", "and counts"))
