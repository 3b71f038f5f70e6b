"""Which steps are taken, and where it stops: hosts without a network and a disk."""

from __future__ import annotations

from itertools import product
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from knet_trio import CryptoConfig
from knet_trio.cluster import KeyChange
from knet_trio.rekeying import HostOutcome, Phase, RekeyError
from knet_trio.rekeying._messages import (
    BadMessageError,
    RekeyAction,
    RekeyAnswer,
    RekeyQuestion,
    decode_answer,
    decode_question,
    encode,
)
from knet_trio.rekeying._participant import Participant
from knet_trio.rekeying._phases import LEVEL_AFTER, Level, find_level, last_phase, may_begin
from tests.rekeying.model import FIRST_KEY, Mesh, ModelHost

DONE, WAITING, AWAY = HostOutcome.DONE, HostOutcome.WAITING, HostOutcome.AWAY
REFUSED, EXCLUDED = HostOutcome.REFUSED, HostOutcome.EXCLUDED

# How a host of each level seals, and what it opens.
SEALS = {Level.OLD: "old", Level.SET: "old", Level.USES: "new", Level.CLEARED: "new"}
OPENS = {
    Level.OLD: {"old"},
    Level.SET: {"old", "new"},
    Level.USES: {"old", "new"},
    Level.CLEARED: {"new"},
}


@pytest.mark.parametrize(
    ("in_change", "has_new", "level"),
    [
        (False, False, Level.OLD),
        (True, False, Level.SET),
        (True, True, Level.USES),
        (False, True, Level.CLEARED),
    ],
)
def test_what_a_host_has_tells_its_level(in_change: bool, has_new: bool, level: Level) -> None:
    assert find_level(in_change=in_change, has_new=has_new) is level


def test_each_phase_leads_a_level_up() -> None:
    assert [LEVEL_AFTER[phase] for phase in Phase] == [Level.SET, Level.USES, Level.CLEARED]
    assert [last_phase(level) for level in Level] == [None, *Phase]


def test_whenever_a_phase_may_begin_all_hosts_understand_each_other_until_it_is_done() -> None:
    for phase in Phase:
        for levels in product(Level, repeat=3):
            if may_begin(phase, levels) and max(levels) <= LEVEL_AFTER[phase]:
                for one, other in product(levels, repeat=2):
                    assert SEALS[one] in OPENS[other]
    assert not may_begin(Phase.USE, [Level.SET, Level.OLD])
    assert not may_begin(Phase.CLEAR, [Level.USES, Level.SET])


async def rekey(mesh: Mesh, at: int = 1) -> list[HostOutcome]:
    report = await mesh.rekey(at)
    assert report is not None
    assert [host.host_id for host in report.hosts] == [host.host_id for host in mesh.hosts]
    return [host.outcome for host in report.hosts]


async def test_all_in_one_go(autojump_clock: MockClock) -> None:
    mesh = Mesh(5)
    report = await mesh.rekey(3)
    assert report is not None
    assert (report.done, report.resumed, report.phase) == (True, False, Phase.CLEAR)
    assert {host.outcome for host in report.hosts} == {DONE}
    mesh.assert_over()


async def test_a_host_that_is_away_stops_it_before_the_new_key_is_used(
    autojump_clock: MockClock,
) -> None:
    mesh = Mesh(3)
    mesh.members[2].kill()
    assert await rekey(mesh) == [WAITING, AWAY, WAITING]
    assert mesh.keys() == {FIRST_KEY}
    change = mesh.members[1].files.change
    assert change is not None
    mesh.start_all()
    # At another host, and with the same key.
    report = await mesh.rekey(3)
    assert report is not None
    assert (report.done, report.resumed, report.began_by) == (True, True, 1)
    mesh.assert_over()
    assert mesh.keys() == {change.new}


async def test_one_that_is_excluded_is_told_nothing(autojump_clock: MockClock) -> None:
    mesh = Mesh(3, exclude={2})
    assert await rekey(mesh) == [DONE, EXCLUDED, DONE]
    mesh.assert_over()
    left_out = mesh.members[2]
    assert (left_out.files.key, left_out.files.change) == (FIRST_KEY, None)


