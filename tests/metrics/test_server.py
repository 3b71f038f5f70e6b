"""Scrapes of a handle, and those who do otherwise."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
import trio.testing

from knet_trio import InvalidArgumentError, TransportError, open_handle
from knet_trio.metrics import serve_metrics, server
from knet_trio.metrics.http import MAX_HEAD, ScrapeExchange
from knet_trio.metrics.server import send_answer
from tests.cluster import LOCALHOST, wait_for
from tests.metrics.scraping import ask, get, open_scraped, promtool, read_answer, value


async def test_a_scrape_gets_the_classic_text() -> None:
    async with open_scraped() as scraped:
        answer = await get(scraped.address)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert value(answer.text, "knet_link_up", host="1", host_name="me", link="0") == 1
        scraped.link.enabled = False
        text = (await get(scraped.address, "Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1")).text
        assert value(text, "knet_link_up", host="1", host_name="me", link="0") == 0


async def test_openmetrics_where_it_is_asked_for() -> None:
    async with open_scraped() as scraped:
        answer = await get(scraped.address, "Accept: application/openmetrics-text;version=1.0.0")
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1")
        assert answer.text.endswith("# EOF\n")


async def test_promtool_finds_nothing_wrong() -> None:
    async with open_scraped() as scraped:
        scraped.handle.open_channel(7)
        scraped.handle.hosts[1].name = 'a "name" \\ of\ntwo lines'
        text = (await get(scraped.address)).body
        await trio.to_thread.run_sync(lambda: promtool("check", "metrics", text=text))


async def test_head_gets_the_headers_alone() -> None:
    async with open_scraped() as scraped:
        answer = await get(scraped.address, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", 404),
        (b"GET /metrics2 HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 405),
        (b"GET /metrics HTTP/2", 400),
        (b"GET /metrics HTTP/2.0", 505),
        (b"GET /metrics", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\xff", 400),
        (b"GET /metrics HTTP/1.1\r\nno header", 400),
        (b"GET /metrics?name%5B%5D=x HTTP/1.0", 200),
        (b"GET http://node:9905/metrics HTTP/1.1\r\nAccept: \xff;;;q=,", 200),
    ],
)
async def test_what_is_asked_for_is_answered(request_line: bytes, status: int) -> None:
    async with open_scraped() as scraped:
        answer = await ask(scraped.address, request_line + b"\r\nHost: node\r\n\r\n")
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_a_request_has_a_bounded_size() -> None:
    async with open_scraped() as scraped:
        answer = await ask(scraped.address, b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 4 * MAX_HEAD)
        assert answer.status == 431


async def test_a_request_may_come_in_pieces_and_with_more_behind_it() -> None:
    async with open_scraped() as scraped, await trio.open_tcp_stream(*scraped.address) as stream:
        for piece in (b"GET /metr", b"ics HTTP/1.0\r", b"\n\r", b"\n" + b"more" * 1000):
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await read_answer(stream)).status == 200


async def test_who_does_not_ask_is_told_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIME", 0.05)
    async with open_scraped() as scraped:
        assert (await ask(scraped.address, b"GET /metrics HTTP/1.1\r\n")).status == 408


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_TIME", 0.05)

    # More than the system takes for somebody who does not read.
    def answer(*_: object) -> list[bytes]:
        return [bytes(64 << 20)]

    monkeypatch.setattr(ScrapeExchange, "answer", answer)
    given_up = trio.Event()

    async def send(stream: trio.SocketStream, answer: Iterable[bytes]) -> None:
        try:
            await send_answer(stream, answer)
        finally:
            given_up.set()

    monkeypatch.setattr(server, "send_answer", send)
    async with open_scraped() as scraped, await trio.open_tcp_stream(*scraped.address) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        await given_up.wait()
        received = 0
        with pytest.raises(trio.BrokenResourceError):  # until it is cut off
            while data := await stream.receive_some(1 << 20):
                received += len(data)
            raise trio.BrokenResourceError
        assert received < 64 << 20
        monkeypatch.undo()
        assert (await get(scraped.address)).status == 200


async def test_idle_clients_make_room() -> None:
    async with open_scraped() as scraped, trio.open_nursery() as nursery:
        ended: list[int] = []

        async def idle(number: int, task_status: trio.TaskStatus[None]) -> None:
            async with await trio.open_tcp_stream(*scraped.address) as stream:
                task_status.started()
                assert await stream.receive_some(1) == b""
                ended.append(number)

        for number in range(server.MAX_CLIENTS):
            await nursery.start(idle, number)
        for _ in range(3):
            assert (await get(scraped.address)).status == 200
        await wait_for(lambda: bool(ended))
        # A scrape takes one place, and gives it back.
        assert len(ended) < server.MAX_CLIENTS
        nursery.cancel_scope.cancel()


async def test_a_client_that_goes_harms_nobody() -> None:
    async with open_scraped() as scraped:
        for request in (b"", b"GET", b"GET /metrics HTTP/1.0\r\n\r\n"):
            stream = await trio.open_tcp_stream(*scraped.address)
            if request:
                await stream.send_all(request)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
        assert (await get(scraped.address)).status == 200


async def test_an_address_that_cannot_be_had() -> None:
    async with open_scraped() as scraped:
        with pytest.raises(TransportError, match=r"cannot serve metrics at 127\.0\.0\.1:"):
            async with serve_metrics(scraped.handle, scraped.address):
                pytest.fail("it cannot be served twice")
        with pytest.raises(InvalidArgumentError):
            async with serve_metrics(scraped.handle, "9905"):
                pytest.fail("that is no address")


async def test_to_begin_looks_for_cancellation() -> None:
    async with open_handle(1) as handle:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with serve_metrics(handle, (LOCALHOST, 0)):
                pytest.fail("it was cancelled before")
        assert scope.cancelled_caught


async def test_ipv6_and_the_port_again_at_once() -> None:
    async with open_handle(1) as handle:
        async with serve_metrics(handle, "[::1]:0") as address:
            assert (await get(address)).status == 200
        async with serve_metrics(handle, address):
            assert (await get(address)).status == 200
        with pytest.raises(OSError, match=r"refused|attempts"):
            await trio.open_tcp_stream(*address)


async def test_localhost_is_all_that_is_served() -> None:
    async with open_scraped() as scraped:
        assert scraped.address.host == LOCALHOST
