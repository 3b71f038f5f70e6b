"""The key of a handle that did not open: nothing of the library leads to it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from knet_trio import CompressConfig, CryptoConfig, Handle, InvalidArgumentError, open_handle
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._state.context import Context
from knet_trio.abc import Cipher
from tests.cluster import KEY

open_any = cast("Callable[..., AbstractAsyncContextManager[Handle]]", open_handle)


@pytest.mark.parametrize(
    "options",
    [
        {"host_id": -1},
        {"dscp": 64},
        {"pmtud_interval": 0.5},
        {"mtu": 100},
        {"log_fd": -1},
        {"log_fd": 2**31 - 1},
        {"log_level": "loud"},
        {"compress": CompressConfig("paper")},
        {"compress": CompressConfig("zlib", level=99999)},
        {"accept_compression": ["paper"]},
        {"filter": 3},
        {"reconnect_interval": 0},
        {"crypto": CryptoConfig(key=KEY, cipher="rot13")},
        {"crypto": CryptoConfig(key=KEY, hash="none")},
        {"crypto": CryptoConfig(key=KEY, hash="md4")},
        {"crypto": CryptoConfig(key=KEY, model="gost")},
        {"crypto": KEY},
    ],
    ids=lambda options: "-".join(options),
)
async def test_an_error_does_not_lead_to_the_key(options: dict[str, object]) -> None:
    """Whoever keeps it, such as a logger of tracebacks with their variables, has no key then."""
    with pytest.raises(InvalidArgumentError) as caught:
        async with open_any(**{"host_id": 1, "crypto": CryptoConfig(key=KEY), **options}):
            pytest.fail("it opened")
    found = list(variables(caught.value))
    assert found
    for value in found:
        assert not isinstance(value, CryptoConfig | Cipher)
        assert value != KEY
        slots = value.crypto if isinstance(value, Context) else value
        if isinstance(slots, CryptoSlots):
            assert slots.openers == ()


def variables(error: BaseException) -> Iterator[object]:
    """What the frames of the library hold that ``error`` or its causes went through."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals["__name__"].startswith("knet_trio"):
            yield from frame.f_locals.values()
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from variables(other)
