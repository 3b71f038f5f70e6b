"""Families as text, in either format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from knet_trio.control import HandleMetrics
from knet_trio.metrics.families import make_families

# It has no types.
_write_openmetrics: Final[Callable[[Collector], bytes]] = cast("Any", openmetrics).generate_latest


class _Measured(Collector):
    def __init__(self, metrics: HandleMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from make_families(self._metrics)


def make_classic_text(metrics: HandleMetrics) -> bytes:
    """Return Prometheus' classic text."""
    return generate_latest(_Measured(metrics))


def make_openmetrics_text(metrics: HandleMetrics) -> bytes:
    """Return the text of OpenMetrics 1.0."""
    return _write_openmetrics(_Measured(metrics))


class Format(NamedTuple):
    """A format that a scraper can ask for.

    Attributes:
        content_type: What the answer says of it.
        write: Makes the text.
    """

    content_type: str
    write: Callable[[HandleMetrics], bytes]


CLASSIC: Final = Format("text/plain; version=0.0.4; charset=utf-8", make_classic_text)
OPENMETRICS: Final = Format(
    "application/openmetrics-text; version=1.0.0; charset=utf-8", make_openmetrics_text
)


def choose_format(accept: str) -> Format:
    """Return the format that a header ``Accept`` asks for: OpenMetrics only where it is named."""
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        if media_type == "application/openmetrics-text" and not any(map(_is_zero, parameters)):
            return OPENMETRICS
    return CLASSIC


def _is_zero(parameter: str) -> bool:
    """Return whether a parameter says that the type is not wanted at all."""
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and not value.strip().strip("0.")
