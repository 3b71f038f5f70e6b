from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from knet_trio import CompressConfig, DropCause, InvalidArgumentError, open_handle
from tests.cluster import connect, wait_for

TEXT = b"the same again and " * 50


async def receive_with(accepted: Iterable[str] | None) -> tuple[list[bytes], int]:
    """What arrives of a message in zlib and a short one, and how many were refused."""
    async with (
        open_handle(1, compress=CompressConfig("zlib")) as a,
        open_handle(2, accept_compression=accepted) as b,
    ):
        await connect(a, b)
        sender, receiver = a.open_channel(0), b.open_channel(0)
        await sender.send_many([TEXT, b"short"])

        def refused() -> int:
            return b.statistics().drops.get(DropCause.COMPRESSION_REFUSED, 0)

        await wait_for(lambda: len(receiver._queue) + refused() == 2)  # pyright: ignore[reportPrivateUsage]
        return [message.data for message in await receiver.receive_many()], refused()


@pytest.mark.parametrize("accepted", [None, ["zlib"], ("LZ4", "Zlib"), {"zlib": 1}.keys()])
async def test_what_is_accepted_is_opened(accepted: Iterable[str] | None) -> None:
    assert await receive_with(accepted) == ([TEXT, b"short"], 0)


@pytest.mark.parametrize("accepted", [[], ["lz4"], iter(["lz4", "bzip2"])])
async def test_what_is_not_is_dropped_and_counted(accepted: Iterable[str]) -> None:
    assert await receive_with(accepted) == ([b"short"], 1)


@pytest.mark.parametrize(
    ("accepted", "message"),
    [
        (["zlip"], "'zlip' is not known; use one of zlib, lz4"),
        ([1], "1 is not known"),
        ("zlib", "is not a list of models"),
        (7, "is not a list of models"),
    ],
)
async def test_what_cannot_be_accepted(accepted: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        async with open_handle(1, accept_compression=accepted):
            pytest.fail("it was opened")
