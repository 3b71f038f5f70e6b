"""The change of the key that a handle takes part in, for the status of the handle.

``knet_trio.rekeying`` provides it. It is not imported here, since it imports this package.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from knet_trio import Handle
from knet_trio.control.records import KeyChangeReport

Describe: TypeAlias = Callable[[], KeyChangeReport | None]

_sources: Final[WeakKeyDictionary[Handle, Describe]] = WeakKeyDictionary()


@contextmanager
def reporting_key_change(handle: Handle, describe: Describe) -> Generator[None]:
    """Report changes of the key in the status of a handle, while the block runs.

    Args:
        handle: The handle.
        describe: Returns the change in progress, None for none.
    """
    _sources[handle] = describe
    try:
        yield
    finally:
        _sources.pop(handle, None)


def find_key_change(handle: Handle) -> KeyChangeReport | None:
    """Return the change of the key in progress, None for none or if nothing reports changes."""
    describe = _sources.get(handle)
    return None if describe is None else describe()
