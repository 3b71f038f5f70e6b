"""The decorator of functions for ``async with``, with errors for other uses of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def opens(
    written: str,
) -> Callable[[Callable[P, AsyncGenerator[T, None]]], Callable[P, AbstractAsyncContextManager[T]]]:
    """Decorate an async generator function, as ``contextlib.asynccontextmanager`` does.

    What the function returns is for one ``async with``. Other uses are errors that show how to
    write it. They do not show the arguments, which may be keys.

    Args:
        written: An example of what follows ``async with``, such as ``open_handle(1) as handle``.
    """

    def decorate(
        function: Callable[P, AsyncGenerator[T, None]],
    ) -> Callable[P, AbstractAsyncContextManager[T]]:
        make = asynccontextmanager(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
            return Opening(make(*args, **kwargs), written)

        return call

    return decorate


class Opening(AbstractAsyncContextManager[T]):
    """A context manager that is entered once, by ``async with``.

    Args:
        manager: The context manager that does the work.
        written: An example of what follows ``async with``.
    """

    __slots__ = ("_entered", "_manager", "_written")

    def __init__(self, manager: AbstractAsyncContextManager[T], written: str) -> None:
        self._manager = manager
        self._written = written
        self._entered = False

    def __repr__(self) -> str:
        return f"<{_name(self._written)}() for `async with`>"

    # These return the coroutines of the manager, so tracebacks have no frame more.

    def __aenter__(self) -> Coroutine[Any, Any, T]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._entered:
            raise RuntimeError(
                f"this {_name(self._written)}() was entered before: call it again for each"
                " `async with`"
            )
        self._entered = True
        return self._manager.__aenter__()

    def __aexit__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, bool | None]:
        return self._manager.__aexit__(exc_type, exc_value, traceback)

    # For type checkers these do not exist, so that they report the mistake before it is made.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name in Opening.__slots__:
                # A copy that is being made has none yet.
                raise AttributeError(name)
            raise AttributeError(self._advise(f"has no attribute {name!r}"))

        def __setattr__(self, name: str, value: object) -> None:
            if name not in Opening.__slots__:
                raise AttributeError(self._advise(f"has no attribute {name!r} to set"))
            super().__setattr__(name, value)

        def __await__(self) -> NoReturn:
            raise TypeError(self._advise("cannot be awaited"))

        def __enter__(self) -> NoReturn:
            raise RuntimeError(self._advise("is not for `with`"))

        def __exit__(self, *_: object) -> None:
            # Never called, but without it Python looks no further and has no advice.
            raise AssertionError

    def _advise(self, fault: str) -> str:
        return f"what {_name(self._written)}() returns {fault}: write `async with {self._written}:`"


def _name(written: str) -> str:
    """Return the name of the function in an example of its use."""
    return written.partition("(")[0]
