"""The state machine of a connection.

::

    GREETING --- a HELLO with our id, or a packet of it ---> OPEN ---> ENDED
        |                                                                ^
        +--- nobody answers, or nobody wants anything -------------------+
"""

from __future__ import annotations

from typing import Final

from knet_trio.streams._core.quick_enum import QuickEnum


class ConnectionStage(QuickEnum):
    """The stage of a connection; the value describes it."""

    GREETING = "the other side is asked for its id"
    OPEN = "both sides know both ids"
    ENDED = "all its streams have failed"


class ConnectionCue(QuickEnum):
    """An event in the life of a connection; the value describes it."""

    ANSWER = "a HELLO comes with this side's id"
    BOTH_IDS = "a FRAMES packet comes with this side's id"
    RESTART = "a FRAMES packet comes with the id of the next connection"
    UNKNOWN = "an UNKNOWN packet comes with both ids"
    CLOSE = "a CLOSE packet comes with both ids"
    SILENCE = "nothing comes, or nothing is acknowledged, for `patience` seconds"
    VIOLATION = "the other side breaks the rules"
    GIVE_UP = "the greeting is not answered, and no stream waits for that"
    CLOSED_HERE = "the program ends the streams, or removes the host"


_ENDINGS: Final = (
    ConnectionCue.RESTART,
    ConnectionCue.UNKNOWN,
    ConnectionCue.CLOSE,
    ConnectionCue.SILENCE,
    ConnectionCue.VIOLATION,
    ConnectionCue.CLOSED_HERE,
)

CONNECTION_TRANSITIONS: Final = {
    (ConnectionStage.GREETING, ConnectionCue.ANSWER): ConnectionStage.OPEN,
    (ConnectionStage.GREETING, ConnectionCue.BOTH_IDS): ConnectionStage.OPEN,
    (ConnectionStage.GREETING, ConnectionCue.SILENCE): ConnectionStage.ENDED,
    (ConnectionStage.GREETING, ConnectionCue.GIVE_UP): ConnectionStage.ENDED,
    (ConnectionStage.GREETING, ConnectionCue.CLOSED_HERE): ConnectionStage.ENDED,
    **{(ConnectionStage.OPEN, cue): ConnectionStage.ENDED for cue in _ENDINGS},
}
"""The next stage for each stage and cue. Other combinations change nothing."""
