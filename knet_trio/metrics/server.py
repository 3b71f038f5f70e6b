"""A small HTTP server for scrapes.

The server answers GET /metrics, one request per connection. Clients are not trusted: the size of a
request, its time and that of the answer are bounded. If too many clients are connected, the oldest
one is disconnected, those without a request first. Answers are made one at a time, a few links
between two checkpoints, so that thousands of links do not delay the handle's heartbeats.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import trio

from knet_trio import AddressLike, Handle, TransportError, format_address
from knet_trio._opening import opens
from knet_trio.address import Address, socket_address, to_address
from knet_trio.metrics.exposition import choose_format, write_in_turns
from knet_trio.metrics.http import ScrapeExchange, ScrapeRefusedError, ScrapeRequest

MAX_CLIENTS: Final = 16
"""The most clients connected at once."""
REQUEST_TIME: Final = 5.0
"""Seconds in which a request has to arrive."""
ANSWER_TIME: Final = 30.0
"""Seconds in which an answer has to be made, and in which it has to be sent."""

_BACKLOG: Final = 16
_READ_SIZE: Final = 4096
# Bytes after a request are read for a moment. Otherwise closing would reset the connection, and the
# client would lose the answer.
_DRAIN_TIME: Final = 1.0
_DRAIN_BYTES: Final = 65536


@opens("serve_metrics(handle, '127.0.0.1:9000') as address")
async def serve_metrics(handle: Handle, listen: AddressLike) -> AsyncGenerator[Address]:
    """Serve the metrics of ``handle`` over HTTP at the path ``/metrics``, while the block runs.

    ::

        async with open_handle(1) as handle, serve_metrics(handle, "127.0.0.1:9905"):
            ...

    The format is Prometheus' classic text, or OpenMetrics if the ``Accept`` header names it. There
    is neither encryption nor authentication: anybody who can reach the address can read the
    metrics.

    Args:
        handle: The handle, which should outlive the block.
        listen: The address and port to listen at; port 0 takes a free one.

    Yields:
        The address and port that the server listens at.

    Raises:
        InvalidArgumentError: ``listen`` is not an address.
        TransportError: The system refuses the address, for instance because the port is in use.
    """
    address = to_address(listen)
    await trio.lowlevel.checkpoint()
    async with _open_listener(address) as listener, trio.open_nursery() as nursery:
        server = _MetricsServer(handle)
        nursery.start_soon(server.serve, listener)
        host, port = listener.socket.getsockname()[:2]
        yield Address(host, port)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_listener(address: Address) -> AsyncGenerator[trio.SocketListener]:
    family = trio.socket.AF_INET6 if address.is_ipv6 else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    with sock:
        try:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
            if address.is_ipv6:
                sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
            await sock.bind(socket_address(address))
            sock.listen(_BACKLOG)
        except OSError as error:
            doing = f"cannot serve metrics at {format_address(address)}"
            raise TransportError.from_os_error(doing, error) from error
        yield trio.SocketListener(sock)


class _MetricsServer:
    """Answers scrapes of a handle."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        # All clients, and those that have not sent a request yet, by the scopes that end them, in
        # the order of their connections.
        self._clients: dict[trio.CancelScope, None] = {}
        self._silent: dict[trio.CancelScope, None] = {}
        self._making = trio.Lock()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept clients until cancelled."""
        await trio.serve_listeners(self._let_in, [listener])

    async def _let_in(self, stream: trio.SocketStream) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            oldest = next(iter(self._silent or self._clients))
            self._forget(oldest)
            oldest.cancel()
        with trio.CancelScope() as scope:
            self._clients[scope] = self._silent[scope] = None
            try:
                await self._converse(stream, scope)
            except trio.BrokenResourceError:
                # The client has closed the connection.
                await trio.lowlevel.checkpoint()
            finally:
                self._forget(scope)

    def _forget(self, scope: trio.CancelScope) -> None:
        self._clients.pop(scope, None)
        self._silent.pop(scope, None)

    async def _converse(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        exchange = ScrapeExchange()
        try:
            with trio.fail_after(REQUEST_TIME):
                request = await _receive_request(stream, exchange)
            if request is None:
                return
            self._silent.pop(scope, None)
        except trio.TooSlowError:
            refusal = ScrapeRefusedError(
                HTTPStatus.REQUEST_TIMEOUT, f"no request arrived within {REQUEST_TIME:g} seconds"
            )
            await send_answer(stream, exchange.refuse(refusal))
        except ScrapeRefusedError as refusal:
            await send_answer(stream, exchange.refuse(refusal))
        else:
            with trio.move_on_after(ANSWER_TIME):
                await send_answer(stream, await self._render(exchange, request))

    async def _render(self, exchange: ScrapeExchange, request: ScrapeRequest) -> Iterator[bytes]:
        chosen = choose_format(request.accept)
        async with self._making:
            body = await write_in_turns(chosen, self._handle)
        return exchange.answer(HTTPStatus.OK, chosen.content_type, body)


async def _receive_request(
    stream: trio.SocketStream, exchange: ScrapeExchange
) -> ScrapeRequest | None:
    """Wait for the request and return it, None if the client hangs up before.

    Raises:
        ScrapeRefusedError: The bytes are not a request for metrics.
    """
    while received := await stream.receive_some(_READ_SIZE):
        request = exchange.feed(bytes(received))
        if request is not None:
            return request
    return None


async def send_answer(stream: trio.SocketStream, answer: Iterable[bytes]) -> None:
    """Send a complete answer, and wait until the client has read it before closing."""
    with trio.move_on_after(ANSWER_TIME):
        for portion in answer:
            await stream.send_all(portion)
        await stream.send_eof()
        with trio.move_on_after(_DRAIN_TIME):
            drained = 0
            while drained < _DRAIN_BYTES:
                received = await stream.receive_some(_READ_SIZE)
                if not received:
                    return
                drained += len(received)
