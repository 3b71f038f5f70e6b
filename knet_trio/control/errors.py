"""The errors of the control socket."""

from __future__ import annotations

import enum
import errno
from typing import Final

from knet_trio import KnetError


class ErrorCode(enum.StrEnum):
    """The reason why a request is answered with an error."""

    BAD_LINE = "bad_line"
    LINE_TOO_LONG = "line_too_long"
    UNKNOWN_METHOD = "unknown_method"
    UNKNOWN_PARAMETER = "unknown_parameter"
    BAD_PARAMETER = "bad_parameter"
    REFUSED = "refused"
    NOT_SERVED = "not_served"
    NOT_ALLOWED = "not_allowed"
    TOO_MANY_CLIENTS = "too_many_clients"


ERROR_MEANINGS: Final = {
    ErrorCode.BAD_LINE: "The line is not a JSON object with a method; the connection ends.",
    ErrorCode.LINE_TOO_LONG: "The line is longer than a request may be; the connection ends.",
    ErrorCode.UNKNOWN_METHOD: "There is no method of that name; the message has the nearest name.",
    ErrorCode.UNKNOWN_PARAMETER: "The method has no parameter of that name; likewise.",
    ErrorCode.BAD_PARAMETER: "A parameter is missing or of another type.",
    ErrorCode.REFUSED: "The library refuses it; the message is the library's own.",
    ErrorCode.NOT_SERVED: "The program does not offer this method.",
    ErrorCode.NOT_ALLOWED: "The caller is another user; the connection ends.",
    ErrorCode.TOO_MANY_CLIENTS: "The most clients are already connected; the connection ends.",
}
"""The meaning of each code, for the documentation."""


class ControlError(KnetError):
    """The root of the errors of ``knet_trio.control``."""


class ControlSocketError(ControlError):
    """No program answers at a control socket, or its path cannot be served."""

    errno: int = errno.ECONNREFUSED


class ControlProtocolError(ControlError):
    """The other side speaks another version of the protocol, or another protocol."""

    errno: int = errno.EPROTO


class ControlRequestError(ControlError):
    """The other side answered a request with an error.

    Attributes:
        code: The error, for programs: a value of ``ErrorCode``, or one that a later release adds.
        reason: What is wrong and what to do, for people.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
