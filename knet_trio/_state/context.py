"""What all parts of one handle share."""

from __future__ import annotations

from typing import NamedTuple

import trio

from knet_trio._core.onwire import next_seq
from knet_trio._core.sizes import CLEAR, EnvelopeSizes
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._logs.log import HandleLog
from knet_trio._state.counters import HandleCounters
from knet_trio._state.schedule import Schedule
from knet_trio.abc import Compressor
from knet_trio.config import DEFAULT_RECONNECT_INTERVAL, DefragBuffers
from knet_trio.events import Event, EventReceiver
from knet_trio.message import Filter


class Compression(NamedTuple):
    """How messages of more than ``threshold`` bytes are made smaller."""

    compressor: Compressor
    threshold: int


class Context:
    """Identity, settings, counters and clockwork of one handle."""

    def __init__(
        self,
        host_id: int,
        *,
        crypto: CryptoSlots,
        access_lists: bool,
        pmtud_interval: float,
        fixed_mtu: int | None,
        log_fd: int | None = None,
        log_level: int | str | None = None,
    ) -> None:
        self.host_id = host_id
        self.crypto = crypto
        self.access_lists = access_lists
        self.pmtud_interval = pmtud_interval
        self.fixed_mtu = fixed_mtu
        self.filter: Filter | None = None
        self.compression: Compression | None = None
        self.forwarding = True
        self.hedge = True
        self.reconnect_interval = DEFAULT_RECONNECT_INTERVAL
        self.defrag_buffers = DefragBuffers()
        # The number of the last message sent.
        self.seq = 0
        self.counters = HandleCounters()
        self.event_receivers: set[EventReceiver] = set()
        self.heartbeats: Schedule = Schedule()
        self.discoveries: Schedule = Schedule()
        self.log = HandleLog(host_id, level=log_level, fd=log_fd, remind=self.heartbeats.set)

    @property
    def envelope(self) -> EnvelopeSizes:
        """What the envelope in use adds to a packet."""
        cipher = self.crypto.sealer
        if cipher is None:
            return CLEAR
        return EnvelopeSizes(cipher.salt_size, cipher.hash_size, cipher.block_size)

    def advance_seq(self) -> int:
        """Take the next sequence number."""
        self.seq = next_seq(self.seq)
        return self.seq

    def tell(self, event: Event) -> None:
        """Pass ``event`` to whoever listens."""
        for receiver in self.event_receivers:
            receiver.put(event)

    @staticmethod
    def now() -> float:
        """Seconds on the clock everything here goes by."""
        return trio.current_time()
