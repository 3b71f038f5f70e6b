"""An index of links by keys, which several links may share and which can change."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from knet_trio._state.network_link import NetworkLinkState

K = TypeVar("K", bound=Hashable)


class LinkIndex(Generic[K]):
    """Finds links by their keys. A link may have several keys, and a key several links."""

    def __init__(self) -> None:
        self._links: dict[K, dict[NetworkLinkState, None]] = {}
        self._keys: dict[NetworkLinkState, tuple[K, ...]] = {}

    def __len__(self) -> int:
        return len(self._links)

    def put(self, link: NetworkLinkState, keys: Iterable[K]) -> None:
        """Set the keys of ``link``."""
        keys = tuple(keys)
        if self._keys.get(link, ()) == keys:
            return
        self.discard(link)
        if keys:
            self._keys[link] = keys
        for key in keys:
            self._links.setdefault(key, {})[link] = None

    def discard(self, link: NetworkLinkState) -> None:
        """Remove ``link``."""
        for key in self._keys.pop(link, ()):
            links = self._links[key]
            del links[link]
            if not links:
                del self._links[key]

    def find(self, key: K) -> Sequence[NetworkLinkState]:
        """Return all links with ``key``, the one put last at the end."""
        return tuple(self._links.get(key, ()))

    def get(self, key: K) -> NetworkLinkState | None:
        """Return the link with ``key`` that was put last, None if there is none."""
        links = self._links.get(key)
        return None if links is None else next(reversed(links))

    def has(self, link: NetworkLinkState, key: K) -> bool:
        """Return whether ``link`` has ``key``."""
        return link in self._links.get(key, ())
