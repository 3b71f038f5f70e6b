from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.coupled import size_of
from knet_trio._core.onwire import encode_messages, encode_parted
from knet_trio._core.parted import Parted
from knet_trio._pipeline.batches import BATCH_BYTES, pack

messages = st.lists(st.lists(st.binary(max_size=5), min_size=1).map(tuple), min_size=1)


@given(messages, st.data())
def test_it_is_a_sequence_of_what_its_parts_make_together(
    parts: list[tuple[bytes, ...]], data: st.DataObject
) -> None:
    parted, whole = Parted(parts), [b"".join(each) for each in parts]
    assert list(parted) == whole
    assert parted.sizes == list(map(len, whole))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert list(parted[start:stop]) == whole[start:stop]
    assert size_of(parted[start:stop], stop - start) == sum(map(len, whole[start:stop]))
    seqs = range(len(whole))
    assert list(
        encode_parted(parted, node=3, seqs=seqs, compress=0, broadcast=False, channel=7)
    ) == encode_messages(
        whole, node=3, seqs=seqs, compress=0, broadcast=False, channel=7, fragment_size=1000
    )


def test_it_is_cut_into_batches_without_being_put_together() -> None:
    parted = Parted([(b"head", memoryview(bytes(60_000)))] * 7)
    batches = list(pack(parted))
    assert [len(batch) for batch in batches] == [BATCH_BYTES // 60_004] * 2 + [1]
    assert all(isinstance(batch, Parted) for batch in batches)
