"""Streams over real sockets, with packets as large as those of the loopback interface."""

from __future__ import annotations

import hashlib
import random

import pytest
import trio

from knet_trio import CompressConfig, CryptoConfig
from knet_trio.streams import open_streams
from tests.cluster import KEY, PATIENCE, open_pair

SIZE = 4_000_000


@pytest.mark.parametrize("dressing", ["clear", "encrypted", "compressed"])
async def test_a_stream_and_an_answer_arrive_whole(dressing: str) -> None:
    data = random.Random(1).randbytes(SIZE)
    crypto = CryptoConfig(key=KEY) if dressing == "encrypted" else None
    async with (
        open_pair(crypto=crypto) as pair,
        open_streams(pair.a, channel=7) as alpha,
        open_streams(pair.b, channel=7) as beta,
        beta.listener() as listener,
        beta.requests() as requests,
        trio.open_nursery() as nursery,
    ):
        if dressing == "compressed":
            pair.a.set_compress(CompressConfig("lz4"))
        with trio.fail_after(PATIENCE):
            here = await alpha.connect(pair.b.host_id)
            there = await listener.accept()
            nursery.start_soon(here.send_all, data)
            arrived = hashlib.sha256()
            left = SIZE
            while left:
                part = await there.receive_some()
                arrived.update(part)
                left -= len(part)
            assert arrived.digest() == hashlib.sha256(data).digest()

            async def answer() -> None:
                request = await requests.receive()
                await request.answer(request.data[::-1])

            nursery.start_soon(answer)
            # It may change as soon as it was handed over.
            question = bytearray(data[:1_000_000])
            got = await alpha.request(pair.b.host_id, question)
            assert got == data[:1_000_000][::-1]
