"""The protocol: its methods and bounds, and the lines that are requests and answers.

``docs/control-protocol.md`` describes it; a test compares that with the tables here.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final

import attrs

from knet_trio import HandleDiagnosis, HandleStatistics, LinkDiagnosis, LinkStatistics
from knet_trio.control.codec import MisfitError, describe_type, dump, from_json, load, to_json
from knet_trio.control.errors import ErrorCode
from knet_trio.control.records import (
    Explanation,
    HandleMetrics,
    HandleReport,
    HostPing,
    LinkHistory,
    LoopReport,
    PathReport,
)

MAX_REQUEST: Final = 65536
"""Bytes of a request's line at most, its end included."""
MAX_ID: Final = 64
"""Characters of a request's id at most, if it is text."""
MAX_AT_ONCE: Final = 8
"""How many requests of one client are worked on at once; the next is not read before."""
MAX_CLIENTS: Final = 64
"""How many clients there are at once."""
STUCK: Final = 10.0
"""Seconds that a client has not read what was sent to it, after which it may have to make room for
another one."""


# Parameters.


@attrs.frozen(kw_only=True)
class NoParameters:
    """The parameters of a method that has none."""


@attrs.frozen(kw_only=True)
class TargetParameters:
    """The parameters of a method that is about the handle, a host or a link.

    Attributes:
        host: The id or the name of a host, null for the handle.
        link: The id of a link of that host, null for the host.
    """

    host: int | str | None = None
    link: int | None = None


@attrs.frozen(kw_only=True)
class LinkParameters:
    """The parameters of a method that is about a link.

    Attributes:
        host: The id or the name of a host.
        link: The id of a link of that host.
    """

    host: int | str
    link: int


@attrs.frozen(kw_only=True)
class EventParameters:
    """The parameters of ``events``.

    Attributes:
        on: Whether events are sent from now on; true if it is left out.
    """

    on: bool = True


@attrs.frozen(kw_only=True)
class SetParameters:
    """The parameters of ``set``.

    Attributes:
        name: What is set; the table of settings has the names.
        value: The new value.
        host: The id or the name of a host, null for a setting of the handle.
        link: The id of a link of that host, null for a setting of the host.
    """

    name: str
    value: object
    host: int | str | None = None
    link: int | None = None


@attrs.frozen(kw_only=True)
class PingParameters:
    """The parameters of ``ping``.

    Attributes:
        host: The id or the name of a host.
        link: The id of a link of that host, null for all of them.
        count: How many pings over each, 1 to 1000.
        interval: Seconds from one to the next, 0.01 to 3600; they do not wait for the pongs.
    """

    host: int | str
    link: int | None = None
    count: int = 1
    interval: float = 1.0


@attrs.frozen(kw_only=True)
class ObserveParameters:
    """The parameters of ``observe``.

    Attributes:
        seconds: For how long, 0.1 to 60.
    """

    seconds: float


@attrs.frozen
class Method:
    """What can be asked for.

    Attributes:
        parameters: Their record, None for any object, which is handed on as it is.
        result: The records of what it answers; none for a value that is up to the program.
        summary: What it does, as the documentation has it.
    """

    parameters: type | None
    result: tuple[type, ...]
    summary: str


METHODS: Final[dict[str, Method]] = {
    "status": Method(
        NoParameters,
        (HandleReport,),
        "The state of the handle, its hosts and their links. With many links it is read piece by"
        " piece, so each link says when.",
    ),
    "metrics": Method(
        NoParameters,
        (HandleMetrics,),
        "What can be measured of the handle, its hosts and their links: all counters at once. It is"
        " read piece by piece too.",
    ),
    "statistics": Method(
        TargetParameters,
        (HandleStatistics, LinkStatistics),
        "The counters of the handle, or with `host` and `link` those of a link. The members are the"
        " fields of the library's records.",
    ),
    "explain": Method(
        TargetParameters,
        (Explanation,),
        "Why the handle, a host or a link is as it is, what was dropped, and what to do about it.",
    ),
    "history": Method(
        LinkParameters, (LinkHistory,), "When a link went up and down last, and why."
    ),
    "events": Method(
        EventParameters,
        (),
        "Send each event from now on as it happens, or with `on` false none any more. The result is"
        " null.",
    ),
    "set": Method(
        SetParameters,
        (),
        "Change a setting. The result is its value now; the error is the library's own.",
    ),
    "ping": Method(
        PingParameters,
        (HostPing,),
        "Send a ping or several over one link of a host or all of them, beside those of the"
        " heartbeat, and wait for the pongs.",
    ),
    "diagnose": Method(
        TargetParameters,
        (HandleDiagnosis, LinkDiagnosis),
        "What may be wrong with the handle, or with `host` and `link` with a link. The members are"
        " the fields of the library's records.",
    ),
    "discover_mtu": Method(
        LinkParameters,
        (PathReport,),
        "Search the path MTU of a link now, and wait for the result: up to some seconds.",
    ),
    "observe": Method(
        ObserveParameters,
        (LoopReport,),
        "Look for some seconds how late the event loop of the program comes round.",
    ),
    "rekey": Method(
        None, (), "What the program does to change the key of the cluster, if it offers that."
    ),
    "reload": Method(
        None, (), "What the program does to read its configuration again, if it offers that."
    ),
}


