"""Metrics as text, in the classic format or in OpenMetrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import attrs
import trio
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from knet_trio import Handle
from knet_trio.control import HandleMetrics, HostMetrics
from knet_trio.control.reports import measure_handle
from knet_trio.metrics.collector import measure_hosts
from knet_trio.metrics.families import make_families
from knet_trio.metrics.series import HOST_REACHABLE, SERIES

# This function has no type annotations.
_write_openmetrics: Final[Callable[[Collector], bytes]] = cast("Any", openmetrics).generate_latest


class _Measured(Collector):
    def __init__(self, metrics: HandleMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from make_families(self._metrics)


def make_classic_text(metrics: HandleMetrics) -> bytes:
    """Return metrics in the classic text format of Prometheus.

    Args:
        metrics: The metrics of a handle.
    """
    return generate_latest(_Measured(metrics))


def make_openmetrics_text(metrics: HandleMetrics) -> bytes:
    """Return metrics in the text format of OpenMetrics 1.0.

    Args:
        metrics: The metrics of a handle.
    """
    return _write_openmetrics(_Measured(metrics))


class Format(NamedTuple):
    """A format that a scraper can request.

    Attributes:
        content_type: The Content-Type of the answer.
        write: Returns the text.
        end: The end of each text.
    """

    content_type: str
    write: Callable[[HandleMetrics], bytes]
    end: bytes


CLASSIC: Final = Format("text/plain; version=0.0.4; charset=utf-8", make_classic_text, b"")
OPENMETRICS: Final = Format(
    "application/openmetrics-text; version=1.0.0; charset=utf-8", make_openmetrics_text, b"# EOF\n"
)


async def write_in_turns(chosen: Format, handle: Handle) -> list[bytes]:
    """Measure a handle and return the text in pieces, letting other tasks run meanwhile.

    A thread would be worse: the text is made in Python, so the thread would hold the interpreter
    lock for 5 ms whenever Trio's thread needs it. So the text is made for a few links at a time. In
    the complete text all samples of a series are together, so each partial text is split at its
    series.
    """
    # For each series, its head and the pieces with its samples.
    series = [[family] for family in _split(chosen, measure_handle(handle))]
    nothing = attrs.evolve(measure_handle(handle), drops={}, channel_queues={})
    async with aclosing(measure_hosts(handle)) as hosts:
        async for host in hosts:
            # Metrics are not kept: freeing all of them at once would take too long as well.
            for part, is_first in _cut(host):
                # Before the first part as well, since measuring has taken some time.
                await trio.lowlevel.checkpoint()
                families = _split(chosen, attrs.evolve(nothing, hosts=(part,)))
                for one, pieces, family in zip(SERIES, series, families, strict=True):
                    samples = _HEAD.sub(b"", family)
                    if samples and (is_first or one is not HOST_REACHABLE):
                        pieces.append(samples)
            await trio.lowlevel.checkpoint()
    return [*chain.from_iterable(series), chosen.end]


def _split(chosen: Format, metrics: HandleMetrics) -> list[bytes]:
    """Return the text of each series."""
    return _BEGINNING.split(chosen.write(metrics).removesuffix(chosen.end))[1:]


def _cut(host: HostMetrics) -> Iterator[tuple[HostMetrics, bool]]:
    """Yield parts of a host with a few links each, and True for the first part."""
    for start in range(0, max(len(host.links), 1), _LINKS_A_TURN):
        links = host.links[start : start + _LINKS_A_TURN]
        streams = () if start else host.streams
        yield attrs.evolve(host, links=links, streams=streams), not start


# Line feeds in labels are escaped, so no other line begins like this.
_BEGINNING: Final = re.compile(rb"^(?=# HELP )", re.MULTILINE)
_HEAD: Final = re.compile(rb"\A(?:#.*\n)+")
_LINKS_A_TURN: Final = 2
"""Links written before other tasks may run: one link takes about 0.3 ms."""


def choose_format(accept: str) -> Format:
    """Return the format for a header ``Accept``: OpenMetrics only if the header names it."""
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        if media_type == "application/openmetrics-text" and not any(map(_is_zero, parameters)):
            return OPENMETRICS
    return CLASSIC


def _is_zero(parameter: str) -> bool:
    """Return whether a parameter excludes the media type (``q=0``)."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and not value.strip().strip("0.")
