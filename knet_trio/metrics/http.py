"""The requests that the server understands, and its answers, by h11. No sockets are in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

import h11

MAX_HEAD: Final = 8192
"""Bytes of a request line and headers at most."""

PATH: Final = "/metrics"

# Bytes that are sent at once.
_PORTION: Final = 32768


class ScrapeRequest(NamedTuple):
    """A request that is answered with metrics: what its headers ``Accept`` say."""

    accept: str


class ScrapeRefusedError(Exception):
    """A request is answered with an error.

    Attributes:
        status: Its status code.
        message: Why, in words.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ScrapeExchange:
    """One request of a client, and the answer to it."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._wants_body = True

    def feed(self, data: bytes) -> ScrapeRequest | None:
        """Take bytes that the client sent, at least one.

        Returns:
            The request, once its line and headers are there.

        Raises:
            ScrapeRefusedError: It asks for something else, or is none.
        """
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            raise ScrapeRefusedError(status, "this is not a request of HTTP/1.1") from None
        if not isinstance(event, h11.Request):
            return None
        self._wants_body = event.method != b"HEAD"
        return _check(event)

    def answer(
        self, status: HTTPStatus, content_type: str, body: Sequence[bytes]
    ) -> Iterator[bytes]:
        """Yield a whole answer in portions, after which the connection is closed."""
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
        """Yield the whole answer to a request that is refused."""
        body = f"{refusal.message}\n".encode()
        return self.answer(refusal.status, "text/plain; charset=utf-8", [body])


def _check(request: h11.Request) -> ScrapeRequest:
    """Return what a request asks for; raise ScrapeRefusedError if it is not the metrics."""
    if not request.http_version.startswith(b"1."):
        raise ScrapeRefusedError(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1 are spoken here"
        )
    if _path(request.target.decode("latin-1")) != PATH:
        raise ScrapeRefusedError(HTTPStatus.NOT_FOUND, f"there is nothing here but {PATH}")
    if request.method not in (b"GET", b"HEAD"):
        raise ScrapeRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
    accepts = [value.decode("latin-1") for name, value in request.headers if name == b"accept"]
    return ScrapeRequest(",".join(accepts))


def _path(target: str) -> str:
    """Return the path in what is asked for, which a proxy may be given with the host before it."""
    if target.startswith("http://"):
        target = f"/{target.removeprefix('http://').partition('/')[2]}"
    return target.partition("?")[0]


def _gather(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of many small pieces as fewer that are worth a call each."""
    portion = bytearray()
    for piece in pieces:
        portion += piece
        if len(portion) >= _PORTION:
            yield bytes(portion)
            portion.clear()
    if portion:
        yield bytes(portion)