# Requests and answers.


class RequestRefusedError(Exception):
    """A request is answered with an error.

    Attributes:
        code: Why, for programs.
        message: Why, in words.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@attrs.frozen
class ControlRequest:
    """A line that a client sent.

    Attributes:
        request_id: What its answer says as well, chosen by the client.
        method: The name of the method.
        parameters: Those that were given.
    """

    request_id: int | str
    method: str
    parameters: dict[str, Any]


def parse_request(line: bytes) -> ControlRequest:
    """Return the request in a line.

    Raises:
        RequestRefusedError: There is none in it.
    """
    try:
        value = load(line)
    except MisfitError as error:
        raise _bad_line(f"the line is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _bad_line('a request is an object, such as {"id": 1, "method": "status"}')
    request_id, method = value.get("id"), value.get("method")
    if type(request_id) is not int and not isinstance(request_id, str):
        raise _bad_line("a request has a member id, an integer or text, that its answer repeats")
    if len(str(request_id)) > MAX_ID:
        raise _bad_line(f"the id has more than {MAX_ID} characters")
    if not isinstance(method, str):
        raise _bad_line(f"a request has a member method, one of {', '.join(METHODS)}")
    parameters = value.get("params", {})
    if not isinstance(parameters, dict):
        raise _bad_line("params is an object, with a member for each parameter")
    return ControlRequest(request_id, method, parameters)


def check_method(request: ControlRequest) -> Method:
    """Return the method of a request.

    Raises:
        RequestRefusedError: There is no such method, or it has no such parameter.
    """
    method = METHODS.get(request.method)
    if method is None:
        raise RequestRefusedError(
            ErrorCode.UNKNOWN_METHOD,
            f"there is no method {_quoted(request.method)}: {_nearest(request.method, METHODS)}",
        )
    if method.parameters is not None:
        known = [field.name for field in attrs.fields(method.parameters)]
        for name in request.parameters:
            if name not in known:
                what = f"{request.method} has no parameter {_quoted(name)}"
                raise RequestRefusedError(
                    ErrorCode.UNKNOWN_PARAMETER, f"{what}: {_nearest(name, known)}"
                )
    return method


def read_parameters(method: Method, request: ControlRequest) -> Any:
    """Return the record of a request's parameters.

    Raises:
        RequestRefusedError: One is missing or of another type.
    """
    kind: Any = method.parameters
    try:
        return from_json(kind, request.parameters)
    except MisfitError as error:
        raise RequestRefusedError(ErrorCode.BAD_PARAMETER, f"{request.method}: {error}") from None


def _bad_line(message: str) -> RequestRefusedError:
    return RequestRefusedError(ErrorCode.BAD_LINE, message)


def _quoted(name: str) -> str:
    return repr(name if len(name) <= MAX_ID else f"{name[:MAX_ID]}...")


def _nearest(name: str, known: Any) -> str:
    close = get_close_matches(name[:MAX_ID], list(known), n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(known)}" if known else "it has none"


def answer_line(request_id: int | str, result: object) -> str:
    """Return the line that answers a request."""
    return f"{answer_head(request_id)}{dump(to_json(result))}}}\n"


def answer_head(request_id: int | str) -> str:
    """Return how a line begins that answers a request; the result follows, and ``}``."""
    return f'{{"id":{dump(request_id)},"result":'


def error_line(request_id: int | str | None, error: RequestRefusedError) -> str:
    """Return the line that answers a request with an error.

    Args:
        request_id: None if the line was no request.
        error: Why.
    """
    reason = {"code": error.code.value, "message": error.message}
    return dump({"id": request_id, "error": reason}) + "\n"


def event_line(kind: str, event: object) -> str:
    """Return the line of an event."""
    members = to_json(event)
    assert isinstance(members, dict)
    return dump({"event": kind, **members}) + "\n"


def result_types(method: Method) -> str:
    """Return what a method answers, in words."""
    return " or ".join(describe_type(kind) for kind in method.result) or "any value"
