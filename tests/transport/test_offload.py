"""How datagrams are put into trains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._transport.offload import MOST_BYTES, MOST_DATAGRAMS, train_length

SIZES = st.lists(st.sampled_from((0, 100, 1400, 30000, MOST_BYTES + 1)), max_size=100)


def trains(sizes: list[int]) -> list[list[int]]:
    """The sizes of the datagrams of each train."""
    datagrams = [bytes(size) for size in sizes]
    found: list[list[int]] = []
    start = 0
    while start < len(datagrams):
        length = train_length(datagrams, start)
        found.append(sizes[start : start + length])
        start += length
    return found


@given(SIZES)
def test_every_train_is_one_that_the_kernel_takes(sizes: list[int]) -> None:
    found = trains(sizes)
    assert [size for train in found for size in train] == sizes
    for train in found:
        assert train
        assert len(train) <= MOST_DATAGRAMS
        if len(train) > 1:
            assert sum(train) <= MOST_BYTES
            assert set(train[:-1]) == {train[0]}
            assert 0 < train[-1] <= train[0]
        elif train == [MOST_BYTES + 1]:
            # It goes alone, and the system refuses it.
            continue


def test_a_shorter_one_ends_a_train() -> None:
    assert trains([100, 100, 50, 100]) == [[100, 100, 50], [100]]
    assert trains([100, 200]) == [[100], [200]]
    assert trains([1400] * 47 + [50]) == [[1400] * 46, [1400, 50]]
    # As many as go at once, and a shorter one.
    assert trains([100] * 64 + [50]) == [[100] * 64, [50]]
    # What is empty goes alone.
    assert trains([100, 0, 0]) == [[100], [0], [0]]
