"""Which format a scraper gets, and what counts as a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.metrics.exposition import CLASSIC, OPENMETRICS, choose_format
from knet_trio.metrics.http import ScrapeExchange, ScrapeRefusedError, ScrapeRequest

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
        answer = exchange.refuse(refusal)
    assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
