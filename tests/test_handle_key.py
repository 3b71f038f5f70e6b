"""A key that was refused: nothing of the library leads to it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest
import trio

from knet_trio import (
    BusyError,
    CompressConfig,
    CryptoConfig,
    Handle,
    InvalidArgumentError,
    open_handle,
)
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
        {"crypto": CryptoConfig(key=KEY, model="aead", cipher="aes256")},
        {"crypto": CryptoConfig(key=KEY, model="aead", hash="sha256")},
        {"crypto": KEY},
    ],
    ids=lambda options: "-".join(options),
)
async def test_an_error_does_not_lead_to_the_key(options: dict[str, object]) -> None:
    """Whoever keeps it, such as a logger of tracebacks with their variables, has no key then."""
    with pytest.raises(InvalidArgumentError) as caught:
        async with open_any(**{"host_id": 1, "crypto": CryptoConfig(key=KEY), **options}):
            pytest.fail("it opened")
    check_no_key(caught.value)


def refused(*arguments: object, by: str = "set_crypto") -> tuple[str, tuple[object, ...]]:
    return by, arguments


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        refused(CryptoConfig(key=KEY, cipher="rot13")),
        refused(CryptoConfig(key=KEY), 0),
        refused(CryptoConfig(key=KEY), 3),
        refused(CryptoConfig(key=KEY), KEY),
        refused(KEY),
        refused(KEY.hex()),
        refused([KEY], 2),
        refused(None, KEY),
        refused(1, CryptoConfig(key=KEY)),
        refused(CryptoConfig(key=KEY, hash="none"), by="replace_crypto"),
        refused(KEY, by="replace_crypto"),
        refused(KEY, by="use_crypto"),
    ],
)
async def test_nor_does_one_of_a_handle_that_is_open(name: str, arguments: list[object]) -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError) as caught:
            getattr(handle, name)(*arguments)
        check_no_key(caught.value)
        traced = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [frame for frame in traced.stack if "/knet_trio/" in frame.filename]
        assert ours
        for frame in ours:
            assert not frame.locals or not {"config", "slot", "args", "kwargs"} & set(frame.locals)
        assert str(KEY[:8])[2:-1] not in str(caught.value)


async def test_nor_does_one_of_a_slot_in_use_or_of_a_handle_that_has_ended() -> None:
    config = CryptoConfig(key=KEY)
    async with open_handle(1) as handle:
        handle.set_crypto(CryptoConfig(key=KEY[::-1]))
        handle.use_crypto(1)
        with pytest.raises(BusyError) as busy:
            handle.set_crypto(config)
    with pytest.raises(trio.ClosedResourceError) as ended:
        handle.set_crypto(config)
    for error in (busy.value, ended.value):
        for value in variables(error):
            assert not isinstance(value, CryptoConfig)


def check_no_key(error: BaseException) -> None:
    """Fail if the frames that ``error`` went through have the key."""
    found = list(variables(error))
    assert found
    for value in found:
        assert not isinstance(value, CryptoConfig | Cipher)
        assert value not in (KEY, KEY.hex(), [KEY])
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
