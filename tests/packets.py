"""Packets of any kind as bytes, for tests that do not care which kind it is."""

from __future__ import annotations

from typing import assert_never

from knet_trio._core.onwire import (
    Data,
    Packet,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    encode_data,
    encode_ping,
    encode_pmtud,
    encode_pmtud_reply,
    encode_pong,
)


def encode(packet: Packet) -> bytes:
    """``packet`` as it goes into an envelope."""
    match packet:
        case Data():
            return encode_data(packet)
        case Ping():
            return encode_ping(packet)
        case Pong():
            return encode_pong(packet)
        case PmtudProbe():
            return encode_pmtud(packet)
        case PmtudReply():
            return encode_pmtud_reply(packet)
        case _:
            assert_never(packet)
