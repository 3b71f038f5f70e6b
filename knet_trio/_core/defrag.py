"""Defrag: fragments to messages.

Memory is bounded whatever a peer sends: at most ``limit`` messages of one host are incomplete at
once, and no message may grow past the largest size allowed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, cast

from knet_trio._core.onwire import MAX_MESSAGE, Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import WINDOW_SIZE, SequenceWindow
from knet_trio.errors import DropCause

DEFAULT_BUFFERS: Final = 32


class _Partial:
    """An incomplete message. ``size``, that of its fragments, is 0 until a fragment shows it."""

    __slots__ = ("broadcast", "channel", "compress", "count", "missing", "parts", "size")

    def __init__(self, first: Data | DataRun) -> None:
        self.count = first.frag_num
        self.channel = first.channel
        self.compress = first.compress
        self.broadcast = first.broadcast
        self.parts: list[bytes | None] = [None] * first.frag_num
        self.missing = first.frag_num
        self.size = 0

    def fits(self, fragment: Data) -> bool:
        """Return whether ``fragment`` can be of the same message as the fragments before it."""
        length = len(fragment.payload)
        last = self.parts[-1] or b""
        if (
            fragment.frag_num != self.count
            or fragment.channel != self.channel
            or fragment.compress != self.compress
            or fragment.broadcast != self.broadcast
        ):
            return False
        if fragment.frag_seq < self.count:
            # Only the last fragment may differ, and only by being shorter.
            return (
                (self.size == 0 or length == self.size)
                and len(last) <= length
                and length * (self.count - 1) + max(len(last), 1) <= MAX_MESSAGE
            )
        return self.size == 0 or (
            length <= self.size and self.size * (self.count - 1) + length <= MAX_MESSAGE
        )

    def fits_together(self, run: DataRun, start: int, payloads: list[bytes]) -> bool:
        """Return whether several fragments of ``run`` are new and can be of the same message.

        Args:
            run: The run that has the fragments.
            start: The index of the first fragment in the message.
            payloads: The payloads of the fragments.
        """
        sizes = list(map(len, payloads))
        end = start + len(sizes)
        size, last = sizes[0], sizes.pop()
        if end < self.count:
            # The last fragment of the message is not among these, but may be here already.
            if last != size:
                return False
            last = len(self.parts[-1] or b"")
        return (
            self.is_like(run)
            and sizes.count(size) == len(sizes)
            and self.size in (0, size)
            and last <= size
            and size * (self.count - 1) + max(last, 1) <= MAX_MESSAGE
            and (self.missing == self.count or self.parts[start:end].count(None) == end - start)
        )

    def is_like(self, run: DataRun) -> bool:
        """Return whether the headers of ``run`` agree with those of the fragments before it."""
        return (
            run.frag_num == self.count
            and run.channel == self.channel
            and run.compress == self.compress
            and run.broadcast == self.broadcast
        )


class Reassembly:
    """The incomplete messages of one host.

    Args:
        drop: Called with the cause of each message or fragment that is dropped.
        window: The window of the host, which has seen the number of each fragment before ``add``.
        limit: The most messages that may wait for fragments at once.

    Attributes:
        limit: The most messages that may wait for fragments at once.
    """

    def __init__(
        self,
        drop: Callable[[DropCause], None],
        window: SequenceWindow,
        limit: int = DEFAULT_BUFFERS,
    ) -> None:
        self.limit = limit
        self._drop = drop
        self._window = window
        # In the order in which they last got a fragment: the first is the one to give up.
        self._partials: OrderedDict[int, _Partial] = OrderedDict()

    def __len__(self) -> int:
        return len(self._partials)

    def add(self, fragment: Data) -> bytes | None:
        """Add one fragment of several; return the message if no other fragment was missing."""
        seq = fragment.seq
        partial = self._partials.get(seq)
        if not self._window.is_started(seq):
            # If there is a message under this number, it is another one, 65535 numbers ago.
            partial = _Partial(fragment)
            if not partial.fits(fragment):
                self._drop(DropCause.BAD_FRAGMENT)
                return None
            self._make_room(seq)
            self._window.mark_started(seq)
            self._partials[seq] = partial
        elif partial is None:
            # A late fragment of a message that was given up must not start it again.
            self._drop(DropCause.STALE_FRAGMENT)
            return None
        elif not partial.fits(fragment):
            self._drop(DropCause.BAD_FRAGMENT)
            return None
        index = fragment.frag_seq - 1
        if partial.parts[index] is not None:
            self._drop(DropCause.REPEATED_FRAGMENT)
            return None
        partial.parts[index] = fragment.payload
        partial.missing -= 1
        if fragment.frag_seq < partial.count:
            partial.size = len(fragment.payload)
        return self._whole(seq, partial)

    def add_together(self, run: DataRun, seq: int, first: int, payloads: list[bytes]) -> bool:
        """Add several fragments of one message, if all of them fit.

        Args:
            run: The run that has the fragments.
            seq: The number of the message, which was not delivered.
            first: The number of the first fragment in the message.
            payloads: The payloads of the fragments.

        Returns:
            True if the fragments were added; ``take`` returns the message once it is whole. False
            if nothing has changed; added one by one, some of the fragments may fit.
        """
        is_started = self._window.is_started(seq)
        partial = self._partials.get(seq) if is_started else _Partial(run)
        start = first - 1
        if partial is None or not partial.fits_together(run, start, payloads):
            return False
        if is_started:
            self._partials.move_to_end(seq)
        else:
            if self._partials:
                self._make_room(seq)
            self._window.mark_started(seq)
            self._partials[seq] = partial
        partial.parts[start : start + len(payloads)] = payloads
        partial.missing -= len(payloads)
        partial.size = len(payloads[0])
        return True

    def complete(self, run: DataRun, seq: int, payload: bytes) -> bytes | None:
        """Add the last fragment of a message, if only that one is missing and it fits.

        Args:
            run: The run that has the fragment.
            seq: The number of the message, which was not delivered.
            payload: The payload of the fragment.

        Returns:
            The message; None if nothing has changed.
        """
        partial = self._partials.get(seq)
        if (
            partial is None
            or partial.missing != 1
            or partial.parts[-1] is not None
            or run.frag_seq != partial.count
            or not partial.is_like(run)
            or not self._window.is_started(seq)
            or len(payload) > partial.size
            or partial.size * (partial.count - 1) + len(payload) > MAX_MESSAGE
        ):
            return None
        del self._partials[seq]
        partial.parts[-1] = payload
        return b"".join(cast("list[bytes]", partial.parts))

    def take(self, seq: int) -> bytes | None:
        """Take out the message numbered ``seq``; return None if fragments are missing."""
        partial = self._partials[seq]
        return None if partial.missing else self._whole(seq, partial)

    def _whole(self, seq: int, partial: _Partial) -> bytes | None:
        if partial.missing:
            self._partials.move_to_end(seq)
            return None
        del self._partials[seq]
        # No part is None any more.
        return b"".join(cast("list[bytes]", partial.parts))

    def set_limit(self, limit: int) -> None:
        """Allow ``limit`` incomplete messages from now on, and give up the oldest beyond that."""
        self.limit = limit
        self._give_up_oldest(limit)

    def clear(self) -> None:
        """Give up all incomplete messages: the host is gone or starts again."""
        for _ in self._partials:
            self._drop(DropCause.REASSEMBLY_GIVEN_UP)
        self._partials.clear()

    def make_room_ahead(self, first: int, count: int) -> None:
        """Give up what ``add`` would give up for new messages that come one after the other.

        Args:
            first: The number of the first new message, ahead of all numbers before.
            count: The number of new messages, fewer than the window holds.
        """
        if not self._partials:
            return
        # The first message makes room for all of them.
        self._give_up_all_but_behind(first)
        self._give_up_oldest(self.limit - 1)
        self._give_up_all_but_behind((first + count - 1) & 0xFFFF)

    def _make_room(self, seq: int) -> None:
        self._give_up([other for other in self._partials if other == seq or self._is_stale(other)])
        self._give_up_oldest(self.limit - 1)

    def _give_up_all_but_behind(self, newest: int) -> None:
        """Give up every message that is not behind ``newest`` and in its window."""
        partials = self._partials
        self._give_up([seq for seq in partials if not 0 < (newest - seq) & 0xFFFF < WINDOW_SIZE])

    def _give_up(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            del self._partials[seq]
            self._drop(DropCause.REASSEMBLY_GIVEN_UP)

    def _give_up_oldest(self, keep: int) -> None:
        while len(self._partials) > keep:
            self._partials.popitem(last=False)
            self._drop(DropCause.REASSEMBLY_GIVEN_UP)

    def _is_stale(self, seq: int) -> bool:
        """Return whether ``seq`` has left the window, so that none of its fragments can come."""
        newest = self._window.newest
        return newest is None or (newest - seq) & 0xFFFF >= WINDOW_SIZE
