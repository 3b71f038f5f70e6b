from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.coupled import Coupled, joined, size_of
from knet_trio._core.onwire import couple_fragments, encode_message


def parts(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.binary(max_size=60), st.integers(1, 20), st.slices(20))
def test_it_is_the_sequence_of_its_datagrams(data: bytes, size: int, some: slice) -> None:
    coupled, separate = Coupled(data, size), parts(data, size)
    assert list(coupled) == separate
    assert len(coupled) == len(separate)
    assert list(coupled[some]) == separate[some]
    assert [coupled[place - len(separate)] for place in range(len(separate))] == separate


@given(st.binary(min_size=1, max_size=60), st.integers(1, 20), st.data())
def test_what_is_sent_of_it(data: bytes, size: int, draw: st.DataObject) -> None:
    coupled, separate = Coupled(data, size), parts(data, size)
    count = draw.draw(st.integers(1, len(separate)))
    assert size_of(coupled, count) == size_of(separate, count) == sum(map(len, separate[:count]))
    beginning = Coupled(data, size)[:count]
    assert joined(beginning) == (b"".join(separate[:count]), size)
    if len(separate[0]) == size:
        assert joined(separate[:count]) == joined(beginning)


def test_past_its_ends() -> None:
    coupled = Coupled(b"abcde", 2)
    for place in (3, -4):
        with pytest.raises(IndexError):
            coupled[place]


def test_a_part_of_it_is_no_copy() -> None:
    data = bytes(3000)
    part = Coupled(data, 1000)[1:]
    assert isinstance(part, Coupled)
    assert part.view.obj is data


@given(st.integers(1, 66_000), st.integers(255, 3000), st.integers(0, 255))
def test_fragments_are_those_that_are_made_one_by_one(
    total: int, fragment_size: int, compress: int
) -> None:
    payload = bytes(range(251)) * (total // 251 + 1)
    payload = payload[:total]
    coupled = couple_fragments(
        payload,
        node=7,
        seq=300,
        compress=compress,
        broadcast=True,
        channel=3,
        fragment_size=fragment_size,
    )
    if total <= 11 * fragment_size or total > 254 * fragment_size:
        assert coupled is None
        return
    assert coupled is not None
    assert list(coupled) == encode_message(
        payload,
        node=7,
        seq=300,
        compress=compress,
        broadcast=True,
        channel=3,
        fragment_size=fragment_size,
    )
