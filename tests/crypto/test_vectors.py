"""Packets recorded between two nodes of the C library: what they made, this code reads and makes.

Each file is a run of the hosts 1 and 2 at an interface MTU of 1500: control packets of both, and
three messages that host 1 sent on channel 0, with the packets it made of each.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import (
    DATA_HEADER_SIZE,
    MAX_MESSAGE,
    TIME_SIZE,
    Data,
    Packet,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    decode_untrusted,
    encode_data,
    encode_message,
)
from knet_trio._core.sizes import CLEAR, UDP_HEADER, EnvelopeSizes, PathSizes
from knet_trio._crypto.envelope import make_cipher
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from tests.packets import encode

FILES: Final = sorted(Path(__file__).parents[1].joinpath("vectors").glob("*.json"))
TEXT: Final = b"The quick brown knet jumps over the lazy link. "

WIRE_IDS: Final = {"zlib": 1, "lz4": 2, "lz4hc": 3, "lzo2": 4, "lzma": 5, "bzip2": 6, "zstd": 7}
COMPRESSION_THRESHOLD: Final = 100
ZSTD_MAGIC: Final = bytes.fromhex("28b52ffd")
LZO_END: Final = bytes.fromhex("110000")


def lz4_block(data: bytes) -> bytes:
    # The package has no types of its own, nor has anybody else for it.
    decompress: Callable[..., bytes] = import_module("lz4.block").decompress
    return decompress(data, uncompressed_size=MAX_MESSAGE)


# Neither zstd nor LZO is in the standard library of every Python this is tested on.
DECOMPRESS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "zlib": zlib.decompress,
    "lz4": lz4_block,
    "lz4hc": lz4_block,
    "lzma": lambda data: lzma.decompress(data, format=lzma.FORMAT_XZ),
    "bzip2": bz2.decompress,
}


class Recorded(NamedTuple):
    """A datagram and the host that sent it."""

    sender: int
    datagram: bytes


class RecordedMessage(NamedTuple):
    """What the application gave host 1, and the datagrams that came of it."""

    data: bytes
    datagrams: list[bytes]


class Run(NamedTuple):
    """One file."""

    name: str
    crypto: CryptoConfig | None
    compress: str | None
    interface_mtu: int
    data_mtu: int
    control: list[Recorded]
    messages: list[RecordedMessage]

    @property
    def sizes(self) -> PathSizes:
        """The arithmetic of the path between the two."""
        envelope = CLEAR
        if self.crypto is not None:
            cipher = make_cipher(self.crypto)
            envelope = EnvelopeSizes(cipher.salt_size, cipher.hash_size, cipher.block_size)
        return PathSizes(False, UDP_HEADER, envelope)

    def slots(self) -> CryptoSlots:
        """What opens the run's envelopes, and takes nothing else if it has any."""
        slots = CryptoSlots(allow_clear_traffic=self.crypto is None)
        if self.crypto is not None:
            slots.set(self.crypto, 1)
            slots.use(1)
        return slots

    def open(self, datagram: bytes) -> bytes:
        """The packet in a datagram."""
        return self.slots().open_untrusted(datagram)

    def data_packets(self, message: RecordedMessage) -> list[Data]:
        """The data packets of a message, as they decode."""
        decoded = [decode_untrusted(self.open(datagram)) for datagram in message.datagrams]
        return [packet for packet in decoded if isinstance(packet, Data)]


def load_crypto(fields: dict[str, Any] | None) -> CryptoConfig | None:
    if fields is None:
        return None
    return CryptoConfig(
        bytes.fromhex(fields["key"]),
        cipher=fields["cipher"],
        hash=fields["hash"],
        model=fields["model"],
    )


