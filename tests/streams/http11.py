"""HTTP/1.1 by ``h11`` over any stream of Trio: a server, and a client that keeps its connection."""

from __future__ import annotations

from collections.abc import Callable

import h11
import trio

PIECE = 1 << 16


class Connection:
    """One side of a connection."""

    def __init__(self, stream: trio.abc.Stream, role: type[h11.CLIENT | h11.SERVER]) -> None:
        self.http = h11.Connection(role)
        self.stream = stream

    async def send(self, event: h11.Event) -> None:
        """Send an event."""
        data = self.http.send(event)
        if data:
            await self.stream.send_all(data)

    async def send_body(self, body: bytes, halfway: Callable[[], None]) -> None:
        """Send a body and its end."""
        for start in range(0, len(body), PIECE):
            if start <= len(body) // 2 < start + PIECE:
                halfway()
            await self.send(h11.Data(data=body[start : start + PIECE]))
        await self.send(h11.EndOfMessage())

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """Wait for the next event of the other side."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            self.http.receive_data(bytes(await self.stream.receive_some()))

    async def receive_body(self) -> bytes:
        """Receive a body to its end."""
        body = bytearray()
        while not isinstance(event := await self.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        return bytes(body)


def nothing() -> None:
    """What happens halfway if nothing else does."""


async def serve(stream: trio.abc.Stream, halfway: Callable[[], None] = nothing) -> None:
    """Answer requests with their own bodies backwards, until the client closes or says so.

    ``halfway`` is called when half of an answer has been sent, if it has more than one piece.
    """
    connection = Connection(stream, h11.SERVER)
    async with stream:
        while isinstance(request := await connection.next_event(), h11.Request):
            body = await connection.receive_body()
            headers = [("Content-Length", str(len(body))), ("Target", request.target.decode())]
            await connection.send(h11.Response(status_code=200, headers=headers))
            await connection.send_body(body[::-1], halfway if len(body) > PIECE else nothing)
            if connection.http.our_state is h11.MUST_CLOSE:
                break
            connection.http.start_next_cycle()
        else:
            assert isinstance(request, h11.ConnectionClosed)


async def ask(
    connection: Connection,
    target: str,
    body: bytes,
    *,
    close: bool = False,
    halfway: Callable[[], None] = nothing,
) -> bytes:
    """Make a request, and return the body of the answer."""
    headers = [("Host", "beta"), ("Content-Length", str(len(body)))]
    if close:
        headers.append(("Connection", "close"))
    await connection.send(h11.Request(method="POST", target=target, headers=headers))
    await connection.send_body(body, halfway)
    response = await connection.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == 200
    assert (b"target", target.encode()) in response.headers
    answer = await connection.receive_body()
    if close:
        assert isinstance(await connection.next_event(), h11.ConnectionClosed)
    else:
        connection.http.start_next_cycle()
    return answer
