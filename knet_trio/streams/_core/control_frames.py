"""Control frames: all frames but DATA and ACK, which are sent again if lost.

A frame is queued by its type and stream. Its bytes are written at the time it is sent, from the
state at that time.
"""

from __future__ import annotations

from typing import NamedTuple

from knet_trio.streams._core.stream_table import StreamTable
from knet_trio.streams._core.wire import (
    PING_FRAME,
    Code,
    FrameType,
)
from knet_trio.streams._core.wire_writing import (
    write_accept,
    write_credit,
    write_reset,
    write_streams,
)


class Control(NamedTuple):
    """A control frame to be sent.

    Attributes:
        type: The type of the frame, neither DATA nor ACK.
        stream: The key of the stream, for frames about a stream.
        halves: RESET: the halves that end.
        code: RESET: the code of the reason.
        reason: RESET: the reason in words.
    """

    type: FrameType
    stream: int = 0
    halves: int = 0
    code: Code = Code.CANCELLED
    reason: str = ""


PING_CONTROL = Control(FrameType.PING)
STREAMS_CONTROL = Control(FrameType.STREAMS)


def write_control(control: Control, table: StreamTable) -> bytes:
    """Return the bytes of a frame for the present state; empty if the frame is obsolete."""
    kind = control.type
    if kind is FrameType.PING:
        return PING_FRAME
    if kind is FrameType.STREAMS:
        return write_streams(table.announce())
    if kind is FrameType.RESET:
        return write_reset(control.stream, control.halves, control.code, control.reason)
    stream = table.find(control.stream)
    if kind is FrameType.ACCEPT:
        return write_accept(control.stream)
    if stream is None or not stream.receiving.wants_more:
        return b""
    return write_credit(control.stream, stream.receiving.limit)
