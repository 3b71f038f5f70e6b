"""Classes that programs hold objects of, and never make any themselves."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class NoPublicConstructor(ABCMeta):
    """The metaclass of classes that only the package makes objects of, with ``construct``.

    Calling such a class, and deriving from it, is a TypeError, as with Trio's own classes. Its
    attribute ``_MADE_BY`` names the call that programs use instead.
    """

    _MADE_BY: str

    # A type checker would take this for the constructor, and check the arguments of none.
    if not TYPE_CHECKING:

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            for base in bases:
                if isinstance(base, NoPublicConstructor):
                    raise TypeError(
                        f"{base.__name__} cannot be subclassed: keep one in an attribute of"
                        " another class"
                    )
            return super().__new__(mcs, name, bases, namespace)

        def __call__(cls, *_: object, **__: object) -> NoReturn:
            raise TypeError(f"{cls.__name__} has no public constructor: use {cls._MADE_BY}")

        # There are no subclasses, and ABCMeta's way of looking for some takes longer.
        __instancecheck__ = type.__instancecheck__


_call: Final[Callable[..., Any]] = type.__call__


def construct(kind: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return a new object of a class that has no public constructor."""
    made: T = _call(kind, *args, **kwargs)
    return made