@pytest.mark.parametrize("phase", Phase)
async def test_one_whose_disk_is_full_stops_it(autojump_clock: MockClock, phase: Phase) -> None:
    mesh = Mesh(3)
    # One write in each phase.
    mesh.members[2].files.failing = {list(Phase).index(phase)}
    outcomes = await rekey(mesh)
    assert outcomes[1] is REFUSED
    mesh.check()
    # It waits for nobody any more.
    other = RekeyQuestion(action=RekeyAction.CLAIM, run="another")
    assert (await mesh.members[2].participant.answer(3, other)).holder is None
    assert await rekey(mesh, at=2) == [DONE, DONE, DONE]
    mesh.assert_over()


async def test_what_none_uses_can_be_taken_back(autojump_clock: MockClock) -> None:
    mesh = Mesh(3)
    with pytest.raises(RekeyError, match="no change of the key is in progress"):
        await mesh.coordinator(1).drop()
    mesh.members[2].kill()
    await rekey(mesh)
    with pytest.raises(RekeyError, match=r"host 2 \(host2\): it cannot be reached; nothing has"):
        await mesh.coordinator(3).drop()
    mesh.start_all()
    await mesh.coordinator(3).drop()
    for host in mesh.included():
        assert (host.files.key, host.files.change) == (FIRST_KEY, None)
        assert list(host.handle.slots.values()) == [FIRST_KEY]


class OldParticipant(Participant):
    """The participant of version 0.1.0: whoever asks it for the keys has claimed it."""

    async def _answer(self, source: int, question: RekeyQuestion) -> RekeyAnswer:
        if question.action == RekeyAction.TELL:
            claim = attrs.evolve(question, action=RekeyAction.CLAIM)
            answer = await super()._answer(source, claim)
            if answer.refused is not None:
                return answer
        return await super()._answer(source, question)


async def test_no_host_is_claimed_by_a_look_not_even_an_old_one(autojump_clock: MockClock) -> None:
    mesh = Mesh(3)
    mesh.members[3].kill()
    await rekey(mesh)
    mesh.start_all()
    for host_id in (1, 2):
        member = mesh.members[host_id]
        member.participant = OldParticipant(member.participant.keys)
    for _ in range(2):
        seen = await mesh.coordinator(3).status()
        assert seen is not None
        assert [host.phase for host in seen.hosts] == [Phase.SET, Phase.SET, None]
    other = RekeyQuestion(action=RekeyAction.CLAIM, run="another")
    for host_id in (1, 2):
        assert (await mesh.members[host_id].participant.answer(3, other)).holder is None


async def test_what_one_uses_cannot(autojump_clock: MockClock) -> None:
    mesh = Mesh(2)
    # Host 1 does not come to use it, and host 2 does.
    first, second = (mesh.members[number].files for number in (1, 2))
    first.failing = {1}
    assert await rekey(mesh) == [REFUSED, WAITING]
    assert first.key == FIRST_KEY != second.key
    with pytest.raises(RekeyError, match=r"host 2 \(host2\) already uses the new key"):
        await mesh.coordinator(1).drop()
    assert await rekey(mesh) == [DONE, DONE]


async def test_two_changes_that_began_apart_become_one(autojump_clock: MockClock) -> None:
    mesh = Mesh(4)
    for away in ({1, 2}, {3, 4}):
        for host_id in away:
            mesh.members[host_id].kill()
        await rekey(mesh, at=3 if 1 in away else 1)
        for host_id in away:
            mesh.members[host_id].start()
    changes = {host.files.change and host.files.change.change_id for host in mesh.included()}
    assert len(changes) == 2
    mesh.members[4].kill()
    with pytest.raises(
        RekeyError, match=r"several changes of the key have begun .*, so this host is"
    ):
        await mesh.rekey(1)
    mesh.start_all()
    assert await rekey(mesh) == [DONE] * 4
    mesh.assert_over()


