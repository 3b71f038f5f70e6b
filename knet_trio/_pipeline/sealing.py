"""Numbers, fragments and envelopes."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from knet_trio._core.onwire import Data, decode_untrusted, encode_messages
from knet_trio._pipeline.batches import Addressed, Sealed
from knet_trio._pipeline.drops import count_lost
from knet_trio._state.handle import HandleState
from knet_trio.errors import SealError, SendError


class Sealer:
    """Makes messages what goes on the wire."""

    def __init__(self, node: HandleState) -> None:
        self._node = node
        self._context = node.context

    def seal_all(self, item: Addressed) -> list[Sealed]:
        """Seal messages of any size; those for which that fails are counted."""
        datas = item.datas
        if len(datas) == 1 or max(map(len, datas)) <= self._node.data_mtu:
            groups = [item]
        else:
            # What is split into fragments goes on its own.
            groups = [item._replace(datas=group) for group in self._split(item.datas)]
        sealed: list[Sealed] = []
        for group in groups:
            try:
                sealed.append(self.seal(group))
            except SendError as error:
                count_lost(self._context, error, len(group.datas))
        return sealed

    def seal(self, message: Addressed) -> Sealed:
        """Seal messages that need no fragments, or one that does; or raise SendError."""
        context = self._context
        packets = encode_messages(
            message.datas,
            node=context.host_id,
            seqs=self._node.next_seqs(len(message.datas)),
            compress=message.compress,
            broadcast=message.hosts is None,
            channel=message.channel,
            fragment_size=self._node.data_mtu,
        )
        fragments = len(packets) > len(message.datas)
        if context.crypto.sealer is None:
            return Sealed(packets, message.hosts, fragments)
        began = time.perf_counter()
        try:
            datagrams = context.crypto.seal(packets)
        except Exception as error:
            raise SealError(f"the cipher failed: {error!r}") from error
        counters = context.counters
        counters.tx_crypt.add(time.perf_counter() - began, len(packets))
        counters.tx_crypt_overhead += sum(map(len, datagrams)) - sum(map(len, packets))
        return Sealed(datagrams, message.hosts, fragments, packets)

    def _split(self, datas: Sequence[bytes]) -> Iterator[list[bytes]]:
        mtu = self._node.data_mtu
        group: list[bytes] = []
        for data in datas:
            if len(data) <= mtu:
                group.append(data)
                continue
            if group:
                yield group
                group = []
            yield [data]
        if group:
            yield group


def unseal(message: Sealed, datagrams: Collection[bytes]) -> tuple[list[Addressed], int]:
    """The messages that those of the ``datagrams`` of ``message`` carry, and the largest payload.

    A message in fragments comes back whole.
    """
    packets = message.packets or message.datagrams
    if not message.fragments:
        wanted = set(map(id, datagrams))
        pairs = zip(packets, message.datagrams, strict=True)
        packets = [packet for packet, datagram in pairs if id(datagram) in wanted]
    datas = [data for data in map(decode_untrusted, packets) if isinstance(data, Data)]
    largest = max(len(data.payload) for data in datas)
    if message.fragments:
        datas = [datas[0]._replace(payload=b"".join(data.payload for data in datas))]
    return [
        Addressed((data.payload,), data.channel, message.hosts, data.compress) for data in datas
    ], largest
