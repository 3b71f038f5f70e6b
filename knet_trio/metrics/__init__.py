"""Metrics of a handle for Prometheus. Needs the extra ``metrics``.

``serve_metrics`` answers scrapes from a Trio program. ``HandleCollector`` is for programs that have
their own registry. ``docs/metrics.md`` lists every series. From the bottom up::

    series      names, labels and meanings
    families    metrics as objects of prometheus-client
    exposition  these objects as text, in two formats
    collector   measuring of a handle
    http        requests and answers of the server
    server      the server
"""

from __future__ import annotations

from knet_trio.metrics.collector import HandleCollector
from knet_trio.metrics.exposition import make_classic_text, make_openmetrics_text
from knet_trio.metrics.families import make_families
from knet_trio.metrics.series import SERIES, Series
from knet_trio.metrics.server import serve_metrics

__all__ = [
    "SERIES",
    "HandleCollector",
    "Series",
    "make_classic_text",
    "make_families",
    "make_openmetrics_text",
    "serve_metrics",
]
