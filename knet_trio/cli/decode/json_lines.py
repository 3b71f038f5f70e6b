"""The packets and the summary of a capture as JSON objects: see docs/commands.md."""

from __future__ import annotations

from typing import Any

from knet_trio._compress import model_of
from knet_trio._core.onwire import Data, Ping, PmtudProbe, Pong
from knet_trio._crypto.aead import EnvelopeHeader
from knet_trio.cli.decode.decoder import DecodedPacket, Decoder
from knet_trio.cli.decode.link_record import KINDS, LinkDirection, LinkRecord
from knet_trio.cli.decode.network import UdpEnd
from knet_trio.cli.decode.numbers import MessageNumbers
from knet_trio.cli.decode.opening import CIPHERS, OpenedPacket
from knet_trio.cli.decode.round_trips import LatencyHistogram


def packet_object(found: DecodedPacket) -> dict[str, Any]:
    """Return the object of a packet."""
    piece = found.piece
    position, total = found.train
    result: dict[str, Any] = {
        "type": "packet",
        "time": found.time / 1e9,
        "interface": found.interface or None,
        "from": _end(found.source),
        "to": _end(found.destination),
        "link": found.link,
        "bytes": piece.size,
        "train": {"position": position, "datagrams": total} if total > 1 else None,
    }
    if not isinstance(piece, OpenedPacket):
        return {**result, "kind": None, "reason": piece.reason.name.lower()}
    packet = piece.packet
    result |= {
        "kind": KINDS[type(packet)],
        "host": packet.node,
        "key": piece.key,
        "cut": piece.cut,
        "envelope": None if piece.envelope is None else _envelope(piece.envelope),
    }
    match packet:
        case Data():
            result |= {
                "number": packet.seq,
                "fragment": packet.frag_seq or 1,
                "fragments": packet.frag_num,
                "channel": packet.channel,
                "broadcast": packet.broadcast,
                "compressed": model_of(packet.compress) if packet.compress else None,
                "data_bytes": None if piece.cut else len(packet.payload),
            }
        case Ping() | Pong():
            result |= {"number": packet.seq, "forced": not packet.timed}
            if isinstance(packet, Pong):
                result["round_trip_seconds"] = found.round_trip
        case PmtudProbe():
            result["probe_bytes"] = piece.size
        case _:
            pass
    return result


def _envelope(header: EnvelopeHeader) -> dict[str, Any]:
    return {
        "cipher": CIPHERS[header.cipher],
        "sender": header.sender,
        "to": header.to,
        "life": header.life.hex(),
        "epoch": header.epoch,
        "counter": header.counter,
    }


def summary_object(decoder: Decoder, damage: str | None, *, dropped: int = 0) -> dict[str, Any]:
    """Return the object of the summary.

    Args:
        decoder: The decoder, with its counts.
        damage: Where and why the capture cannot be read further, None if it was read completely.
        dropped: The number of frames that the kernel dropped.
    """
    return {
        "type": "summary",
        "frames": decoder.frames,
        "bytes": decoder.size,
        "first": None if decoder.first is None else decoder.first / 1e9,
        "last": None if decoder.first is None else decoder.last / 1e9,
        "other_frames": dict(decoder.others),
        "unknown_link_types": {str(kind): count for kind, count in decoder.link_types.items()},
        "forgotten": decoder.forgotten,
        "dropped": dropped,
        "unopened": decoder.unopened,
        "links": [_link(record) for record in decoder.links],
        "hosts": {str(node): _numbers(numbers) for node, numbers in sorted(decoder.hosts.items())},
        "other_flows": [_link(record) for record in decoder.strangers],
        "damage": damage,
    }


def _end(end: UdpEnd) -> dict[str, Any]:
    return {"address": end.address, "port": end.port}


def _link(record: LinkRecord) -> dict[str, Any]:
    first, second = record.ends
    return {
        "link": record.link,
        "interface": record.interface or None,
        "directions": [
            {"from": _end(first), "to": _end(second), **_direction(record.ways[0])},
            {"from": _end(second), "to": _end(first), **_direction(record.ways[1])},
        ],
        "seems_sealed_by": record.guess_seal(),
        "hints": record.hints,
    }


def _direction(way: LinkDirection) -> dict[str, Any]:
    return {
        "hosts": sorted(way.hosts),
        "packets": {kind: way.kinds[kind] for kind in KINDS.values()},
        "bytes": way.size,
        "unopened": {reason.name.lower(): count for reason, count in way.unopened.items()},
        "keys": {key or "clear": count for key, count in way.keys.items()},
        "channels": {str(channel): count for channel, count in sorted(way.channels.items())},
        "compressed": dict(way.compressions),
        "broadcasts": way.broadcasts,
        "trains": way.trains,
        "cut": way.cut,
        "numbers": _numbers(way.numbers),
        "pings": {
            "repeated": way.pings.repeated,
            "unanswered": way.pings.unanswered,
            "round_trip_seconds": _latencies(way.pings.latencies),
        },
        "path_mtu": {
            "largest_probe": way.largest_probe or None,
            "largest_answered": way.largest_answered or None,
        },
    }


def _numbers(numbers: MessageNumbers) -> dict[str, int]:
    return {
        "messages": numbers.messages,
        "whole": numbers.whole,
        "missing": numbers.missing,
        "missing_fragments": numbers.missing_fragments,
        "duplicates": numbers.duplicates,
        "late": numbers.late,
        "restarts": numbers.restarts,
    }


def _latencies(latencies: LatencyHistogram) -> dict[str, float | int] | None:
    if not latencies.count:
        return None
    return {
        "count": latencies.count,
        "least": latencies.least,
        "mean": latencies.mean,
        "median": latencies.quantile(0.5),
        "p99": latencies.quantile(0.99),
        "most": latencies.most,
    }
