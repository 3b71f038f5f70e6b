"""What arrives at the interfaces of a host, seen before its sockets have any part in it."""

from __future__ import annotations

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import attrs
import trio

from knet_trio import CryptoConfig, DropCause, PacketError
from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._crypto.envelope import make_cipher
from knet_trio.abc import Cipher
from tests.interop.namespaces import inside
from tests.soak.messages import Name, read_name
from tests.soak.wires import PORT

_BUFFER: Final = 64 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33
# Source: linux/if_ether.h, linux/if_packet.h.
_ETH_P_IP: Final = 0x0800
_PACKET_HOST: Final = 0
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_UDP: Final = 17
_BATCH: Final = 256
# Seconds after which the fragments of a message come no more, nor copies of it. Numbers of
# messages come again after 65536 of them.
_FORGET: Final = 30.0


class Reader:
    """Opens what is sealed with any of the last few keys."""

    def __init__(self) -> None:
        self._ciphers: list[Cipher] = []

    def add(self, config: CryptoConfig) -> None:
        """Another key is in use."""
        # A key may be in use for some time after the one that follows it is known.
        self._ciphers = [make_cipher(config), *self._ciphers[:2]]

    def read(self, datagram: bytes) -> Data | None:
        """The data in a packet, None for any other. Raises PacketError for what is none."""
        for cipher in self._ciphers:
            try:
                plain = cipher.open_untrusted(datagram)
            except PacketError:
                continue
            packet = decode_untrusted(plain)
            return packet if isinstance(packet, Data) else None
        raise PacketError(DropCause.NOT_AUTHENTIC, "no key opens it")


@attrs.define
class _Track:
    """What was seen of a message."""

    began: float
    fragments: int
    seen: int = 0
    name: Name | None = None

    @property
    def is_whole(self) -> bool:
        return self.seen == (1 << self.fragments) - 1

    @property
    def unfinished(self) -> dict[str, int]:
        """Itself and its fragments, if some are missing."""
        return {} if self.is_whole else {"messages": 1, "fragments": self.seen.bit_count()}


Whole = Callable[[int, Name], None]


class Tap:
    """The interfaces of one host. ``whole`` is called when all of a message has arrived there.

    ``arrived`` counts the datagrams from each address, ``unreadable`` those that no key opens, and
    ``fragments`` those that whole messages were made of.
    """

    def __init__(self, host: int, namespace: str, reader: Reader, whole: Whole) -> None:
        self.host = host
        self.arrived: Counter[str] = Counter()
        self.unreadable = 0
        self.fragments = 0
        self._forgotten: Counter[str] = Counter()
        self._reader = reader
        self._whole = whole
        self._tracks: OrderedDict[tuple[int, int], _Track] = OrderedDict()
        with inside(namespace):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)

    def unfinished(self) -> Counter[str]:
        """How many ``messages`` are not whole, and how many ``fragments`` of them came."""
        unfinished = Counter(self._forgotten)
        for track in self._tracks.values():
            unfinished.update(track.unfinished)
        return unfinished

    def missed(self) -> int:
        """How many packets there was no room for. Asking again counts from there."""
        answer = self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, missed = struct.unpack("II", answer)
        return int(missed)

    async def run(self) -> None:
        """Look at what arrives, until cancelled."""
        with self._sock:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                for _ in range(_BATCH):
                    try:
                        packet, (_, _, kind, *_) = self._sock.recvfrom(65536)
                    except BlockingIOError:
                        break
                    except OSError:
                        # An interface went down, which is no news.
                        continue
                    if kind == _PACKET_HOST:
                        self.see(packet)
                await trio.lowlevel.checkpoint()

    def see(self, packet: bytes) -> None:
        """Take note of an IP packet."""
        header = (packet[0] & 0xF) * 4
        if packet[9] != _UDP:
            return
        _, port, size = struct.unpack_from(">HHH", packet, header)
        if port != PORT:
            return
        self.arrived[socket.inet_ntoa(packet[12:16])] += 1
        try:
            data = self._reader.read(packet[header + 8 : header + size])
        except PacketError:
            self.unreadable += 1
            return
        if data is not None:
            self._take(data, trio.current_time())

    def _take(self, data: Data, now: float) -> None:
        key = (data.node, data.seq)
        track = self._tracks.get(key)
        if track is None:
            self._forget(now - _FORGET)
            track = self._tracks[key] = _Track(now, data.frag_num)
        before = track.seen
        track.seen |= 1 << max(0, data.frag_seq - 1)
        if track.seen == before:
            return
        if data.frag_seq <= 1:
            track.name = read_name(data.payload)
        if track.is_whole:
            assert track.name is not None
            self.fragments += track.fragments
            self._whole(self.host, track.name)

    def _forget(self, before: float) -> None:
        while self._tracks:
            track = next(iter(self._tracks.values()))
            if track.began > before:
                break
            self._tracks.popitem(last=False)
            self._forgotten.update(track.unfinished)
