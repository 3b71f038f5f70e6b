"""The packets and the summary of a capture as text, for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from knet_trio._compress import model_of
from knet_trio._core.onwire import Data, Packet, Ping, PmtudProbe, PmtudReply, Pong
from knet_trio._crypto.aead import EnvelopeHeader
from knet_trio.cli.decode.decoder import DecodedPacket, Decoder
from knet_trio.cli.decode.link_record import LinkDirection, LinkRecord
from knet_trio.cli.decode.opening import CIPHERS, OpenedPacket, Reason
from knet_trio.cli.decode.round_trips import LatencyHistogram
from knet_trio.errors import count_of

_SECOND: Final = 1_000_000_000
_MOST_STRANGERS: Final = 10
_COLUMN_WIDTH: Final = 18
# The bytes shown of a life, of nine; enough to distinguish lives.
_LIFE_SHOWN: Final = 4


def packet_line(found: DecodedPacket) -> str:
    """Return the line of a packet."""
    piece = found.piece
    interface = f"{found.interface} " if found.interface else ""
    where = f"{clock(found.time)} {interface}{found.source} > {found.destination}"
    position, total = found.train
    train = f", {position} of {total} in a train" if total > 1 else ""
    if not isinstance(piece, OpenedPacket):
        link = "" if found.link is None else f" link {found.link}"
        return f"{where}{link} not opened: {piece.reason}, {piece.size} bytes{train}"
    link = f" link {found.link}" if found.link is not None else ""
    cut = ", not captured whole" if piece.cut else ""
    clear = ", clear" if piece.key is None else ""
    content = _describe(piece.packet, piece, found.round_trip)
    sealed = "" if piece.envelope is None else f", {_describe_envelope(piece.envelope)}"
    return f"{where} host {piece.packet.node}{link} {content}{sealed}{clear}{cut}{train}"


def _describe_envelope(header: EnvelopeHeader) -> str:
    to = "all" if header.to is None else f"host {header.to}"
    return (
        f"{CIPHERS[header.cipher]} of host {header.sender} to {to}: life"
        f" {header.life[:_LIFE_SHOWN].hex()}…, epoch {header.epoch}, counter {header.counter}"
    )


def _describe(packet: Packet, piece: OpenedPacket, round_trip: float | None) -> str:
    match packet:
        case Data():
            fragment = (
                f" fragment {packet.frag_seq}/{packet.frag_num}" if packet.frag_num > 1 else ""
            )
            # The captured bytes do not show the size of the message.
            size = (
                f"{piece.size} bytes on the wire" if piece.cut else f"{len(packet.payload)} bytes"
            )
            compressed = f", {model_of(packet.compress)}" if packet.compress else ""
            everyone = ", to all" if packet.broadcast else ""
            number = f"{packet.seq}{fragment} channel {packet.channel}"
            return f"data {number}, {size}{compressed}{everyone}"
        case Ping():
            return f"ping, number {packet.seq}{'' if packet.timed else ', forced'}"
        case Pong():
            took = "" if round_trip is None else f", {seconds_text(round_trip)} after the ping"
            return f"pong, number {packet.seq}{'' if packet.timed else ', forced'}{took}"
        case PmtudProbe():
            return f"path MTU probe, {piece.size} bytes"
        case PmtudReply():
            return "path MTU reply"


def clock(nanoseconds: int) -> str:
    """Return a time of day of this time zone, to the microsecond."""
    second, fraction = divmod(nanoseconds, _SECOND)
    return f"{_time_of_day(second)}.{fraction // 1000:06}"


@lru_cache(maxsize=16)
def _time_of_day(second: int) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(second))
    except (OverflowError, ValueError, OSError):
        # A capture may contain any time.
        return str(second)


def seconds_text(seconds: float) -> str:
    """Return a short duration with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def summary_lines(decoder: Decoder) -> Iterator[str]:
    """Yield the lines of the summary."""
    span = 0 if decoder.first is None else decoder.last - decoder.first
    links = decoder.links
    opened = sum(record.opened for record in links)
    yield (
        f"{decoder.frames} frames in {span / _SECOND:.3f} s: {opened} knet packets opened"
        f" on {count_of(len(links), 'link')}, {decoder.unopened} not opened"
    )
    if decoder.others:
        yield f"other frames: {_counts(decoder.others)}"
    if decoder.link_types:
        kinds = ", ".join(str(kind) for kind in sorted(decoder.link_types))
        yield f"unknown link layers: LINKTYPE {kinds}"
    if decoder.forgotten:
        yield f"{decoder.forgotten} packets are left out, since there are too many flows"
    for record in links:
        yield ""
        yield from _link_lines(record)
    hosts = {node: numbers for node, numbers in decoder.hosts.items() if numbers.messages}
    if hosts:
        yield ""
    for node, numbers in sorted(hosts.items()):
        yield (
            f"host {node}: {numbers.messages} messages, {numbers.missing} numbers between them"
            " missing on all links"
        )
    yield from _stranger_lines(decoder)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common())


