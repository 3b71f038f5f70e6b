"""The fourth step of the way out: sequence numbers, fragments and envelopes."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from knet_trio._core.coupled import size_of
from knet_trio._core.onwire import couple_fragments, encode_messages, encode_parted
from knet_trio._core.parted import Parted
from knet_trio._state.handle import HandleState
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import MOST_BEHIND, Batch, LaneItem, Sealed
from knet_trio.abc import Cipher
from knet_trio.config import MIN_DEFRAG_BUFFERS
from knet_trio.errors import SealError

SEALED_AT_ONCE: Final = 64
"""The most full datagrams that are sealed at once and then sent. One message may make more."""

_HALF: Final = 0x8000

# Messages of more fragments make trains of the greatest length, or nearly, as they are.
_MOST_IN_TURNS: Final = 22
# The messages that a receiver then has in part at once. Its limit may be as low as this: see
# knet_handle_set_host_defrag_bufs(3) of later releases, and ``DefragBuffers``.
_OPEN_AT_ONCE: Final = MIN_DEFRAG_BUFFERS


class Sealer:
    """Makes datagrams of messages, when they leave their lanes.

    A message to several hosts is sealed once, as long as it is the next one for all of them. A host
    that has already got later messages gets it under a new number.

    Where envelopes name their destination, this holds for messages to all hosts, and they keep
    their number as long as hosts remember it. The packets of other messages are made once, and
    sealed for each host when they leave.
    """

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context

    def seal(self, host: HostState, item: LaneItem) -> Sealed:
        """Return the datagrams of the unsent messages of ``item``, with the current key and MTU.

        If there are many, only those of the first messages.

        Raises:
            SealError: The cipher failed.
        """
        lane = host.lane
        sealed = item.sealed
        if sealed is not None:
            if self._is_current(sealed):
                return sealed
            # Start at the first message that was not sent whole, maybe under a new number.
            item.first = sealed.first_left(item.start)
            item.start = 0
            item.sealed = None
        else:
            parts = item.batch.sealed
            sealed = parts.get(item.first) if parts else None
            if (
                sealed is not None
                and self._may_follow(sealed, lane.last_seq)
                and self._is_current(sealed)
            ):
                return self._address(host, item, sealed)
        sealed = self._seal(item.batch, item.first)
        item.batch.sealed[item.first] = sealed
        if sealed.cipher is None:
            item.sealed = sealed
            return sealed
        return self._address(host, item, sealed)

    def _address(self, host: HostState, item: LaneItem, sealed: Sealed) -> Sealed:
        """Return the datagrams of ``sealed`` for ``host``, and store them in ``item``."""
        cipher = sealed.cipher
        if cipher is None or not cipher.addresses or item.batch.broadcast:
            item.sealed = sealed
            return sealed
        # Datagrams that found no room are tried again.
        if item.addressed is None or item.addressed[0] is not sealed:
            datagrams = self._encrypt(cipher, sealed.datagrams, host.host_id)
            item.addressed = (sealed, sealed._replace(datagrams=datagrams))
        item.sealed = item.addressed[1]
        return item.sealed

    @staticmethod
    def _may_follow(sealed: Sealed, last_seq: int) -> bool:
        """Return whether messages may keep their numbers for a host whose last was ``last_seq``."""
        if 0 < (sealed.first - last_seq) & 0xFFFF < _HALF:
            return True
        # A host that finds copies by their envelopes takes those for other hosts too, if they are
        # for all: under another number it would take the message twice.
        addressed = sealed.cipher is not None and sealed.cipher.addresses
        return addressed and (last_seq - sealed.first) & 0xFFFF < MOST_BEHIND

    def _is_current(self, sealed: Sealed) -> bool:
        context = self._context
        return (
            sealed.cipher is context.crypto.sealer
            and sealed.life is context.crypto.life.name
            and sealed.fragment_size <= self._handle.data_mtu
            and (context.seq - sealed.first) & 0xFFFF < MOST_BEHIND
        )

    def _seal(self, batch: Batch, first: int) -> Sealed:
        context = self._context
        mtu = self._handle.data_mtu
        datas = batch.datas[first:] if first else batch.datas
        count = len(datas)
        is_last = True
        # Otherwise there is at most one datagram more for each message.
        if batch.size > SEALED_AT_ONCE * mtu and count > 1:
            fitting = _count_fitting(datas, mtu)
            is_last = fitting == count
            count = fitting
            datas = datas[:count]
        end = first + count
        seqs = self._handle.next_seqs(count)
        compress = batch.compress
        packets: Sequence[bytes]
        if isinstance(compress, int):
            packets = self._encode(batch, datas, seqs, compress, mtu)
        else:
            several: list[bytes] = []
            start = 0
            for kind, group in groupby(compress[first:end]):
                stop = start + len(list(group))
                several += self._encode(batch, datas[start:stop], seqs[start:stop], kind, mtu)
                start = stop
            packets = several
        cipher, life = context.crypto.sealer, context.crypto.life.name
        owners: Sequence[int] | None = None
        if len(packets) != count:
            owners = _owners(datas, mtu)
        if cipher is None:
            # Only in clear: a cipher costs far more for each datagram than a system call.
            order = _order_in_turns(datas, packets) if owners else None
            if owners and order:
                packets = [packets[index] for index in order]
                owners = [owners[index] for index in order]
            return Sealed(packets, owners, seqs[0], seqs[-1], first, end, is_last, None, mtu, life)
        if type(packets) is Parted:
            packets = list(packets)
        if batch.broadcast or not cipher.addresses:
            packets = self._encrypt(cipher, packets, None)
        return Sealed(packets, owners, seqs[0], seqs[-1], first, end, is_last, cipher, mtu, life)

    def _encrypt(self, cipher: Cipher, packets: Sequence[bytes], to: int | None) -> list[bytes]:
        """Return the envelopes of ``packets`` for host ``to``, None for all hosts."""
        began = time.perf_counter()
        try:
            datagrams = cipher.seal_to(packets, to)
        except (MemoryError, OSError) as error:
            raise SealError(f"the cipher failed: {error!r}") from error
        counters = self._context.counters
        number = len(packets)
        counters.tx_crypt.add(time.perf_counter() - began, number)
        counters.tx_crypt_overhead += size_of(datagrams, number) - size_of(packets, number)
        return datagrams

    def _encode(
        self, batch: Batch, datas: Sequence[bytes], seqs: Sequence[int], compress: int, mtu: int
    ) -> Sequence[bytes]:
        """Return the packets of messages of a batch that are all compressed the same way."""
        context = self._context
        if type(datas) is Parted and max(datas.sizes) <= mtu:
            return encode_parted(
                datas,
                node=context.host_id,
                seqs=seqs,
                compress=compress,
                broadcast=batch.broadcast,
                channel=batch.channel,
            )
        if len(datas) == 1 and context.crypto.sealer is None:
            coupled = couple_fragments(
                datas[0],
                node=context.host_id,
                seq=seqs[0],
                compress=compress,
                broadcast=batch.broadcast,
                channel=batch.channel,
                fragment_size=mtu,
            )
            if coupled is not None:
                return coupled
        return encode_messages(
            datas,
            node=context.host_id,
            seqs=seqs,
            compress=compress,
            broadcast=batch.broadcast,
            channel=batch.channel,
            fragment_size=mtu,
        )


def _owners(datas: Sequence[bytes], mtu: int) -> list[int]:
    owners: list[int] = []
    for index, data in enumerate(datas):
        owners += [index] * -(-len(data) // mtu)
    return owners


def _order_in_turns(datas: Sequence[bytes], packets: Sequence[bytes]) -> Sequence[int] | None:
    """Return the order of packets that makes long trains, if the last fragments are shorter.

    The last fragments follow the other fragments of several messages.

    Returns:
        None if ``packets`` make trains as long in their own order, or if the messages differ in
        length.
    """
    messages = len(datas)
    each = len(packets) // messages
    if messages == 1 or not 1 < each <= _MOST_IN_TURNS:
        return None
    length = len(datas[0])
    if any(len(data) != length for data in datas):
        return None
    if len(packets[0]) == len(packets[each - 1]):
        return None
    return _in_turns(messages, each)


@functools.lru_cache(maxsize=256)
def _in_turns(messages: int, each: int) -> Sequence[int]:
    """Return the places of packets in the order in which they are sent.

    Args:
        messages: The number of messages.
        each: The packets of each message.
    """
    order: list[int] = []
    for first in range(0, messages, _OPEN_AT_ONCE):
        start, end = first * each, min(first + _OPEN_AT_ONCE, messages) * each
        order += [place for place in range(start, end) if (place + 1) % each]
        order += range(start + each - 1, end, each)
    return order


def _count_fitting(datas: Sequence[bytes], mtu: int) -> int:
    """Return how many of the first messages make at most ``SEALED_AT_ONCE`` datagrams."""
    datagrams = 0
    for count, data in enumerate(datas):
        datagrams += -(-len(data) // mtu)
        if datagrams > SEALED_AT_ONCE:
            return max(count, 1)
    return len(datas)
