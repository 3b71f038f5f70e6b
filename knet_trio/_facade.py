"""What the objects that a program holds have in common."""

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
    """Have the errors of ``call`` lead to none of its arguments, one of which is a key.

    Whoever keeps an error keeps the frames that it went through, and what is in them.
    """

    @wraps(call)
    def forgetful(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            clear_frames(error.__traceback__)
            # This frame still runs, so it is not cleared.
            del args, kwargs
            raise

    return forgetful


class Facade:
    """An object that has the attributes it has, and takes no others.

    Without that, ``handle.hegde = True`` would look as if it had done something. Subclasses have
    ``__slots__``.
    """

    __slots__ = ("__weakref__",)

    # What is said about setting something that has no setter, by its name.
    _SET_OTHERWISE: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:
        # For a type checker, a class with this method would take every attribute.
        def __setattr__(self, name: str, value: object) -> None:
            try:
                super().__setattr__(name, value)
            except AttributeError:
                found = getattr(type(self), name, None)
                if isinstance(found, property) and found.fset is not None:
                    # Of the setter itself.
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
        advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(settable)}"
        if not settable:
            advice = "nothing of it can be set"
        return f"a {kind.__name__} has no attribute {name!r} to set: {advice}"
