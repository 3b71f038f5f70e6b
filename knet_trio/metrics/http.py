"""The requests and answers of the server, with h11 and without sockets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

import h11

MAX_HEAD: Final = 8192
"""The longest request line and headers, in bytes."""

PATH: Final = "/metrics"

# The size of the portions of an answer, in bytes.
_PORTION: Final = 32768


class ScrapeRequest(NamedTuple):
    """A request for metrics, with the value of its headers ``Accept``."""

    accept: str


class ScrapeRefusedError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The status code.
        message: What is wrong, a text for people.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ScrapeExchange:
    """A request of a client and its answer."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._wants_body = True

    def feed(self, data: bytes) -> ScrapeRequest | None:
        """Take bytes that the client sent, at least one.

        Returns:
            The request, None while its line and headers are incomplete.

        Raises:
            ScrapeRefusedError: The bytes are not a request for metrics.
        """
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            raise ScrapeRefusedError(status, "this is not an HTTP/1.1 request") from None
        if not isinstance(event, h11.Request):
            return None
        self._wants_body = event.method != b"HEAD"
        return _check(event)

    def answer(
        self, status: HTTPStatus, content_type: str, body: Sequence[bytes]
    ) -> Iterator[bytes]:
        """Yield a complete answer in portions; the connection has to be closed after it."""
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(sum(map(len, body)))),
            ("Connection", "close"),
        ]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        connection = self._connection
        yield (
            connection.send(
                h11.Response(status_code=status.value, reason=status.phrase, headers=headers)
            )
            or b""
        )
        for portion in _gather(body) if self._wants_body else ():
            yield connection.send(h11.Data(data=portion)) or b""
        yield connection.send(h11.EndOfMessage()) or b""

    def refuse(self, refusal: ScrapeRefusedError) -> Iterator[bytes]:
        """Yield the complete answer to a refused request."""
        body = f"{refusal.message}\n".encode()
        return self.answer(refusal.status, "text/plain; charset=utf-8", [body])


def _check(request: h11.Request) -> ScrapeRequest:
    """Return the request; raise ScrapeRefusedError if it is not for the metrics."""
    if not request.http_version.startswith(b"1."):
        raise ScrapeRefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.0 or HTTP/1.1")
    if _path(request.target.decode("latin-1")) != PATH:
        raise ScrapeRefusedError(HTTPStatus.NOT_FOUND, f"there is no such page: use {PATH}")
    if request.method not in (b"GET", b"HEAD"):
        raise ScrapeRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD")
    accepts = [value.decode("latin-1") for name, value in request.headers if name == b"accept"]
    return ScrapeRequest(",".join(accepts))


def _path(target: str) -> str:
    """Return the path in a request target, which has a host before it if sent through a proxy."""
    if target.startswith("http://"):
        target = f"/{target.removeprefix('http://').partition('/')[2]}"
    return target.partition("?")[0]


def _gather(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join many small pieces into fewer large ones."""
    portion = bytearray()
    for piece in pieces:
        portion += piece
        if len(portion) >= _PORTION:
            yield bytes(portion)
            portion.clear()
    if portion:
        yield bytes(portion)