def _link_lines(record: LinkRecord) -> Iterator[str]:
    name = "unknown link" if record.link is None else f"link {record.link}"
    interface = f" on {record.interface}" if record.interface else ""
    yield f"{name}, {record.ends[0]} and {record.ends[1]}{interface}"
    rows = [("", [_host(way) for way in record.ways])]
    rows += (row for row in _rows(record.ways) if any(value not in ("", "0") for value in row[1]))
    width = max(len(label) for label, _ in rows)
    for label, values in rows:
        columns = "".join(value.rjust(_COLUMN_WIDTH) for value in values)
        yield f"  {label:<{width}}{columns}".rstrip()
    if any(way.cut for way in record.ways):
        yield "  packets not captured completely may be trains, whose other packets seem missing"
    yield from (f"  {hint}" for hint in record.hints)
    guess = record.guess_seal()
    if guess is not None:
        yield f"  packets that are not opened look like knet sealed by {guess} with another key"


def _host(way: LinkDirection) -> str:
    if way.host is None:
        return "from host ?"
    return "from host " + " and ".join(str(host) for host in sorted(way.hosts))


def _rows(ways: tuple[LinkDirection, LinkDirection]) -> Iterator[tuple[str, list[str]]]:
    for kind, label in (
        ("data", "data packets"),
        ("ping", "pings"),
        ("pong", "pongs"),
        ("pmtud", "path MTU probes"),
        ("pmtud_reply", "path MTU replies"),
    ):
        yield label, [str(way.kinds[kind]) for way in ways]
    yield "bytes", [str(way.size) for way in ways]
    yield "trains", [str(way.trains) for way in ways]
    yield "messages", [str(way.numbers.messages) for way in ways]
    yield "numbers missing", [str(way.numbers.missing) for way in ways]
    yield "fragments missing", [str(way.numbers.missing_fragments) for way in ways]
    yield "duplicates", [str(way.numbers.duplicates) for way in ways]
    yield "out of order", [str(way.numbers.late) for way in ways]
    yield "restarts", [str(way.numbers.restarts) for way in ways]
    yield "to all", [str(way.broadcasts) for way in ways]
    yield "pings repeated", [str(way.pings.repeated) for way in ways]
    yield "pings unanswered", [str(way.pings.unanswered) for way in ways]
    for label, take in _LATENCIES.items():
        yield label, [_latency(way.pings.latencies, take) for way in ways]
    yield "largest probe", [str(way.largest_probe) for way in ways]
    yield "largest answered", [str(way.largest_answered) for way in ways]
    for channel in sorted(ways[0].channels | ways[1].channels):
        yield f"channel {channel}", [str(way.channels[channel]) for way in ways]
    for model in sorted(ways[0].compressions | ways[1].compressions):
        yield f"compressed by {model}", [str(way.compressions[model]) for way in ways]
    for key in sorted(ways[0].keys | ways[1].keys, key=str):
        yield "in clear" if key is None else f"with {key}", [str(way.keys[key]) for way in ways]
    yield "not captured whole", [str(way.cut) for way in ways]
    for reason in Reason:
        yield f"not opened: {reason}", [str(way.unopened[reason]) for way in ways]


_LATENCIES: Final = {
    "round trip, least": 0.0,
    "round trip, half": 0.5,
    "round trip, 99 %": 0.99,
    "round trip, most": 1.0,
}


def _latency(latencies: LatencyHistogram, share: float) -> str:
    if not latencies.count:
        return ""
    if share in (0.0, 1.0):
        return seconds_text(latencies.most if share else latencies.least)
    return seconds_text(latencies.quantile(share))


def _stranger_lines(decoder: Decoder) -> Iterator[str]:
    strangers = sorted(
        decoder.strangers, key=lambda record: (not record.seems_sealed, -record.packets)
    )
    if strangers:
        yield ""
        flows = count_of(len(strangers), "other UDP flow")
        yield f"{flows} without an opened packet:"
    for record in strangers[:_MOST_STRANGERS]:
        interface = f" on {record.interface}" if record.interface else ""
        where = f"{record.ends[0]} and {record.ends[1]}{interface}"
        yield f"  {where}, {count_of(record.packets, 'packet')}: {_why(record)}"
    if len(strangers) > _MOST_STRANGERS:
        yield f"  and {len(strangers) - _MOST_STRANGERS} more"


def _why(record: LinkRecord) -> str:
    if record.hints:
        return "; ".join(record.hints)
    guess = record.guess_seal()
    if guess is not None:
        return f"they look like knet sealed by {guess} with a key that was not given"
    reasons = record.ways[0].unopened + record.ways[1].unopened
    if reasons[Reason.CUT]:
        return "not captured completely, so no key opens them: capture with tcpdump -s 0"
    return "they do not look like knet; if they are, give --port and --key"
