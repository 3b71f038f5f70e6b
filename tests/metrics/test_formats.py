"""Which format a scraper gets, and what counts as a request."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from knet_trio import open_handle
from knet_trio.metrics.collector import measure
from knet_trio.metrics.exposition import (
    CLASSIC,
    OPENMETRICS,
    Format,
    choose_format,
    write_in_turns,
)
from knet_trio.metrics.http import ScrapeExchange, ScrapeRefusedError, ScrapeRequest
from knet_trio.streams import open_streams
from tests.cluster import LOCALHOST, open_pair

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS,
        "application/openmetrics-text",
        "text/plain, Application/OpenMetrics-Text ; q=0.5",
        "application/openmetrics-text;q=0.001",
    ],
)
def test_openmetrics(accept: str) -> None:
    assert choose_format(accept) is OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html",
        "text/plain;version=0.0.4",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text; version=1.0.0; q=0.000",
        ";q=,,;",
    ],
)
def test_the_classic_text(accept: str) -> None:
    assert choose_format(accept) is CLASSIC


@pytest.mark.parametrize("chosen", [CLASSIC, OPENMETRICS])
async def test_what_is_written_in_turns_is_the_same(chosen: Format) -> None:
    async with (
        open_pair(links=3) as pair,
        open_streams(pair.a, channel=7) as streams,
        open_streams(pair.b, channel=7) as others,
        others.listener(),
        await streams.connect(2),
    ):
        pair.a.hosts[2].name = 'a "name"\n# HELP knet_link_up nobody\n# TYPE x y'
        pair.a.add_host(3)
        written = b"".join(await write_in_turns(chosen, pair.a))
        whole = chosen.write(await measure(pair.a))
    assert b"# HELP knet_link_up nobody" in whole
    # What is counted goes on between the two.
    assert [line.rpartition(b" ")[0] for line in written.splitlines()] == [
        line.rpartition(b" ")[0] for line in whole.splitlines()
    ]


async def test_others_get_their_turns_every_few_links() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        for link_id in range(8):
            await host.add_link(link_id, (LOCALHOST, 0), (LOCALHOST, 9), enabled=False)
        rounds = 0

        async def count() -> None:
            nonlocal rounds
            while True:
                await trio.lowlevel.checkpoint()
                rounds += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before = rounds
            await write_in_turns(CLASSIC, handle)
            assert rounds - before >= 4
            nursery.cancel_scope.cancel()


@given(st.text())
def test_any_header_has_a_format(accept: str) -> None:
    assert choose_format(accept) in (CLASSIC, OPENMETRICS)


def test_headers_of_one_name_belong_together() -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: a\r\nACCEPT: a\r\nOther: b\r\naccept:  c \r\n\r\n"
    assert ScrapeExchange().feed(head) == ScrapeRequest("a,c")


@given(st.binary(min_size=1), st.booleans())
def test_any_bytes_are_refused_or_go_on(head: bytes, ends: bool) -> None:
    exchange = ScrapeExchange()
    answer = b"HTTP/1.1 400 "
    try:
        assert exchange.feed(head + b"\r\n\r\n" * ends) is None
    except ScrapeRefusedError as refusal:
        answer = b"".join(exchange.refuse(refusal))
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
