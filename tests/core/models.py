"""What is known of one host's messages, in its plainest form.

The models know the protocol's rules and nothing of how the package keeps them: messages are counted
by numbers that never wrap, and what is here of a message is a list of its fragments.
"""

from __future__ import annotations

from collections import Counter

from knet_trio._core.onwire import MAX_MESSAGE, Data
from knet_trio._core.runs import DataRun
from knet_trio.errors import DropCause

WINDOW = 4096
NUMBERS = 65536


class WindowModel:
    """The newest message and what was done with those before it.

    A number on the wire can be that of many messages, each 65536 after the one before. It is taken
    for the one closest to the newest message; if that is more than a window away, the host must
    have begun anew.
    """

    def __init__(self) -> None:
        self.newest: int | None = None
        self.started: set[int] = set()
        self.delivered: set[int] = set()

    def closest(self, number: int) -> int:
        """The message next to the newest that has ``number`` on the wire."""
        if self.newest is None:
            return number
        half = NUMBERS // 2
        return self.newest + (number - self.newest + half) % NUMBERS - half

    def message(self, number: int) -> int | None:
        """The message that ``number`` is of; None if it is too far off."""
        message = self.closest(number)
        if self.newest is None or -WINDOW < message - self.newest <= WINDOW:
            return message
        return None

    def advance(self, number: int) -> bool:
        """Look at a number that arrived; whether all before it is forgotten for it."""
        message = self.message(number)
        if message is None:
            self.clear()
            self.newest = number
            return True
        self.newest = message if self.newest is None else max(self.newest, message)
        return False

    def holds(self, message: int) -> bool:
        """Whether ``message`` is one of the last 4096."""
        return self.newest is not None and self.newest - WINDOW < message <= self.newest

    def clear(self) -> None:
        self.newest = None
        self.started.clear()
        self.delivered.clear()


def fit_together(fragments: list[Data]) -> bool:
    """Whether all can be of one message, of at most 65536 bytes.

    Of a last fragment alone it is not known how large the others are.
    """
    if len({(f.frag_num, f.channel, f.compress, f.broadcast) for f in fragments}) > 1:
        return False
    count = fragments[0].frag_num
    sizes = {len(f.payload) for f in fragments if f.frag_seq < count}
    last = max((len(f.payload) for f in fragments if f.frag_seq == count), default=1)
    if not sizes:
        return True
    size = max(sizes)
    return len(sizes) == 1 and last <= size and size * (count - 1) + last <= MAX_MESSAGE


class ReassemblyModel:
    """The fragments of messages that are not whole, by number, those touched last at the end."""

    def __init__(self, window: WindowModel, limit: int) -> None:
        self.window = window
        self.limit = limit
        self.drops: Counter[DropCause] = Counter()
        self.partials: dict[int, list[Data]] = {}

    def add(self, fragment: Data) -> bytes | None:
        """The whole message if ``fragment`` completes it."""
        number = fragment.seq
        message = self.window.message(number)
        assert message is not None, "the window has to see a number first"
        begun = message in self.window.started | self.window.delivered
        if begun and number not in self.partials:
            self.drops[DropCause.STALE_FRAGMENT] += 1
            return None
        here = self.partials[number] if begun else []
        if not fit_together([*here, fragment]):
            self.drops[DropCause.BAD_FRAGMENT] += 1
            return None
        if fragment.frag_seq in [other.frag_seq for other in here]:
            self.drops[DropCause.REPEATED_FRAGMENT] += 1
            return None
        if not begun:
            self._give_up([old for old in self.partials if old == number or self._is_past(old)])
            self._keep(self.limit - 1)
            self.window.started.add(message)
        self.partials.pop(number, None)
        here = sorted([*here, fragment], key=lambda each: each.frag_seq)
        if len(here) == fragment.frag_num:
            return b"".join(each.payload for each in here)
        self.partials[number] = here
        return None

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self._keep(limit)

    def clear(self) -> None:
        self._keep(0)

    def _is_past(self, number: int) -> bool:
        return not self.window.holds(self.window.closest(number))

    def _keep(self, count: int) -> None:
        self._give_up(list(self.partials)[: max(len(self.partials) - count, 0)])

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            del self.partials[number]
            self.drops[DropCause.REASSEMBLY_GIVEN_UP] += 1


class SourceModel:
    """All that is known of a host: its messages, and the signs that it began anew."""

    def __init__(self, limit: int) -> None:
        self.window = WindowModel()
        self.reassembly = ReassemblyModel(self.window, limit)
        self.drops = self.reassembly.drops
        self.in_doubt = False
        # The number of the last ping since contact was lost.
        self.announced: int | None = None
        self.data_came = False
        self.announced_by: dict[int, int] = {}
        self.contact = False
        self.forced: int | None = None

    @property
    def newest(self) -> int | None:
        """The newest number on the wire."""
        newest = self.window.newest
        return None if newest is None else newest % NUMBERS

    @property
    def pending(self) -> int:
        return len(self.reassembly.partials)

    def receive(self, data: Data) -> bytes | None:
        """The message if ``data`` completes one that was not delivered."""
        self.data_came = True
        self._heard(data.seq if self.announced is None else self.announced)
        if self.window.advance(data.seq):
            self.reassembly.clear()
        message = self.window.closest(data.seq)
        if message in self.window.delivered:
            self.drops[DropCause.DUPLICATE] += 1
            return None
        whole = data.payload if data.frag_num == 1 else self.reassembly.add(data)
        if whole is not None:
            self.window.delivered.add(message)
        return whole

    def receive_run(self, run: DataRun) -> list[bytes]:
        """All messages that the packets of ``run`` complete, one after the other."""
        received = [self.receive(data) for data in run.packets()]
        return [whole for whole in received if whole is not None]

    def ping_received(self, seq: int, *, timed: bool, link: int = 0) -> None:
        self.announced = seq
        if timed:
            # It has sent nothing yet. All its links say so, some later than others, and they say
            # it again and again.
            before = self.announced_by.get(link)
            if seq == 0 and before not in (0, None):
                self.clear()
                self.announced_by = {}
            elif before is not None and not self.contact:
                self.in_doubt |= 0 < (before - seq) % NUMBERS <= NUMBERS // 2
            self.announced_by[link] = seq
        elif seq != self.forced and not self._is_past(seq):
            if not self.data_came:
                self.clear()
            self.forced = seq
            self.data_came = False

    def set_buffers(self, buffers: int) -> None:
        self.reassembly.set_limit(buffers)

    def contact_found(self) -> None:
        self.contact = True

    def contact_lost(self) -> None:
        self.contact = False
        self.reassembly.clear()
        self.in_doubt = True
        self.announced = None

    def clear(self) -> None:
        self.window.clear()
        self.reassembly.clear()

    def _is_past(self, number: int) -> bool:
        newest = self.window.newest
        return newest is not None and self.window.closest(number) < newest

    def _heard(self, number: int) -> None:
        """Data after a silence: a host whose number has gone back has begun anew."""
        if self.in_doubt and self._is_past(number):
            self.clear()
        self.in_doubt = False
