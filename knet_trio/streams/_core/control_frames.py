"""Frames that are neither data nor acknowledgements: what is to be sent, and sent again if lost.

What is kept is which frame it is and not its bytes: these are made when it is sent, of what is true
then.
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
    """A frame to be sent.

    Attributes:
        type: Its type: anything but DATA and ACK.
        stream: The stream it is about, if it is about one.
        halves: Of a RESET, the halves that end.
        code: Of a RESET, why.
        reason: Of a RESET, why in words.
    """

    type: FrameType
    stream: int = 0
    halves: int = 0
    code: Code = Code.CANCELLED
    reason: str = ""


PING_CONTROL = Control(FrameType.PING)
STREAMS_CONTROL = Control(FrameType.STREAMS)


def write_control(control: Control, table: StreamTable) -> bytes:
    """Return a frame as it is now, nothing if it is of no use any more."""
    kind = control.type
    if kind is FrameType.PING:
        return PING_FRAME
    if kind is FrameType.STREAMS:
        return write_streams(table.told())
    if kind is FrameType.RESET:
        return write_reset(control.stream, control.halves, control.code, control.reason)
    stream = table.find(control.stream)
    if kind is FrameType.ACCEPT:
        return write_accept(control.stream)
    if stream is None or not stream.receiving.wants_more:
        return b""
    return write_credit(control.stream, stream.receiving.limit)
