from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._state.data_mtu import DataMtus

MINIMUM = 482


def test_of_no_link_it_is_the_minimum() -> None:
    assert DataMtus().smallest(MINIMUM) == MINIMUM


def test_it_is_the_smallest_that_is_known() -> None:
    mtus = DataMtus()
    mtus.put("a", 1446)
    mtus.put("b", 8946)
    assert mtus.smallest(MINIMUM) == 1446
    mtus.discard("a")
    assert mtus.smallest(MINIMUM) == 8946


def test_one_that_is_not_known_holds_all_to_the_minimum() -> None:
    mtus = DataMtus()
    mtus.put("a", 1446)
    mtus.put("b", None)
    assert mtus.smallest(MINIMUM) == MINIMUM
    mtus.put("b", 9000)
    assert mtus.smallest(MINIMUM) == 1446


def test_after_doubt_none_is_known() -> None:
    mtus = DataMtus()
    for link in "abc":
        mtus.put(link, 1446)
    mtus.doubt_all()
    for link in "abc":
        assert mtus.smallest(MINIMUM) == MINIMUM
        mtus.put(link, 8946)
    assert mtus.smallest(MINIMUM) == 8946


Change = tuple[int, int | str | None]

changes = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(st.sampled_from(["discard", "doubt"]), st.none(), st.integers(400, 405)),
    )
)


@given(changes)
def test_it_is_what_a_look_at_all_would_find(changes: list[Change]) -> None:
    mtus = DataMtus()
    model: dict[int, int | None] = {}
    for link, change in changes:
        if change == "discard":
            mtus.discard(link)
            model.pop(link, None)
        elif change == "doubt":
            mtus.doubt_all()
            model = dict.fromkeys(model)
        else:
            assert not isinstance(change, str)
            mtus.put(link, change)
            model[link] = change
        found = [402 if mtu is None else mtu for mtu in model.values()]
        assert mtus.smallest(402) == min(found, default=402)
