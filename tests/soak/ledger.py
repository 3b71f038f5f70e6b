"""What arrived whole at a host, and what its program was given: each message once."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

import attrs

from tests.soak.messages import Name

# Seconds after which a message is written off.
KEEP: Final = 60.0
_EXAMPLES: Final = 5


@attrs.define
class _Entry:
    """A message at a host: when it was first heard of, and what was."""

    at: float
    whole: bool = False
    delivered: bool = False


class Ledger:
    """All hosts' messages. What is long past is only counted, so it does not grow.

    ``whole``, ``delivered``: how many at each host. ``missing`` were whole and not delivered,
    ``unseen`` delivered and not whole, ``doubled`` delivered again.
    """

    def __init__(self) -> None:
        self.whole: Counter[int] = Counter()
        self.delivered: Counter[int] = Counter()
        self.missing: Counter[int] = Counter()
        self.unseen: Counter[int] = Counter()
        self.doubled: Counter[int] = Counter()
        self.examples: list[str] = []
        self._entries: OrderedDict[tuple[int, Name], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def note_whole(self, host: int, name: Name, now: float) -> None:
        """All fragments of a message have arrived at a host."""
        entry = self._entry(host, name, now)
        if not entry.whole:
            entry.whole = True
            self.whole[host] += 1

    def note_delivered(self, host: int, name: Name, now: float) -> None:
        """The program at a host received a message."""
        entry = self._entry(host, name, now)
        self.delivered[host] += 1
        if entry.delivered:
            self.doubled[host] += 1
            self._give_example(f"host {host} was given {name} twice")
        entry.delivered = True

    def settle(self, now: float) -> None:
        """Judge and forget what is older than ``KEEP``; at the end, with infinity, all."""
        while self._entries:
            (host, name), entry = next(iter(self._entries.items()))
            if entry.at > now - KEEP:
                break
            self._entries.popitem(last=False)
            if entry.whole and not entry.delivered:
                self.missing[host] += 1
                self._give_example(f"host {host} was not given {name}, which arrived whole")
            elif entry.delivered and not entry.whole:
                self.unseen[host] += 1
                self._give_example(f"host {host} was given {name}, of which the tap missed some")

    def _entry(self, host: int, name: Name, now: float) -> _Entry:
        entry = self._entries.get((host, name))
        if entry is None:
            entry = self._entries[host, name] = _Entry(now)
        return entry

    def _give_example(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)
