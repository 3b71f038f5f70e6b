"""Which links of a host carry a message."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.policy import LinkPolicy, hedge, rank, select


class FakeLink(NamedTuple):
    """What the policies look at."""

    link_id: int
    priority: int


LINKS = st.lists(
    st.builds(FakeLink, st.integers(0, 7), st.integers(0, 255)),
    max_size=8,
    unique_by=lambda link: link.link_id,
)


def test_the_highest_priority_is_best_and_the_lowest_id_on_a_tie() -> None:
    links = [FakeLink(0, 1), FakeLink(1, 5), FakeLink(2, 5), FakeLink(3, 0)]
    assert [link.link_id for link in rank(links)] == [1, 2, 0, 3]


@given(LINKS, st.data())
def test_ranking_does_not_depend_on_the_order_of_the_links(
    links: list[FakeLink], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(links))
    assert rank(shuffled) == rank(links)


@pytest.mark.parametrize("policy", LinkPolicy)
def test_without_links_nothing_carries(policy: LinkPolicy) -> None:
    assert list(select(policy, (), 3)) == []


@given(LINKS.filter(bool), st.integers(0, 1000))
def test_passive_sends_over_the_best_link_always(links: list[FakeLink], turn: int) -> None:
    ranked = rank(links)
    assert list(select(LinkPolicy.PASSIVE, ranked, turn)) == [ranked[0]]


@given(LINKS, st.integers(0, 1000))
def test_active_sends_over_every_link(links: list[FakeLink], turn: int) -> None:
    assert set(select(LinkPolicy.ACTIVE, rank(links), turn)) == set(links)


@given(LINKS.filter(bool), st.integers(0, 1000))
def test_round_robin_gives_each_link_its_turn_once_a_round(
    links: list[FakeLink], turn: int
) -> None:
    ranked = rank(links)
    round_ = [select(LinkPolicy.ROUND_ROBIN, ranked, turn + i) for i in range(len(ranked))]
    assert all(len(chosen) == 1 for chosen in round_)
    assert {chosen[0] for chosen in round_} == set(links)


class TestHedge:
    """A second link beside one that is in doubt."""

    def test_nothing_is_added_without_doubt(self) -> None:
        links = ranked_links()
        assert list(hedge(links[:1], links, lambda _: False)) == links[:1]

    def test_the_next_best_that_is_trusted_is_added(self) -> None:
        links = ranked_links()
        assert list(hedge(links[:1], links, lambda link: link in links[:2])) == [links[0], links[2]]

    def test_with_nobody_to_trust_the_next_best_is_added(self) -> None:
        links = ranked_links()
        assert list(hedge(links[:1], links, lambda _: True)) == links[:2]

    def test_the_only_link_stays_alone_and_all_links_stay_all(self) -> None:
        links = ranked_links()
        assert list(hedge(links[:1], links[:1], lambda _: True)) == links[:1]
        assert list(hedge(links, links, lambda _: True)) == links


def ranked_links() -> list[FakeLink]:
    return [FakeLink(link_id, 10 - link_id) for link_id in range(3)]
