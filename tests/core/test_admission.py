from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Final

import pytest

from knet_trio._core.admission import (
    RULES,
    VERDICTS,
    Action,
    LinkKind,
    LinkPhase,
    Origin,
    PacketKind,
    Rule,
    Situation,
    is_possible,
)
from knet_trio.address import Address
from knet_trio.errors import DropCause

SECURITY: Final = Path(__file__).parents[2] / "docs" / "security.md"
BELIEVED: Final = {True: "confirmed", False: "not confirmed"}
REACHABLE: Final = {True: "reachable", False: "unreachable"}


def draw() -> str:
    """The table of the rules, as it is in the docs."""
    rows = [
        "| packet | link | which is | its host is | from | its life is | what happens |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows += [f"| {' | '.join(draw_cells(rule))} |" for rule in RULES]
    return "\n".join(rows)


def draw_cells(rule: Rule) -> list[str]:
    """One row, in the order in which things are listed where they are defined."""
    verdict = rule.verdict
    return [
        " or ".join(kind.value for kind in PacketKind if kind in rule.packets),
        " or ".join(kind.value for kind in LinkKind if kind in rule.links),
        " or ".join(phase.value for phase in LinkPhase if phase in rule.phases),
        " or ".join(REACHABLE[one] for one in sorted(rule.reachable)),
        " or ".join(origin.value for origin in Origin if origin in rule.origins),
        " or ".join(BELIEVED[one] for one in sorted(rule.believed)),
        verdict.value if isinstance(verdict, Action) else f"refused (`{verdict.value}`)",
    ]


def test_the_table_in_the_docs_is_this_one() -> None:
    assert draw() in SECURITY.read_text()


def situations(**fixed: object) -> list[Situation]:
    return [
        situation
        for situation in VERDICTS
        if all(getattr(situation, name) is value for name, value in fixed.items())
    ]


def test_every_situation_is_decided() -> None:
    everything = set(
        map(
            Situation._make,
            product(PacketKind, LinkKind, LinkPhase, (False, True), Origin, (False, True)),
        )
    )
    assert set(VERDICTS) == everything


def test_every_rule_decides_something() -> None:
    deciding = {
        next(number for number, rule in enumerate(RULES) if rule.fits(situation))
        for situation in VERDICTS
    }
    assert deciding == set(range(len(RULES)))


@pytest.mark.parametrize("packet", PacketKind)
def test_nothing_is_done_for_a_link_that_is_disabled(packet: PacketKind) -> None:
    for situation in situations(packet=packet, phase=LinkPhase.DISABLED):
        assert isinstance(VERDICTS[situation], DropCause)


@pytest.mark.parametrize(
    ("origin", "cause"),
    [
        (Origin.IMPOSSIBLE, DropCause.IMPOSSIBLE_SOURCE),
        (Origin.REJECTED, DropCause.ACCESS_LIST),
    ],
)
def test_nothing_is_done_for_who_may_not_speak(origin: Origin, cause: DropCause) -> None:
    assert {VERDICTS[situation] for situation in situations(origin=origin)} == {cause}


def test_data_is_taken_from_the_address_of_the_peer_alone() -> None:
    for situation in situations(packet=PacketKind.DATA):
        if situation.origin is not Origin.PEER:
            assert isinstance(VERDICTS[situation], DropCause)


def test_data_is_taken_while_its_host_is_there_or_begins_to_answer() -> None:
    for situation in situations(packet=PacketKind.DATA, origin=Origin.PEER, believed=True):
        there = situation.reachable or situation.phase in (LinkPhase.ANSWERED, LinkPhase.UP)
        taken = VERDICTS[situation] is Action.ACT
        assert taken is (there and situation.phase is not LinkPhase.DISABLED)


def test_only_a_pong_moves_a_link_and_only_a_dynamic_one() -> None:
    for situation, verdict in VERDICTS.items():
        if verdict is Action.FOLLOW:
            assert (situation.packet, situation.link) == (PacketKind.PONG, LinkKind.DYNAMIC)


def test_a_pong_is_never_taken_without_its_stamp() -> None:
    for situation in situations(packet=PacketKind.PONG):
        verdict = VERDICTS[situation]
        assert isinstance(verdict, DropCause) or verdict in (Action.CHECK, Action.FOLLOW)


def test_from_elsewhere_nothing_acts() -> None:
    for situation in situations(origin=Origin.ELSEWHERE):
        assert VERDICTS[situation] is not Action.ACT


def test_elsewhere_gets_an_answer_from_a_dynamic_link_alone() -> None:
    for situation, verdict in VERDICTS.items():
        if verdict in (Action.GREET, Action.CHALLENGE):
            assert situation.link is LinkKind.DYNAMIC
            assert situation.packet is PacketKind.PING
        if verdict is Action.CHALLENGE:
            assert situation.phase is LinkPhase.UP


def test_where_the_host_is_reached_matters_to_data_alone() -> None:
    for situation, verdict in VERDICTS.items():
        if situation.packet is not PacketKind.DATA:
            assert VERDICTS[situation._replace(reachable=not situation.reachable)] is verdict


def test_only_a_reply_may_come_from_another_link_of_the_host() -> None:
    for situation in situations(origin=Origin.SIBLING, believed=True):
        elsewhere = VERDICTS[situation._replace(origin=Origin.ELSEWHERE)]
        if situation.packet is not PacketKind.REPLY:
            assert VERDICTS[situation] is elsewhere
        elif situation.phase is not LinkPhase.DISABLED:
            assert VERDICTS[situation] is Action.ACT
            assert elsewhere is DropCause.UNKNOWN_ADDRESS


def test_of_a_life_that_is_not_confirmed_nothing_acts_but_a_pong() -> None:
    for situation in situations(believed=False):
        verdict = VERDICTS[situation]
        assert verdict not in (Action.ACT, Action.ANSWER)
        if situation.packet is PacketKind.PONG:
            assert verdict is VERDICTS[situation._replace(believed=True)]


class TestSources:
    @pytest.mark.parametrize(
        "source",
        [
            Address("192.0.2.2", 0),
            Address("0.0.0.0", 5405),
            Address("255.255.255.255", 5405),
            Address("224.0.0.1", 5405),
            Address("239.255.255.250", 5405),
            Address("2001:db8::1", 0),
            Address("::", 5405),
            Address("ff02::1", 5405),
            Address("ff02::1%eth0", 5405),
        ],
        ids=str,
    )
    def test_that_no_peer_can_have(self, source: Address) -> None:
        assert not is_possible(source)

    @pytest.mark.parametrize(
        "source",
        [
            Address("192.0.2.2", 5405),
            Address("127.0.0.1", 1),
            Address("240.0.0.1", 5405),
            Address("169.254.1.1", 65535),
            Address("2001:db8::1", 5405),
            Address("::1", 5405),
            Address("fe80::1%eth0", 5405),
        ],
        ids=str,
    )
    def test_that_one_can_have(self, source: Address) -> None:
        assert is_possible(source)
