"""Which format a scraper gets, and what counts as a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.metrics.exposition import CLASSIC, OPENMETRICS, choose_format
from knet_trio.metrics.http import ScrapeRefusedError, ScrapeRequest, find_end, parse_request

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
    head = b"GET /metrics HTTP/1.1\r\nACCEPT: a\r\nOther: b\r\naccept:  c \r\n\r\n"
    assert parse_request(head) == ScrapeRequest("a,c", True)


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (b"", None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\n\r\n", 18),
        (b"GET / HTTP/1.1\n\nmore\r\n\r\n", 16),
        (b"a\r\nb: c\r\n\r\nbody", 11),
    ],
)
def test_the_end_of_the_headers(head: bytes, end: int | None) -> None:
    assert find_end(head) == end


@given(st.binary())
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    refused = 400
    try:
        parse_request(head)
    except ScrapeRefusedError as refusal:
        refused = int(refusal.status)
    assert 400 <= refused < 600
