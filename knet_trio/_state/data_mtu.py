"""The data MTU of a handle, updated when its links change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class DataMtus:
    """The MTUs of the links in use. The cost of a change does not depend on their number."""

    def __init__(self) -> None:
        # None stands for an unknown MTU.
        self._of: dict[Hashable, int | None] = {}
        self._counts: Counter[int | None] = Counter()
        self._smallest: int | None = None

    def put(self, link: Hashable, mtu: int | None) -> None:
        """Set the MTU of ``link``, which is in use; None while it is not known."""
        if link in self._of:
            if self._of[link] == mtu:
                return
            self.discard(link)
        self._of[link] = mtu
        self._counts[mtu] += 1
        if mtu is not None and (self._smallest is None or mtu < self._smallest):
            self._smallest = mtu

    def discard(self, link: Hashable) -> None:
        """Remove ``link``, which is not in use any more."""
        if link not in self._of:
            return
        mtu = self._of.pop(link)
        self._counts[mtu] -= 1
        if not self._counts[mtu]:
            del self._counts[mtu]
            if mtu == self._smallest:
                # There are few different MTUs.
                self._smallest = min((one for one in self._counts if one is not None), default=None)

    def doubt_all(self) -> None:
        """Treat all MTUs as unknown, since the envelope has changed."""
        self._of = dict.fromkeys(self._of)
        self._counts = Counter({None: len(self._of)} if self._of else {})
        self._smallest = None

    @property
    def are_known(self) -> bool:
        """True if links are in use, and the MTU of each is known."""
        return bool(self._of) and not self._counts[None]

    def smallest(self, minimum: int) -> int:
        """Return the smallest MTU of the links in use; an unknown one counts as ``minimum``."""
        if self._smallest is None:
            return minimum
        return min(minimum, self._smallest) if self._counts[None] else self._smallest
