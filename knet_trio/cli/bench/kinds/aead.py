"""Encryption model ``aead``, which libknet does not have, beside our own aes256 and sha256."""

from __future__ import annotations

import enum
import os
from typing import ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import AES, ENVELOPED, OURS, Bed, Dammed, Dressing, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.calls import Calls
from knet_trio.cli.bench.kinds.roundtrip import RoundTrip
from knet_trio.cli.bench.kinds.throughput import Throughput
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError, BenchPeer

# Parts of an envelope: see docs/aead.md.
_COUNTER: Final = slice(18, 24)
_OVERHEAD: Final = 40
# Bytes of a data packet before its message.
_DATA_HEADER: Final = 14
_PING: Final = 66
_LARGE: Final = 1400
# Counters this far ahead have not been used with the same key.
_AHEAD: Final = 1_000_000
# The number of packets that are made and sent repeatedly, and of those sent at once.
_DIFFERENT: Final = 1024
_AT_ONCE: Final = 128
# Seconds to record pings, for hosts to find each other again, and to read sockets empty.
_RECORDING: Final = 0.5
_SETTLE: Final = 1.0
_DRAIN: Final = 0.3
_RECORDED_MESSAGES: Final = 16


def _dress(contender: str, dressing: Dressing) -> Dressing:
    """Return the encryption of a contender."""
    return AES if contender == ENVELOPED else dressing


@attrs.frozen
class AeadThroughput(Throughput):
    """Messages one way, with the CPU time of both sides for each message."""

    kind: ClassVar[str] = "aead/throughput"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *Throughput.metrics,
        Metric("source_message", "CPU source a message", "µs", False, compared=True),
        Metric("sink_message", "CPU sink a message", "µs", False, compared=True),
    )

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, and knet_trio with aes256 and sha256."""
        return (OURS, ENVELOPED)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run source and sink for the time of a turn, with the contender's encryption."""
        dressing = _dress(contender, self.dressing)
        async with bed.open_pair(contender, network, dressing=dressing) as (source, sink):
            return await self.run(source, sink, bed.seconds)

    async def run(self, source: BenchPeer, sink: BenchPeer, seconds: float) -> Measured:
        """Measure between two sides with links that are up."""
        measured = await super().run(source, sink, seconds)
        rate = measured["rate"]
        return {
            **measured,
            "source_message": 1e6 * measured["source_cpu"] / rate,
            "sink_message": 1e6 * measured["sink_cpu"] / rate,
        }


@attrs.frozen
class AeadRoundTrip(RoundTrip):
    """Messages there and back, with the CPU time of both sides."""

    kind: ClassVar[str] = "aead/roundtrip"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *RoundTrip.metrics,
        Metric("here_cpu", "CPU of the side that asks", "µs", False, compared=True),
        Metric("there_cpu", "CPU of the side that answers", "µs", False, compared=True),
    )

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, and knet_trio with aes256 and sha256."""
        return (OURS, ENVELOPED)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure round trips, with the contender's encryption."""
        dressing = _dress(contender, self.dressing)
        async with bed.open_pair(contender, network, dressing=dressing) as (here, there):
            return await self.run(here, there, bed.seconds)


@attrs.frozen
class AeadCalls(Calls):
    """Function calls for a message there and back."""

    kind: ClassVar[str] = "aead/calls"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, and knet_trio with aes256 and sha256."""
        return (OURS, ENVELOPED)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Count the calls of round trips, with the contender's encryption."""
        case = Calls(_dress(contender, self.dressing))
        return await case.measure(bed, contender, network)


class Refused(enum.StrEnum):
    """A kind of packet that a host refuses."""

    FORGED_PING = "forged-ping"
    """Random bytes behind the header of a confirmed life, of the size of a ping."""
    FORGED_DATA = "forged-data"
    """Random bytes behind the header of a confirmed life, of 1400 bytes."""
    RECORDED_PING = "recorded-ping"
    """Pings of another life, again and again: each is opened, and a few are answered."""
    RECORDED_DATA = "recorded-data"
    """Data of another life, of 1400 bytes: it is not opened."""


@attrs.frozen
class AeadRefused(Case):
    """The cost of forged or recorded packets at a host, sent as fast as possible.

    With aes256 and sha256 they are always forged, of the same size.
    """

    kind: ClassVar[str] = "aead/refused"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cpu", "CPU a packet", "µs", False, of_message=True),
        Metric("rate", "packets", "1/s"),
        Metric("used", "CPU", "cores"),
    )

    what: Refused
    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``aead/refused/forged-ping/aes256-gcm``."""
        return f"{self.kind}/{self.what}/{self.dressing.name}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, and knet_trio with aes256 and sha256."""
        return (OURS, ENVELOPED)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Send packets to a host over its link, and measure its CPU time for them."""
        dressing = _dress(contender, self.dressing)
        async with bed.open_dammed(contender, network, dressing=dressing, timers=Timers()) as beds:
            packets = await self._make(beds, has_lives=contender != ENVELOPED)
            before, counted = await beds.low.call("usage"), await self._count(beds)
            with trio.move_on_after(bed.seconds):
                while True:
                    for start in range(0, len(packets), _AT_ONCE):
                        await beds.dam.send(packets[start : start + _AT_ONCE], beds.address)
            await trio.sleep(_DRAIN)
            done = await self._count(beds) - counted
            after = await beds.low.call("usage")
            if not done:
                raise BenchError("no packet was refused or answered")
            used = after["cpu"] - before["cpu"]
            return {
                "cpu": 1e6 * used / done,
                "rate": done / (after["now"] - before["now"]),
                "used": used / (after["now"] - before["now"]),
            }

    @staticmethod
    async def _count(beds: Dammed) -> int:
        """Return the number of packets that were refused or answered."""
        status = await beds.low.call("status", handle=1)
        return int(status["received_pings"] + sum(status["drops"].values()))

    async def _make(self, beds: Dammed, *, has_lives: bool) -> list[bytes]:
        """Return the packets; after recording them, their host starts another life."""
        size = _PING if self.what in (Refused.FORGED_PING, Refused.RECORDED_PING) else _LARGE
        if not has_lives:
            return [os.urandom(size) for _ in range(_DIFFERENT)]
        tape = beds.dam.tape = []
        if size == _LARGE:
            message = size - _OVERHEAD - _DATA_HEADER
            await beds.high.call("prepare", count=_RECORDED_MESSAGES, size=message)
            await beds.high.call("burst", handle=2)
        await trio.sleep(_RECORDING)
        beds.dam.tape = None
        recorded = [packet for packet in tape if len(packet) == size]
        if not recorded:
            raise BenchError(f"no packet of {size} bytes was recorded")
        if self.what in (Refused.FORGED_PING, Refused.FORGED_DATA):
            return [_forge(recorded[-1], number) for number in range(_DIFFERENT)]
        await beds.high.call("renew", handle=2)
        await trio.sleep(_SETTLE)
        return (recorded * _DIFFERENT)[:_DIFFERENT]


def _forge(packet: bytes, number: int) -> bytes:
    """Return an envelope of the same life and key with a new counter and random bytes."""
    counter = int.from_bytes(packet[_COUNTER], "big") + _AHEAD + number
    header = packet[: _COUNTER.start] + counter.to_bytes(_COUNTER.stop - _COUNTER.start, "big")
    return header + os.urandom(len(packet) - len(header))
