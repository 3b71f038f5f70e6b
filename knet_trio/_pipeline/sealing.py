"""The fourth step of the way out: sequence numbers, fragments and envelopes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from knet_trio._core.onwire import encode_messages
from knet_trio._state.handle import HandleState
from knet_trio._state.send_lane import MOST_BEHIND, Batch, LaneItem, Sealed, SendLane
from knet_trio.errors import SealError

_HALF: Final = 0x8000


class Sealer:
    """Makes datagrams of messages, when they leave their lanes.

    A message to several hosts is sealed once, as long as all of them are at the same place. A host
    that is not, since later messages have been handed to it already, gets it under a new number.
    """

    def __init__(self, handle: HandleState) -> None:
        self._handle = handle
        self._context = handle.context

    def seal(self, lane: SendLane, item: LaneItem) -> Sealed:
        """Return the datagrams of what is left of ``item``, with the key and the MTU of now.

        Raises:
            SealError: The cipher failed.
        """
        sealed = item.sealed
        if sealed is not None:
            if self._is_current(sealed):
                return sealed
            # From the message on that has not been sent whole, if need be under a new number.
            item.first = sealed.owner(item.start)
            item.start = 0
            item.sealed = None
        elif item.first == 0:
            sealed = item.batch.sealed
            if (
                sealed is not None
                and 0 < (sealed.first - lane.last_seq) & 0xFFFF < _HALF
                and self._is_current(sealed)
            ):
                item.sealed = sealed
                return sealed
        item.sealed = sealed = self._seal(item.batch, item.first)
        if item.first == 0:
            item.batch.sealed = sealed
        return sealed

    def _is_current(self, sealed: Sealed) -> bool:
        context = self._context
        return (
            sealed.cipher is context.crypto.sealer
            and sealed.fragment_size <= self._handle.data_mtu
            and (context.seq - sealed.first) & 0xFFFF < MOST_BEHIND
        )

    def _seal(self, batch: Batch, first: int) -> Sealed:
        context = self._context
        datas = batch.datas[first:] if first else batch.datas
        seqs = self._handle.next_seqs(len(datas))
        mtu = self._handle.data_mtu
        compress = batch.compress
        packets: list[bytes]
        if isinstance(compress, int):
            packets = encode_messages(
                datas,
                node=context.host_id,
                seqs=seqs,
                compress=compress,
                broadcast=batch.broadcast,
                channel=batch.channel,
                fragment_size=mtu,
            )
        else:
            packets = []
            start = 0
            for kind, group in groupby(compress[first:]):
                end = start + len(list(group))
                packets += encode_messages(
                    datas[start:end],
                    node=context.host_id,
                    seqs=seqs[start:end],
                    compress=kind,
                    broadcast=batch.broadcast,
                    channel=batch.channel,
                    fragment_size=mtu,
                )
                start = end
        owners = None if len(packets) == len(datas) else _owners(datas, mtu)
        cipher = context.crypto.sealer
        if cipher is None:
            return Sealed(packets, owners, seqs[0], seqs[-1], first, None, mtu)
        began = time.perf_counter()
        try:
            datagrams = cipher.seal(packets)
        except (MemoryError, OSError) as error:
            raise SealError(f"the cipher failed: {error!r}") from error
        counters = context.counters
        counters.tx_crypt.add(time.perf_counter() - began, len(packets))
        if len(packets) == 1:
            counters.tx_crypt_overhead += len(datagrams[0]) - len(packets[0])
        else:
            counters.tx_crypt_overhead += sum(map(len, datagrams)) - sum(map(len, packets))
        return Sealed(datagrams, owners, seqs[0], seqs[-1], first, cipher, mtu)


def _owners(datas: Sequence[bytes], mtu: int) -> list[int]:
    owners: list[int] = []
    for index, data in enumerate(datas):
        owners += [index] * -(-len(data) // mtu)
    return owners
