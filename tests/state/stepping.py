"""Doing something, such as cancelling it, at each of the steps of an async call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")


class DoAt(Generic[T]):
    """Awaits what ``call`` returns and calls ``do`` as its step number ``step`` begins.

    Step 0 is before it does anything, step n after it was resumed for the n-th time. ``reached``
    says whether there was such a step.
    """

    def __init__(self, call: Callable[[], Awaitable[T]], step: int, do: Callable[[], object]):
        self._call = call
        self._step = step
        self._do = do
        self.reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._call().__await__()
        value: object = None
        error: BaseException | None = None
        number = 0
        while True:
            if number == self._step:
                self.reached = True
                self._do()
            number += 1
            try:
                if error is None:
                    trap: object = steps.send(value)
                else:
                    trap = steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            value, error = None, None
            try:
                value = yield trap
            except BaseException as thrown:
                error = thrown


class CancelAt(DoAt[T]):
    """Cancels ``scope`` at that step: that hits the next checkpoint."""

    def __init__(self, call: Callable[[], Awaitable[T]], step: int, scope: trio.CancelScope):
        super().__init__(call, step, scope.cancel)
