"""Which public calls are asynchronous, found by looking, and how their calls ended."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final, get_origin, get_type_hints

import attrs
import trio

import knet_trio
import knet_trio.testing
from tests.cancelling import kinds


def is_async(function: object) -> bool:
    """Whether a call of it is to be awaited, or entered or iterated with ``async``."""
    plain = inspect.unwrap(function) if callable(function) else function
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        return True
    if not inspect.isfunction(plain) or not plain.__module__.startswith("knet_trio"):
        return False
    answer = get_type_hints(plain).get("return")
    kind = get_origin(answer) or answer
    # One that gives a resource is none itself: the resource's own calls are looked at.
    return (
        inspect.isclass(kind)
        and not issubclass(kind, trio.abc.AsyncResource)
        and any(hasattr(kind, name) for name in ("__await__", "__aenter__", "__anext__"))
    )


def subclasses(kind: type) -> Iterator[type]:
    direct: list[type] = kind.__subclasses__()
    for subclass in direct:
        yield subclass
        yield from subclasses(subclass)


STREAMS: Final = "knet_trio.streams"


def public_calls(
    modules: Sequence[ModuleType], package: str, but: str = ""
) -> dict[str, tuple[Any, str]]:
    """Every public call of that kind by its name: what it is an attribute of, and which.

    Of classes that are not public, those that the package gives to its users as resources.
    ``but`` is a part of the package that is looked at elsewhere.
    """
    found: dict[str, tuple[Any, str]] = {}
    classes: set[type] = set()
    for module in modules:
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing):
                classes.add(thing)
            elif is_async(thing):
                found[name] = (module, name)
    for kind in subclasses(trio.abc.AsyncResource):
        within = kind.__module__.startswith(f"{package}.")
        if within and not (but and kind.__module__.startswith(f"{but}.")):
            classes.add(kind)
    for kind in classes:
        for name in dir(kind):
            is_public = not name.startswith("_") or name.startswith("__a")
            if is_public and is_async(getattr(kind, name)):
                found[f"{kind.__name__}.{name}"] = (kind, name)
    return found


PUBLIC: Final = public_calls((knet_trio, knet_trio.testing), "knet_trio", STREAMS)


@attrs.define(eq=False)
class Spied:
    """A public call, to be called as it is, that counts how that ended."""

    name: str
    owner: Any
    original: Callable[..., Any]
    returned: int = 0
    cancelled: int = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if inspect.iscoroutinefunction(inspect.unwrap(self.original)):
            return self._call(*arguments, **options)
        return self._enter(*arguments, **options)

    async def _call(self, *arguments: Any, **options: Any) -> Any:
        try:
            result = await self.original(*arguments, **options)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        self.returned += 1
        return result

    @asynccontextmanager
    async def _enter(self, *arguments: Any, **options: Any) -> AsyncGenerator[Any]:
        try:
            async with self.original(*arguments, **options) as resource:
                yield resource
        except BaseException as error:
            # A nursery's comes in a group.
            self.cancelled += set(kinds(error)) == {trio.Cancelled}
            raise
        self.returned += 1


def spy(name: str, calls: Mapping[str, tuple[Any, str]] = PUBLIC) -> Spied:
    """The public call of that name."""
    owner, attribute = calls[name]
    return Spied(name, owner, getattr(owner, attribute))


Case = Callable[[Spied], Awaitable[None]]
CASES: Final[dict[str, Case]] = {}


def of(*names: str) -> Callable[[Case], Case]:
    """Have a case be that of these public calls: it is given each of them, to be called."""

    def add(case: Case) -> Case:
        for name in names:
            assert name not in CASES
            CASES[name] = case
        return case

    return add
