"""The control protocol: methods, bounds, and the lines of requests and answers.

``docs/control-protocol.md`` describes the protocol; a test compares the page with the tables here.
"""

from __future__ import annotations

from collections.abc import Iterable
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
"""The longest line of a request in bytes, including its end."""
MAX_ID: Final = 64
"""The longest id of a request in characters, if the id is text."""
MAX_AT_ONCE: Final = 8
"""The most requests of one client in progress at once; further ones are not read until then."""
MAX_CLIENTS: Final = 64
"""The most clients connected at once."""
STUCK: Final = 10.0
"""Seconds without reading its answers after which a client may be disconnected to make room for
another one."""


# Parameters.


@attrs.frozen(kw_only=True)
class NoParameters:
    """The parameters of a method without parameters."""


@attrs.frozen(kw_only=True)
class TargetParameters:
    """The parameters of a method for the handle, a host or a link.

    Attributes:
        host: The id or the name of a host, null for the handle.
        link: The id of a link of that host, null for the host.
    """

    host: int | str | None = None
    link: int | None = None


@attrs.frozen(kw_only=True)
class LinkParameters:
    """The parameters of a method for a link.

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
        on: True to send events from now on, false to stop; true if left out.
    """

    on: bool = True


@attrs.frozen(kw_only=True)
class SetParameters:
    """The parameters of ``set``.

    Attributes:
        name: The name of the setting, from the table of settings.
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
        count: The number of pings over each link, 1 to 1000.
        interval: Seconds between two pings, 0.01 to 3600. A ping does not wait for the pong of the
            previous one.
    """

    host: int | str
    link: int | None = None
    count: int = 1
    interval: float = 1.0


@attrs.frozen(kw_only=True)
class ObserveParameters:
    """The parameters of ``observe``.

    Attributes:
        seconds: How long to observe, in seconds, 0.1 to 60.
    """

    seconds: float


@attrs.frozen
class Method:
    """A method of the protocol.

    Attributes:
        parameters: The record of the parameters, None for any object, passed on unchanged.
        result: The records that may be the result; empty for a value defined by the program.
        summary: A description for the documentation.
    """

    parameters: type | None
    result: tuple[type, ...]
    summary: str


METHODS: Final[dict[str, Method]] = {
    "status": Method(
        NoParameters,
        (HandleReport,),
        "Return the state of the handle, its hosts and their links. The state of many links is read"
        " in parts, so each link has the time of its own report.",
    ),
    "metrics": Method(
        NoParameters,
        (HandleMetrics,),
        "Return the metrics of the handle, its hosts and their links: all counters at once, read in"
        " parts like `status`.",
    ),
    "statistics": Method(
        TargetParameters,
        (HandleStatistics, LinkStatistics),
        "Return the counters of the handle, or with `host` and `link` those of a link. The members"
        " are the fields of the library's records.",
    ),
    "explain": Method(
        TargetParameters,
        (Explanation,),
        "Return an explanation of the state of the handle, a host or a link, what was dropped, and"
        " what to do about it.",
    ),
    "history": Method(
        LinkParameters, (LinkHistory,), "Return when a link last went up and down, and why."
    ),
    "events": Method(
        EventParameters,
        (),
        "Start sending events as they happen, or with `on` false stop. The result is null.",
    ),
    "set": Method(
        SetParameters,
        (),
        "Change a setting. The result is the new value; the error is the library's own.",
    ),
    "ping": Method(
        PingParameters,
        (HostPing,),
        "Send one or more pings over one link or all links of a host, in addition to those of the"
        " heartbeat, and wait for the pongs.",
    ),
    "diagnose": Method(
        TargetParameters,
        (HandleDiagnosis, LinkDiagnosis),
        "Return possible faults of the handle, or with `host` and `link` those of a link. The"
        " members are the fields of the library's records.",
    ),
    "discover_mtu": Method(
        LinkParameters,
        (PathReport,),
        "Search for the path MTU of a link now, and wait for the result: up to some seconds.",
    ),
    "observe": Method(
        ObserveParameters,
        (LoopReport,),
        "Measure for some seconds how late the event loop of the program runs.",
    ),
    "rekey": Method(None, (), "Change the key of the cluster, if the program offers that."),
    "reload": Method(None, (), "Read the configuration again, if the program offers that."),
}


# Requests and answers.


class RequestRefusedError(Exception):
    """A request that is answered with an error.

    Attributes:
        code: The error, for programs.
        message: What is wrong and what to do, for people.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@attrs.frozen
class ControlRequest:
    """A request of a client.

    Attributes:
        request_id: The id chosen by the client, repeated in the answer.
        method: The name of the method.
        parameters: The parameters, by name.
    """

    request_id: int | str
    method: str
    parameters: dict[str, Any]


def parse_request(line: bytes) -> ControlRequest:
    """Return the request in a line.

    Raises:
        RequestRefusedError: The line is not a request.
    """
    try:
        value = load(line)
    except MisfitError as error:
        raise _bad_line(f"the line is not JSON: {error}") from None
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
        RequestRefusedError: A parameter is missing or of another type.
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


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = get_close_matches(name[:MAX_ID], names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    if not names:
        return "it has none"
    return f"use one of {', '.join(names)}" if len(names) > 1 else f"use {names[0]}"


def answer_line(request_id: int | str, result: object) -> str:
    """Return the line that answers a request."""
    return f"{answer_head(request_id)}{dump(to_json(result))}}}\n"


def answer_head(request_id: int | str) -> str:
    """Return the beginning of the line that answers a request; the result and ``}`` follow."""
    return f'{{"id":{dump(request_id)},"result":'


def error_line(request_id: int | str | None, error: RequestRefusedError) -> str:
    """Return the line that answers a request with an error.

    Args:
        request_id: The id of the request, None if the line was not a request.
        error: The error.
    """
    reason = {"code": error.code.value, "message": error.message}
    return dump({"id": request_id, "error": reason}) + "\n"


def event_line(kind: str, event: object) -> str:
    """Return the line of an event."""
    members = to_json(event)
    assert isinstance(members, dict)
    return dump({"event": kind, **members}) + "\n"


def result_types(method: Method) -> str:
    """Return the types of a method's result, in words."""
    return " or ".join(describe_type(kind) for kind in method.result) or "any value"
