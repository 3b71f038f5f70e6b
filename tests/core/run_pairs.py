"""Two ends of a sequence of messages: one is given runs, the other each of their packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import MAX_SEQ, Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import WINDOW_SIZE
from knet_trio.errors import DropCause


class Both:
    """A source that is given runs, and one that is given each of their packets.

    Attributes:
        is_newest: What the envelopes say of the packets, see ``InboundSequence.receive``.
    """

    def __init__(self, buffers: int = 3) -> None:
        self.drops: tuple[Counter[DropCause], Counter[DropCause]] = (Counter(), Counter())
        self.runs = InboundSequence(self._note(0), buffers)
        self.plain = InboundSequence(self._note(1), buffers)
        self.touched: set[int] = set()
        self.is_newest: bool | None = None

    def _note(self, which: int) -> Callable[[DropCause], None]:
        def drop(cause: DropCause) -> None:
            self.drops[which][cause] += 1

        return drop

    def number(self, step: int) -> int:
        return ((self.plain.newest or 0) + step) & 0xFFFF

    def run(self, run: DataRun) -> list[bytes]:
        self.touched.update(data.seq for data in run.packets())
        received = [self.plain.receive(data, self.is_newest) for data in run.packets()]
        expected = [payload for payload in received if payload is not None]
        assert self.runs.receive_run(run, self.is_newest) == expected
        self.check()
        return expected

    def one(self, data: Data) -> None:
        self.touched.add(data.seq)
        assert self.runs.receive(data, self.is_newest) == self.plain.receive(data, self.is_newest)
        self.check()

    def ping(self, seq: int, *, timed: bool) -> None:
        for source in (self.runs, self.plain):
            source.ping_received(seq, timed=timed)
        self.check()

    def set_buffers(self, buffers: int) -> None:
        for source in (self.runs, self.plain):
            source.set_buffers(buffers)
        self.check()

    def contact_lost(self) -> None:
        for source in (self.runs, self.plain):
            source.contact_lost()
        self.check()

    def doubt_numbers(self) -> None:
        for source in (self.runs, self.plain):
            source.doubt_numbers()
        self.check()

    def clear(self) -> None:
        for source in (self.runs, self.plain):
            source.clear()
        self.check()

    def check(self) -> None:
        assert self.runs.newest == self.plain.newest
        assert self.runs.pending == self.plain.pending
        assert self.drops[0] == self.drops[1]

    def check_what_is_known(self) -> None:
        """What comes later meets the same state: of what is whole, and of what is not."""
        for seq in sorted(self.touched):
            for number in range(max(seq - 2, 0), min(seq + 20, MAX_SEQ + 1)):
                if self.plain.newest is None or (self.plain.newest - number) & 0xFFFF < WINDOW_SIZE:
                    for part in (1, 2, 3):
                        self.one(Data(1, number, 0, False, 3, part, 0, b"ab"))
                    self.one(Data(1, number, 0, False, 1, 0, 0, b"whole"))
