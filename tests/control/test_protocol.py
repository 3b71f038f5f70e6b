from __future__ import annotations

import pytest
import trio

from knet_trio.control.errors import ErrorCode
from knet_trio.control.lines import LineReader, LineTooLongError
from knet_trio.control.protocol import (
    MAX_ID,
    METHODS,
    ControlRequest,
    RequestRefusedError,
    check_method,
    parse_request,
    read_parameters,
)


class Pieces:
    """Bytes that come in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""


async def lines(reader: LineReader) -> list[bytes]:
    found: list[bytes] = []
    while (line := await reader.read()) is not None:
        found.append(line)
    return found


async def test_lines_are_put_together_from_pieces() -> None:
    reader = LineReader(Pieces(b"on", b"e\ntwo\n\nthr", b"ee\nrest"), 10)
    assert await lines(reader) == [b"one", b"two", b"", b"three"]


async def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert await lines(LineReader(Pieces(b"123456789\n" * 2), 10)) == [b"123456789"] * 2
    for pieces in ([b"1234567890\n"], [b"12345", b"67890", b"1"]):
        with pytest.raises(LineTooLongError):
            await LineReader(Pieces(*pieces), 10).read()


def test_a_request() -> None:
    assert parse_request(b'{"id": 1, "method": "status"}') == ControlRequest(1, "status", {})
    line = b'{"id": "x", "method": "ping", "params": {"host": 2}, "later": 1}'
    assert parse_request(line) == ControlRequest("x", "ping", {"host": 2})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello", "not JSON"),
        (b"[]", "a request is an object"),
        (b'{"method": "status"}', "a member id"),
        (b'{"id": true, "method": "status"}', "a member id"),
        (b'{"id": "%s", "method": "status"}' % (b"x" * (MAX_ID + 1)), "more than 64"),
        (b'{"id": %s, "method": "status"}' % (b"1" * (MAX_ID + 1)), "more than 64"),
        (b'{"id": 1}', "a member method"),
        (b'{"id": 1, "method": 5}', "a member method"),
        (b'{"id": 1, "method": "status", "params": []}', "params is an object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request(line: bytes, said: str) -> None:
    with pytest.raises(RequestRefusedError, match=said) as caught:
        parse_request(line)
    assert caught.value.code is ErrorCode.BAD_LINE


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (ControlRequest(1, "stat", {}), ErrorCode.UNKNOWN_METHOD, "did you mean status"),
        (ControlRequest(1, "quux", {}), ErrorCode.UNKNOWN_METHOD, "use one of status, metrics"),
        (ControlRequest(1, "x" * 10000, {}), ErrorCode.UNKNOWN_METHOD, r"x\.\.\.'"),
        (ControlRequest(1, "ping", {"hosts": 2}), ErrorCode.UNKNOWN_PARAMETER, "did you mean host"),
        (ControlRequest(1, "status", {"x": 2}), ErrorCode.UNKNOWN_PARAMETER, "it has none"),
        (ControlRequest(1, "ping", {}), ErrorCode.BAD_PARAMETER, "ping: host is missing"),
        (ControlRequest(1, "ping", {"host": []}), ErrorCode.BAD_PARAMETER, "not integer or text"),
        (ControlRequest(1, "set", {"name": "mtu"}), ErrorCode.BAD_PARAMETER, "value is missing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_asked_for(request_: ControlRequest, code: ErrorCode, said: str) -> None:
    with pytest.raises(RequestRefusedError, match=said) as caught:
        read_parameters(check_method(request_), request_)
    assert caught.value.code is code


def test_a_program_gets_the_parameters_of_its_own_methods_as_they_are() -> None:
    for name in ("rekey", "reload"):
        assert METHODS[name].parameters is None
        assert check_method(ControlRequest(1, name, {"whatever": 1})) is METHODS[name]
