"""Settings of links over connections: what they change, at once or in pieces."""

from __future__ import annotations

import pytest
import trio

from knet_trio import open_handle
from knet_trio._state.chores import AT_ONCE
from knet_trio._transport.sctp_connecting import ConnectingAssociation
from knet_trio.testing import SimulatedNetwork
from knet_trio.testing.association import SimulatedAssociation
from tests.testing.connected import A, both_up, play_alone
from tests.testing.nodes import at, open_nodes


def test_a_new_interval_comes_to_many_links_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[ConnectingAssociation] = []
    change = ConnectingAssociation.set_reconnect_interval

    def record(connection: ConnectingAssociation, interval: float) -> None:
        changed.append(connection)
        change(connection, interval)

    monkeypatch.setattr(ConnectingAssociation, "set_reconnect_interval", record)

    async def main(network: SimulatedNetwork) -> None:
        async with open_handle(1) as handle:
            for peer in range(2, 62):
                there = (at(peer), 5405)
                await handle.add_host(peer).add_link(0, A, there, transport="sctp")
            handle.reconnect_interval = 0.5
            # One piece is the socket that all share.
            assert len(changed) == AT_ONCE - 1
            with trio.fail_after(1):
                while len(changed) < 60:
                    await trio.lowlevel.checkpoint()
            assert len(set(changed)) == 60

    play_alone(main)


def test_the_first_link_with_priority_marks_the_packets_of_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks: dict[SimulatedAssociation, int] = {}

    def record(end: SimulatedAssociation, dscp: int) -> None:
        marks[end] = dscp

    monkeypatch.setattr(SimulatedAssociation, "set_dscp", record)

    async def main(network: SimulatedNetwork) -> None:
        async with open_nodes(3, transport="sctp") as (a, *_):
            a.dscp = 10
            assert not marks
            async with open_handle(4) as d:
                await a.add_host(4).add_link(
                    0, A, (at(4), 5405), transport="sctp", high_priority=True
                )
                await d.add_host(1).add_link(0, (at(4), 5405), A, transport="sctp")
                # Two that host 1 has made, and two that others have.
                assert list(marks.values()) == [10] * 4
                assert {end.seen.host for end in marks} == {at(1)}
                await both_up(d)
                a.dscp = 20
                assert list(marks.values()) == [20] * 6

    play_alone(main)
