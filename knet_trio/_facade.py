"""The common base of the public objects: handles, hosts, links and channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from traceback import clear_frames
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

from knet_trio.errors import UnknownAttributeError

P = ParamSpec("P")
T = TypeVar("T")


def forgets_arguments(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that its errors do not keep its arguments, such as a key, in memory.

    An error keeps the frames that it passed through, and so their variables.
    """

    @wraps(call)
    def forgetful(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            clear_frames(error.__traceback__)
            # clear_frames does not clear this frame, which is running.
            del args, kwargs
            raise

    return forgetful


class Facade:
    """A base class whose attributes cannot be misspelled: setting an unknown one is an error.

    Without it, ``handle.hegde = True`` would have no effect and raise nothing. Subclasses have
    ``__slots__``.
    """

    __slots__ = ("__weakref__",)

    # How to change properties that have no setter, for the error, by their names.
    _SET_OTHERWISE: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:
        # With this method, type checkers would accept every attribute.
        def __setattr__(self, name: str, value: object) -> None:
            try:
                super().__setattr__(name, value)
            except AttributeError:
                found = getattr(type(self), name, None)
                if isinstance(found, property) and found.fset is not None:
                    # Raised by the setter itself.
                    raise
                raise UnknownAttributeError(self._why_not_set(name)) from None

    def _why_not_set(self, name: str) -> str:
        kind = type(self)
        if hasattr(kind, name):
            advice = self._SET_OTHERWISE.get(name, "it can only be read")
            return f"{name} of a {kind.__name__} cannot be set: {advice}"
        settable = [
            known
            for known in dir(kind)
            if isinstance(found := getattr(kind, known), property) and found.fset is not None
        ]
        close = get_close_matches(name, settable, n=1)
        otherwise = self._SET_OTHERWISE.get(name)
        if otherwise is not None:
            return f"a {kind.__name__} has no attribute {name!r} to set: {otherwise}"
        advice = f"did you mean {close[0]}?" if close else f"use one of {', '.join(settable)}"
        if not settable:
            advice = "it has no attributes that can be set"
        return f"a {kind.__name__} has no attribute {name!r} to set: {advice}"
