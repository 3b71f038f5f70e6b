"""Whatever is killed or lost while the key changes, hosts understand each other, and it goes on."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from knet_trio.rekeying import RekeyBusyError, RekeyError, RekeyReport
from tests.rekeying.model import Mesh

# More steps and questions than any change of so few hosts has.
STEPS = 40


@attrs.frozen
class Attempt:
    """A call of ``rekey``, and what happens meanwhile.

    `kills` has for some hosts after how many steps they are killed; those of `stay_dead` do not
    start again before the next attempt is over.
    """

    at: int
    kills: dict[int, int]
    lost_questions: set[int]
    lost_answers: set[int]
    stay_dead: set[int]


def attempts(hosts: st.SearchStrategy[int]) -> st.SearchStrategy[Attempt]:
    few = st.sets(st.integers(0, STEPS), max_size=2)
    return st.builds(
        Attempt,
        at=hosts,
        kills=st.dictionaries(hosts, st.integers(0, STEPS), max_size=2),
        lost_questions=few,
        lost_answers=few,
        stay_dead=st.sets(hosts, max_size=1),
    )


@st.composite
def stories(draw: st.DrawFn) -> tuple[int, set[int], list[Attempt]]:
    """How many hosts there are, which are excluded, and what is tried."""
    count = draw(st.integers(2, 4))
    exclude = draw(st.sets(st.integers(1, count), max_size=1))
    hosts = st.integers(1, count).filter(lambda host: host not in exclude)
    return count, exclude, draw(st.lists(attempts(hosts), max_size=4))


@given(stories(), st.sampled_from([{}, {"cipher": "aes128"}]))
def test_all_hosts_get_the_new_key(
    story: tuple[int, set[int], list[Attempt]], wanted: dict[str, str]
) -> None:
    count, exclude, tried = story
    trio.run(tell, count, exclude, tried, wanted, clock=MockClock(autojump_threshold=0))


async def tell(count: int, exclude: set[int], tried: list[Attempt], wanted: dict[str, str]) -> None:
    mesh = Mesh(count, exclude=exclude)
    mesh.wanted = wanted
    for attempt in tried:
        if not mesh.members[attempt.at].alive:
            continue
        for host_id, steps in attempt.kills.items():
            mesh.members[host_id].kill_in = steps
        mesh.lost_questions = {mesh.asked + number for number in attempt.lost_questions}
        mesh.lost_answers = {mesh.asked + number for number in attempt.lost_answers}
        report: RekeyReport | None = None
        with suppress(RekeyError):
            # What is lost may be what it cannot go on without.
            report = await mesh.rekey(attempt.at)
        if report is not None and report.done:
            mesh.assert_over_for_the_living()
        for host in mesh.included():
            host.kill_in = None
            if host.host_id not in attempt.stay_dead:
                host.start()
        mesh.check()
    mesh.start_all()
    mesh.lost_questions = mesh.lost_answers = set()
    last = await mesh.rekey(mesh.included()[-1].host_id)
    assert last is not None
    assert last.done, last
    mesh.assert_over()
    for host_id in exclude:
        assert mesh.members[host_id].files.change is None


@given(
    st.integers(2, 4),
    st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.05, 2.0]), min_size=1, max_size=12),
    st.data(),
)
def test_of_two_at_once_one_wins(count: int, delays: list[float], data: st.DataObject) -> None:
    first, second = (data.draw(st.integers(1, count)) for _ in range(2))
    late = data.draw(st.sampled_from([0.0, 0.001, 0.03, 0.2]))
    trio.run(race, count, delays, first, second, late, clock=MockClock(autojump_threshold=0))


async def race(count: int, delays: list[float], first: int, second: int, late: float) -> None:
    mesh = Mesh(count)
    mesh.delays = delays
    reports: list[RekeyReport] = []
    refused: list[RekeyBusyError] = []

    async def rekey(at: int, late: float) -> None:
        await trio.sleep(late)
        try:
            reports.append(await mesh.coordinator(at).rekey())
        except RekeyBusyError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rekey, first, 0)
        nursery.start_soon(rekey, second, late)
    # Both only if one was over before the other began to claim.
    assert reports
    assert all(report.done for report in reports)
    assert len(reports) + len(refused) == 2
    assert all("changing the key" in str(error) for error in refused)
    mesh.assert_over()
