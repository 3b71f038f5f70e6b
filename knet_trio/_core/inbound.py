"""The receiving end of one host's data: each message once and whole, also after restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from knet_trio._core.defrag import DEFAULT_BUFFERS, Reassembly
from knet_trio._core.onwire import MAX_MESSAGE, Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import SequenceWindow
from knet_trio.errors import DropCause

# Numbers wrap around: half of them are ahead of a number, the others behind.
_HALF: Final = 0x8000


class InboundSequence:
    """The receiving end of one host's sequence of messages.

    Args:
        drop: Called with the cause of each packet or message that is dropped.
        buffers: The most messages that may wait for fragments at once.
    """

    def __init__(self, drop: Callable[[DropCause], None], buffers: int = DEFAULT_BUFFERS) -> None:
        self._drop = drop
        self._window = SequenceWindow()
        self._reassembly = Reassembly(drop, self._window, buffers)
        # By link, the number in the last scheduled ping since the host was last seen to start.
        self._announced_by: dict[int, int] = {}
        self._last_forced: int | None = None
        self._data_since_forced = False
        self._contact = False
        # The next packet may come from a host that has started again. `_announced` is the number in
        # its last ping since contact was lost.
        self._in_doubt = False
        self._announced: int | None = None
        # The same for packets of an envelope that shows copies, until such a packet comes.
        self._numbers_in_doubt = False

    @property
    def newest(self) -> int | None:
        """The newest number that came, None if none came since the last fresh start."""
        return self._window.newest

    @property
    def pending(self) -> int:
        """The number of messages that wait for fragments."""
        return len(self._reassembly)

    def set_buffers(self, buffers: int) -> None:
        """Set the most messages that may wait for fragments at once."""
        self._reassembly.set_limit(buffers)

    def receive(self, data: Data, is_newest: bool | None = None) -> bytes | None:
        """Take one data packet.

        Args:
            data: The packet.
            is_newest: None if the envelope does not name the host's life. Else the envelope shows
                restarts and copies, numbers show a restart only while they are in doubt, and this
                is True if the packet is the newest data of its life: only then may its number be
                too far off.

        Returns:
            The message, if the packet completes one that was not delivered before; else None.
        """
        self._data_since_forced = True
        seq = data.seq
        window = self._window
        # Checked here, since most messages need nothing of it, and a call costs time.
        is_doubtful = self._in_doubt or self._numbers_in_doubt or is_newest is False
        if is_doubtful and not self._is_in_place(seq, is_newest):
            return None
        if window.advance(seq):
            self._reassembly.clear()
        if window.is_delivered(seq):
            self._drop(DropCause.DUPLICATE)
            return None
        payload = data.payload if data.frag_num == 1 else self._reassembly.add(data)
        if payload is not None:
            window.mark_delivered(seq)
        return payload

    def _is_in_place(self, seq: int, is_newest: bool | None) -> bool:
        """Settle doubts about the known numbers; return False for a packet that is dropped.

        Args:
            seq: The number of the packet.
            is_newest: As in ``receive``.
        """
        if is_newest is None:
            if self._in_doubt:
                self._resolve(seq if self._announced is None else self._announced)
            if self._numbers_in_doubt:
                self._settle_numbers(seq)
            return True
        if self._numbers_in_doubt:
            self._resolve_numbers(seq)
        if not is_newest and self._window.is_too_far(seq):
            self._drop(DropCause.DUPLICATE)
            return False
        return True

    def receive_whole(self, seq: int, is_newest: bool | None = None) -> bool:
        """Take a message that came in one packet.

        Args:
            seq: The number of the message.
            is_newest: As in ``receive``.

        Returns:
            True if the message is new; False if it was dropped.
        """
        self._data_since_forced = True
        window = self._window
        # Checked here, since most messages need nothing of it, and a call costs time.
        is_doubtful = self._in_doubt or self._numbers_in_doubt or is_newest is False
        if is_doubtful and not self._is_in_place(seq, is_newest):
            return False
        # Most messages come in order: with the next number, which has no mark yet.
        if window.deliver_next(seq):
            return True
        if window.advance(seq):
            self._reassembly.clear()
        if window.is_delivered(seq):
            self._drop(DropCause.DUPLICATE)
            return False
        window.mark_delivered(seq)
        return True

    def receive_run(self, run: DataRun, is_newest: bool | None = None) -> list[bytes]:
        """Take the data packets of one run, with the same effect as one by one.

        Args:
            run: The packets.
            is_newest: As in ``receive``, for each packet when its turn comes.

        Returns:
            The messages that the packets complete.
        """
        if is_newest is None:
            if self._in_doubt or self._numbers_in_doubt:
                return self._receive_each(run, None)
        else:
            if self._numbers_in_doubt:
                self._resolve_numbers(run.seq)
            if not is_newest and self._is_any_too_far(run):
                return self._receive_each(run, is_newest)
        self._data_since_forced = True
        if run.frag_num == 1 and self._window.advance_delivered(run.seq, len(run.payloads)):
            return run.payloads
        seen = self._count_seen(run)
        if seen:
            for _ in range(seen):
                self._drop(DropCause.DUPLICATE)
            if seen == len(run.payloads):
                return []
            run = run.part(seen, len(run.payloads))
        if run.frag_num > 1:
            return self._receive_fragments(run, is_newest)
        if seen and self._window.advance_delivered(run.seq, len(run.payloads)):
            return run.payloads
        return self._receive_each(run, is_newest)

    def _is_any_too_far(self, run: DataRun) -> bool:
        """Return whether the number of a packet in ``run`` may start the window again."""
        window = self._window
        last = run.seq + run.message_count - 1
        return window.is_too_far(run.seq) or window.is_too_far(last)

    def _receive_each(self, run: DataRun, is_newest: bool | None) -> list[bytes]:
        received = (self.receive(packet, is_newest) for packet in run.packets())
        return [payload for payload in received if payload is not None]

    def _count_seen(self, run: DataRun) -> int:
        """Return how many packets at the start of ``run`` are of messages that were delivered.

        Many packets may come twice, for example over another link.
        """
        messages = self._window.count_delivered(run.seq, run.message_count)
        if run.cycle == 1 or not messages:
            return messages
        return min(messages * run.cycle - run.frag_seq + 1, len(run.payloads))

    def _receive_fragments(self, run: DataRun, is_newest: bool | None) -> list[bytes]:
        if run.cycle == 1:
            return self._receive_one_of_each(run)
        if run.cycle < run.frag_num:
            return self._receive_in_turns(run, is_newest)
        count, each = len(run.payloads), run.frag_num
        # First the rest of a message that an earlier run has begun, then whole messages, then the
        # beginning of another one.
        start = min((1 - run.frag_seq) % each, count)
        end = count - (count - start) % each
        received: list[bytes] = []
        if start:
            payloads = run.payloads[:start]
            received += self._receive_part(run, run.seq, run.frag_seq, payloads, is_newest)
        if start < end:
            received += self._receive_whole_messages(run.part(start, end), is_newest)
        if end < count:
            last = run.seq + run.message_count - 1
            first = run.frag_seq if end == 0 else 1
            received += self._receive_part(run, last, first, run.payloads[end:], is_newest)
        return received

    def _receive_in_turns(self, run: DataRun, is_newest: bool | None) -> list[bytes]:
        """Take the first fragments of each of several messages."""
        received: list[bytes] = []
        payloads, seq, first, start = run.payloads, run.seq, run.frag_seq, 0
        for end in (*run.ends(), len(payloads)):
            received += self._receive_part(run, seq, first, payloads[start:end], is_newest)
            seq, first, start = seq + 1, 1, end
        return received

    def _receive_one_of_each(self, run: DataRun) -> list[bytes]:
        """Take one fragment of each of several messages, mostly the only one that is missing."""
        window, reassembly = self._window, self._reassembly
        received: list[bytes] = []
        for seq, payload in enumerate(run.payloads, run.seq):
            if window.advance(seq):
                reassembly.clear()
            if window.is_delivered(seq):
                self._drop(DropCause.DUPLICATE)
                continue
            whole = reassembly.complete(run, seq, payload)
            if whole is None:
                whole = reassembly.add(run.packet(seq, run.frag_seq, payload))
            if whole is not None:
                window.mark_delivered(seq)
                received.append(whole)
        return received

    def _receive_whole_messages(self, run: DataRun, is_newest: bool | None) -> list[bytes]:
        """Take the packets of messages that are whole in ``run``."""
        payloads, each = run.payloads, run.frag_num
        starts = range(0, len(payloads), each)
        if _fit_together(payloads, each) and self._window.advance_delivered(run.seq, len(starts)):
            self._reassembly.make_room_ahead(run.seq, len(starts))
            return [b"".join(payloads[start : start + each]) for start in starts]
        received: list[bytes] = []
        for seq, start in enumerate(starts, run.seq):
            part = payloads[start : start + each]
            received += self._receive_part(run, seq, 1, part, is_newest)
        return received

    def _receive_part(
        self, run: DataRun, seq: int, first: int, payloads: list[bytes], is_newest: bool | None
    ) -> list[bytes]:
        """Take fragments of one message of ``run``.

        Args:
            run: The run.
            seq: The number of the message.
            first: The number of the first fragment.
            payloads: The payloads of the fragments.
            is_newest: As in ``receive``.

        Returns:
            The message in a list if it is whole; else an empty list.
        """
        window, reassembly = self._window, self._reassembly
        if len(payloads) > 1:
            if window.advance(seq):
                reassembly.clear()
            if not window.is_delivered(seq) and reassembly.add_together(run, seq, first, payloads):
                payload = reassembly.take(seq)
                if payload is None:
                    return []
                window.mark_delivered(seq)
                return [payload]
        received = [
            self.receive(run.packet(seq, number, payload), is_newest)
            for number, payload in enumerate(payloads, first)
        ]
        return [payload for payload in received if payload is not None]

    def ping_received(self, seq: int, *, timed: bool, link: int = 0) -> None:
        """Start afresh if a ping shows that the host has started again.

        A scheduled ping with number 0 comes from a host that has sent no message yet. If an earlier
        ping over the same link had another number, the host has started again, and all known
        numbers are of an earlier life. Pings over other links do not count: on a slow link the
        pings from before the first message may come after later pings over other links.

        A forced ping comes every 8191 messages. If no data came since the last one, the known
        numbers are too old to compare with. A forced ping with a number behind the newest is
        ignored: it is late, or a copy.

        Args:
            seq: The number in the ping.
            timed: True for a scheduled ping, False for a forced one.
            link: The id of the link that the ping came over.
        """
        self._announced = seq
        if timed:
            before = self._announced_by.get(link)
            if before and not seq:
                # The pings over the other links will have 0 too.
                self._announced_by.clear()
                self.clear()
            elif not self._contact and _is_behind(seq, before):
                # Messages came before there was contact, and the host may have started again since.
                # Without contact there is no loss of contact that would show it.
                self._in_doubt = True
            self._announced_by[link] = seq
        elif seq != self._last_forced and not _is_behind(seq, self._window.newest):
            if not self._data_since_forced:
                self.clear()
            self._last_forced = seq
            self._data_since_forced = False

    def restarted(self) -> None:
        """Forget everything about the host's numbers, since the host has another life now."""
        self.clear()
        self._announced_by.clear()
        self._announced = self._last_forced = None
        self._in_doubt = self._numbers_in_doubt = False

    def doubt_numbers(self) -> None:
        """Doubt all known numbers, since the host may have another life now.

        They come from packets of an envelope that does not show copies; the first number from an
        envelope that does settles the doubt.
        """
        self._numbers_in_doubt = True

    def contact_found(self) -> None:
        """Note that a link to the host has come up."""
        self._contact = True

    def contact_lost(self) -> None:
        """Note that the last link to the host went down; give up its incomplete messages.

        Its numbers are kept until the host shows whether it has started again: copies of old
        messages that a slow network delivers late must not pass for new ones.
        """
        self._reassembly.clear()
        self._contact = False
        self._in_doubt = self._numbers_in_doubt = True
        self._announced = None

    def _resolve(self, seq: int) -> None:
        """Decide whether the host has started again since contact was lost.

        The decision is made when data comes again, not at the first ping: the host may start again
        as long as there is no contact, and a ping may be late. A host that has not started again
        counts on. If the host has started again and already counts beyond the newest known number,
        none of its next numbers is marked, so keeping the marks does no harm.

        Args:
            seq: The number in its last ping, or in the data if no ping came.
        """
        self._in_doubt = False
        if _is_behind(seq, self._window.newest):
            self.clear()

    def _settle_numbers(self, seq: int) -> None:
        """End the doubt if the host counts on in an envelope that does not show copies."""
        newest = self._window.newest
        if seq != newest and not _is_behind(seq, newest):
            self._numbers_in_doubt = False

    def _resolve_numbers(self, seq: int) -> None:
        """Decide, by a number that is not of a copy, whether the numbers began again or wrapped."""
        self._numbers_in_doubt = False
        if _is_behind(seq, self._window.newest):
            self.clear()

    def clear(self) -> None:
        """Forget all numbers and incomplete messages, since the host has started again."""
        self._window.clear()
        self._reassembly.clear()


def _fit_together(payloads: Sequence[bytes], each: int) -> bool:
    """Return whether ``payloads``, taken in groups of ``each``, have the sizes of fragments."""
    sizes = list(map(len, payloads))
    for start in range(0, len(sizes), each):
        size, last = sizes[start], sizes[start + each - 1]
        if (
            last > size
            or size * (each - 1) + last > MAX_MESSAGE
            or sizes[start : start + each - 1].count(size) != each - 1
        ):
            return False
    return True


def _is_behind(seq: int, other: int | None) -> bool:
    return other is not None and (seq - other) & 0xFFFF >= _HALF
