"""Any bytes are a packet that is within the limits and encodes to itself, or a PacketError.

Many packets in a row are the same packets as each on its own. The first byte says how long each of
them is; with 0 the rest is one packet.
"""

from __future__ import annotations

from knet_trio._core.onwire import (
    MAX_CHANNELS,
    MAX_LINKS,
    MAX_MESSAGE,
    TIME_SIZE,
    Data,
    Packet,
    Ping,
    Pong,
    decode_untrusted,
)
from knet_trio._core.runs import decode_packets_untrusted, decode_train_untrusted
from knet_trio.errors import PacketError
from tests.packets import encode


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    size, data = (data[0], data[1:]) if data else (0, b"")
    if size == 0:
        decode(data)
        return
    datagrams = [data[start : start + size] for start in range(0, len(data), size)]
    packets = [decode(datagram) for datagram in datagrams]
    run = decode_train_untrusted(data, size)
    # All of them, or all but a shorter last one.
    count = len(datagrams) if run is None else len(run.payloads)
    assert count == len(datagrams) or (count == len(datagrams) - 1 and len(data) % size)
    assert run == decode_packets_untrusted(datagrams[:count])
    if run is not None:
        assert run.packets() == packets[:count]
        assert count > 1
    # Of any sizes.
    datagrams = [datagram[: len(datagram) - i % 3] for i, datagram in enumerate(datagrams)]
    run = decode_packets_untrusted(datagrams)
    assert run is None or run.packets() == list(map(decode, datagrams))


def decode(data: bytes) -> Packet | None:
    """The packet in ``data``, if it is one."""
    try:
        packet = decode_untrusted(data)
    except PacketError:
        return None
    assert 0 <= packet.node <= 0xFFFF
    if isinstance(packet, Data):
        assert 0 <= packet.seq <= 0xFFFF
        assert 0 <= packet.channel < MAX_CHANNELS
        assert 1 <= len(packet.payload) <= MAX_MESSAGE
        assert packet.frag_seq <= packet.frag_num <= 255
        assert packet.frag_seq >= 1 or packet.frag_num == 1
        assert data.endswith(packet.payload)
    else:
        assert 0 <= packet.link < MAX_LINKS
    if isinstance(packet, Ping | Pong):
        assert len(packet.time) == TIME_SIZE
    assert decode_untrusted(encode(packet)) == packet
    return packet
