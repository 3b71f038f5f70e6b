"""Functions for ``async with`` that are used otherwise."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import pytest
import trio

from knet_trio import CryptoConfig, open_handle
from knet_trio._opening import opens
from knet_trio.channel_socket import serve_channel
from knet_trio.cluster import open_cluster
from knet_trio.control import connect_control, serve_control
from knet_trio.metrics import serve_metrics
from knet_trio.rekeying import serve_rekeying
from knet_trio.streams import open_streams
from knet_trio.tap import open_tap
from knet_trio.testing import open_network
from tests.cluster import KEY

WRITE: Final = r"write `async with {}\(.*:`"

# By the name of the function, what is made with arguments that nobody looks at.
OPENINGS: Final[dict[str, Callable[[], Any]]] = {
    "open_handle": lambda: open_handle(1, crypto=CryptoConfig(KEY)),
    "open_streams": lambda: open_streams(None),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "open_network": open_network,
    "open_cluster": lambda: open_cluster("lab.toml"),
    "open_tap": lambda: open_tap("knet0"),
    "serve_channel": lambda: serve_channel(None, 2, ""),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "serve_control": lambda: serve_control(None, ""),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "serve_metrics": lambda: serve_metrics(None, ""),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "serve_rekeying": lambda: serve_rekeying(None),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "connect_control": lambda: connect_control(""),
}

every_opening = pytest.mark.parametrize(("name", "make"), OPENINGS.items(), ids=OPENINGS)


@every_opening
async def test_other_uses_say_what_to_write(name: str, make: Callable[[], Any]) -> None:
    opening = make()
    write = WRITE.format(name)
    with pytest.raises(AttributeError, match=rf"has no attribute 'add_host': {write}"):
        opening.add_host(2)
    with pytest.raises(AttributeError, match=rf"has no attribute 'hedge' to set: {write}"):
        opening.hedge = False
    with pytest.raises(TypeError, match=rf"cannot be awaited: {write}"):
        await opening
    with pytest.raises(RuntimeError, match=rf"is not for `with`: {write}"), opening:
        pass
    assert repr(opening) == f"<{name}() for `async with`>"
    assert not hasattr(opening, "add_host")


async def test_it_is_entered_once() -> None:
    opening = open_handle(1)
    async with opening:
        pass
    with pytest.raises(RuntimeError, match=r"this open_handle\(\) was entered before"):
        async with opening:
            pass


async def test_methods_say_so_too() -> None:
    async with open_handle(1) as handle, open_streams(handle) as streams:
        methods = (handle.events, streams.listener, streams.requests, streams.messages)
        makes: list[Callable[[], Any]] = list(methods)
        for make in makes:
            with pytest.raises(TypeError, match=rf"async with \w+\.{make.__name__}\(\) as"):
                await make()


async def test_no_text_has_a_key() -> None:
    opening: Any = open_handle(1, crypto=CryptoConfig(KEY))
    with pytest.raises(AttributeError) as caught:
        opening.add_host(2)
    texts = (repr(opening), *traceback.format_exception(caught.value))
    assert not any(KEY.hex() in text or repr(KEY)[2:-1] in text for text in texts)


async def test_it_works_in_an_exit_stack() -> None:
    async with AsyncExitStack() as stack:
        handle = await stack.enter_async_context(open_handle(1))
        assert handle.host_id == 1
    with pytest.raises(trio.ClosedResourceError):
        handle.add_host(2)


async def test_errors_pass_with_no_more_frames_of_the_package() -> None:
    @opens("fails()")
    async def fails() -> AsyncGenerator[None, None]:
        yield

    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        async with fails():
            raise error
    assert caught.value is error
    assert "knet_trio/_opening.py" not in "".join(traceback.format_exception(error))


def test_a_function_stays_what_it_is() -> None:
    assert isinstance(open_handle(1), AbstractAsyncContextManager)
    assert inspect.isasyncgenfunction(inspect.unwrap(open_handle))
    assert open_handle.__doc__ is not None
    assert "host_id" in inspect.signature(open_handle).parameters


def test_a_copy_is_as_useless_as_the_original() -> None:
    opening: Any = copy.copy(open_handle(1))
    with pytest.raises(AttributeError, match="write `async with open_handle"):
        opening.add_host(2)