def load_message(fields: dict[str, Any]) -> RecordedMessage:
    length: int | None = fields["text_repeat"]
    if length is None:
        data = bytes.fromhex(fields["data"])
    else:
        data = (TEXT * (length // len(TEXT) + 1))[:length]
    return RecordedMessage(data, [bytes.fromhex(packet) for packet in fields["packets"]])


def load(path: Path) -> Run:
    fields: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    compress: dict[str, Any] | None = fields["compress"]
    return Run(
        path.stem,
        load_crypto(fields["crypto"]),
        None if compress is None else compress["model"],
        fields["interface_mtu"],
        fields["data_mtu"],
        [Recorded(each["sender"], bytes.fromhex(each["packet"])) for each in fields["control"]],
        [load_message(each) for each in fields["messages"]],
    )


RUNS: Final = [load(path) for path in FILES]
every_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
every_compressed_run = pytest.mark.parametrize(
    "run", [run for run in RUNS if run.compress is not None], ids=lambda run: run.name
)


def test_all_recordings_are_here() -> None:
    assert len(RUNS) == 16
    assert {run.compress for run in RUNS} == {None, *WIRE_IDS}
    assert all(run.control and len(run.messages) == 3 for run in RUNS)


@every_run
def test_control_packets_name_their_sender_and_the_link_between_the_two(run: Run) -> None:
    kinds: Counter[type[Packet]] = Counter()
    for sender, datagram in run.control:
        packet = decode_untrusted(run.open(datagram))
        assert not isinstance(packet, Data)
        assert packet.node == sender
        assert packet.link == 0
        kinds[type(packet)] += 1
    assert set(kinds) - {PmtudReply} == {Ping, Pong, PmtudProbe}


@every_run
def test_pings_are_on_schedule_and_pongs_repeat_a_ping_of_the_other_host(run: Run) -> None:
    packets = [decode_untrusted(run.open(datagram)) for _, datagram in run.control]
    pings = [packet for packet in packets if isinstance(packet, Ping)]
    pongs = [packet for packet in packets if isinstance(packet, Pong)]
    for ping in pings:
        assert len(ping.time) == TIME_SIZE
        assert any(ping.time)
        assert ping.timed
        # No message had been sent yet.
        assert ping.seq == 0
    # Node ids are 1 and 2, so the other one is what is left of 3.
    assert {Ping(3 - pong.node, *pong[1:]) for pong in pongs} <= set(pings)


@every_run
def test_probes_fill_the_size_they_ask_about(run: Run) -> None:
    sizes = run.sizes
    for _, datagram in run.control:
        packet = decode_untrusted(run.open(datagram))
        if isinstance(packet, PmtudProbe):
            # With a stream cipher the C library's fall a byte short of what they ask about.
            onwire = sizes.headers + len(datagram)
            assert onwire + (sizes.envelope.block == 1) <= run.interface_mtu
            assert packet.length == sizes.probe_length(onwire)


@every_run
def test_the_data_mtu_the_c_library_found_is_the_one_calculated_here(run: Run) -> None:
    assert run.sizes.payload(run.interface_mtu) == run.data_mtu


@every_run
def test_control_packets_encode_to_the_same_bytes(run: Run) -> None:
    for _, datagram in run.control:
        plain = run.open(datagram)
        encoded = encode(decode_untrusted(plain))
        assert encoded == plain
        # Salts are random, so of an envelope only the length is determined.
        (sealed,) = run.slots().seal([encoded])
        assert len(sealed) == len(datagram)
        assert run.crypto is not None or sealed == datagram


@every_run
def test_data_packets_say_who_sent_what_in_which_order(run: Run) -> None:
    for seq, message in enumerate(run.messages, start=1):
        packets = run.data_packets(message)
        assert len(packets) == len(message.datagrams)
        count = len(packets)
        first = 0 if count == 1 else 1
        assert [packet.frag_seq for packet in packets] == list(range(first, first + count))
        for packet in packets:
            assert (packet.node, packet.seq, packet.channel) == (1, seq, 0)
            assert packet.broadcast
            assert packet.frag_num == count


def reassemble(run: Run, message: RecordedMessage) -> tuple[bytes, int]:
    """The payload of a message, fragments backwards, and how it is compressed."""
    drops: Counter[DropCause] = Counter()
    source = InboundSequence(lambda cause: drops.update((cause,)))
    packets = run.data_packets(message)
    payloads = [source.receive(packet) for packet in reversed(packets)]
    assert payloads[:-1] == [None] * (len(packets) - 1)
    assert not drops
    # The same packets over a second link are no second message.
    assert [source.receive(packet) for packet in packets] == [None] * len(packets)
    (compress,) = {packet.compress for packet in packets}
    payload = payloads[-1]
    assert payload is not None
    return payload, compress


@every_run
def test_messages_come_out_as_they_were_sent(run: Run) -> None:
    for message in run.messages:
        payload, wire_id = reassemble(run, message)
        if run.compress is None or len(message.data) <= COMPRESSION_THRESHOLD:
            assert wire_id == 0
            assert payload == message.data
        else:
            assert wire_id == WIRE_IDS[run.compress]
            assert len(payload) < len(message.data)


@every_compressed_run
def test_compressed_messages_are_in_the_format_of_their_id(run: Run) -> None:
    assert run.compress is not None
    compressed = 0
    for message in run.messages:
        payload, wire_id = reassemble(run, message)
        if wire_id == 0:
            continue
        compressed += 1
        if run.compress in DECOMPRESS:
            assert DECOMPRESS[run.compress](payload) == message.data
        elif run.compress == "zstd":
            assert payload.startswith(ZSTD_MAGIC)
        else:
            # The text as it begins the first time, then a copy of it, and the end marker.
            assert TEXT in payload
            assert payload.endswith(LZO_END)
    assert compressed == 2


@every_run
def test_messages_encode_to_the_same_packets(run: Run) -> None:
    for seq, message in enumerate(run.messages, start=1):
        payload, compress = reassemble(run, message)
        packets = encode_message(
            payload,
            node=1,
            seq=seq,
            compress=compress,
            broadcast=True,
            channel=0,
            fragment_size=run.data_mtu,
        )
        recorded = [run.open(datagram) for datagram in message.datagrams]
        decoded = [packet for packet in map(decode_untrusted, recorded) if isinstance(packet, Data)]
        assert [encode_data(packet) for packet in decoded] == recorded
        # As many, with the same headers, and the same in them: only ours are of equal size.
        assert [each[:DATA_HEADER_SIZE] for each in packets] == [
            each[:DATA_HEADER_SIZE] for each in recorded
        ]
        assert b"".join(each[DATA_HEADER_SIZE:] for each in packets) == payload
        assert len(packets) > 1 or packets == recorded
        sealed = run.slots().seal(recorded)
        assert [len(datagram) for datagram in sealed] == [len(each) for each in message.datagrams]
        assert run.crypto is not None or sealed == message.datagrams