def change_cluster(host: ModelHost, **changes: Any) -> None:
    """Have a host run another version of its file."""
    opened = host.opened
    cipher = changes.pop("cipher", None)
    if cipher is not None:
        assert opened.cluster.crypto is not None
        changes["crypto"] = attrs.evolve(opened.cluster.crypto, cipher=cipher)
    opened.cluster = attrs.evolve(opened.cluster, **changes)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cipher": "none"}, "cipher none does not encrypt"),
        ({"crypto": None}, "there is no key to change"),
        ({"key_file": None}, "is not from a key file"),
        ({"accept_crypto": CryptoConfig(bytes(128))}, "accept_crypto already has a second"),
    ],
)
async def test_where_it_cannot_be_done(
    autojump_clock: MockClock, at: int, changes: dict[str, Any], why: str
) -> None:
    mesh = Mesh(2)
    change_cluster(mesh.members[at], **changes)
    if at == 1:
        with pytest.raises(RekeyError, match=why):
            await mesh.rekey(1)
    else:
        report = await mesh.rekey(1)
        assert report is not None
        assert report.hosts[1].outcome is REFUSED
        assert why in report.hosts[1].reason
    assert mesh.members[2].files.change is None


async def test_a_host_that_only_another_one_knows_of_is_not_cut_off(
    autojump_clock: MockClock,
) -> None:
    mesh = Mesh(3)
    one, _, other = mesh.members[3].opened.cluster.hosts
    change_cluster(mesh.members[3], hosts=(one, other))
    report = await mesh.rekey(3)
    assert report is not None
    assert [host.outcome for host in report.hosts] == [REFUSED, WAITING]
    assert "has host 2 (host2), which is not in the file" in report.hosts[0].reason
    assert mesh.keys() == {FIRST_KEY}
    # A file with more hosts leaves out none.
    mesh.members[3].opened.cluster = mesh.members[1].opened.cluster
    change_cluster(mesh.members[1], hosts=(one, other))
    assert await rekey(mesh, at=3) == [DONE, DONE, DONE]
    mesh.assert_over()


async def test_where_packets_in_the_clear_are_accepted_nobody_is_believed(
    autojump_clock: MockClock,
) -> None:
    mesh = Mesh(2)
    mesh.members[2].handle.allow_clear_traffic = True
    report = await mesh.rekey(1)
    assert report is not None
    assert report.hosts[1].outcome is REFUSED
    assert "packets in the clear are accepted" in report.hosts[1].reason
    assert mesh.members[2].files.change is None


async def test_a_key_file_that_was_changed_is_not_written_over(autojump_clock: MockClock) -> None:
    mesh = Mesh(2)
    mesh.members[2].files.key = FIRST_KEY[::-1]
    report = await mesh.rekey(1)
    assert report is not None
    assert "the key in the key file is not the one" in report.hosts[1].reason
    assert mesh.members[2].files.key == FIRST_KEY[::-1]


async def test_this_host_cannot_exclude_itself() -> None:
    with pytest.raises(RekeyError, match="cannot exclude itself"):
        await Mesh(2, exclude={1}).rekey(1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"knet_trio_rekey":1}',
        b'{"knet_trio_rekey":2,"action":"status","run":"a"}',
        b'{"knet_trio_rekey":1,"action":"status","run":7}',
        b'{"knet_trio_rekey":1,"action":"hello","run":"a"}',
        b'{"knet_trio_rekey":1,"action":"set","run":"a","key":["secret"]}',
        b"[" * 5000,
        b'{"knet_trio_rekey":1,"action":"status","run":"' + b"a" * 20000 + b'"}',
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated(data: bytes) -> None:
    with pytest.raises(BadMessageError) as caught:
        decode_question(data)
    assert "secret" not in str(caught.value)
    with pytest.raises(BadMessageError):
        decode_answer(data)


async def test_keys_are_shown_nowhere(autojump_clock: MockClock) -> None:
    change = KeyChange(change_id="a", began_by=1, old=b"o" * 128, new=b"n" * 128)
    question = RekeyQuestion(action=RekeyAction.SET, run="r", key="bm5u")
    assert decode_question(encode(question)) == question
    for shown in (repr(change), repr(question)):
        assert "nnn" not in shown
        assert "ooo" not in shown
        assert "bm5u" not in shown
    report = await Mesh(2).rekey(1)
    assert "key=" not in repr(report)
