"""The requests that the server understands, and its answers. No sockets are in here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

MAX_HEAD: Final = 8192
"""Bytes of a request line and headers at most."""

PATH: Final = "/metrics"


class ScrapeRequest(NamedTuple):
    """A request that is answered with metrics.

    Attributes:
        accept: What its headers ``Accept`` say.
        wants_body: Whether it is a GET, not a HEAD.
    """

    accept: str
    wants_body: bool


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


def find_end(head: bytes | bytearray) -> int | None:
    """Return how many bytes of ``head`` are a request line and headers, None if they go on."""
    ends = [head.find(mark) + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if mark in head]
    return min(ends, default=None)


def parse_request(head: bytes | bytearray) -> ScrapeRequest:
    """Return the request whose request line and headers are ``head``.

    Raises:
        ScrapeRefusedError: It asks for something else, or is none.
    """
    lines = head.decode("latin-1").split("\n")
    words = lines[0].strip().split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise ScrapeRefusedError(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    method, target, version = words
    if not version.startswith("HTTP/1."):
        raise ScrapeRefusedError(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1 are spoken here"
        )
    if _path(target) != PATH:
        raise ScrapeRefusedError(HTTPStatus.NOT_FOUND, f"there is nothing here but {PATH}")
    if method not in ("GET", "HEAD"):
        raise ScrapeRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
    accepts: list[str] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon and line.strip():
            raise ScrapeRefusedError(HTTPStatus.BAD_REQUEST, "a header has no colon")
        if name.lower() == "accept":
            accepts.append(value.strip())
    return ScrapeRequest(",".join(accepts), method == "GET")


def make_answer(status: HTTPStatus, content_type: str, body: bytes, *, with_body: bool) -> bytes:
    """Return a whole answer, after which the connection is closed."""
    headers = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append("Allow: GET, HEAD")
    head = "\r\n".join([*headers, "", ""]).encode("ascii")
    return head + body if with_body else head


def make_refusal(refusal: ScrapeRefusedError) -> bytes:
    """Return the whole answer to a request that is refused."""
    body = f"{refusal.message}\n".encode()
    return make_answer(refusal.status, "text/plain; charset=utf-8", body, with_body=True)


def _path(target: str) -> str:
    """Return the path in what is asked for, which a proxy may be given with the host before it."""
    if target.startswith("http://"):
        target = f"/{target.removeprefix('http://').partition('/')[2]}"
    return target.partition("?")[0]
