"""What a handle counts, for Prometheus. It needs the extra ``metrics``.

``serve_metrics`` answers scrapes out of a Trio program. ``HandleCollector`` is for programs that
have a registry of their own. ``docs/metrics.md`` has every series. From the bottom up::

    series      the names, labels and meanings
    families    what was measured as prometheus-client's objects
    exposition  these as text, in either format
    collector   measuring a handle
    http        requests and answers of the server
    server      serving
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
