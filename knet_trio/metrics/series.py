"""The series with their names, labels and meanings. ``docs/metrics.md`` has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from knet_trio import LinkCause

HOST_LABELS: Final = ("host", "host_name")
LINK_LABELS: Final = (*HOST_LABELS, "link")
STREAM_LABELS: Final = (*HOST_LABELS, "channel")

KINDS: Final = ("data", "ping", "pong", "pmtu")
"""The kinds of packets."""

OUTCOMES: Final = ("arrived", "lost", "late")
"""The outcomes of a packet of streams. A lost one is retransmitted, and may still arrive late."""

DIRECTIONS: Final = ("tx", "rx")

REASONS: Final[Mapping[LinkCause, str]] = {
    LinkCause.ANSWERED: "up",
    LinkCause.ENABLED: "up",
    LinkCause.NO_PONG: "down",
    LinkCause.UNREACHABLE: "down",
    LinkCause.REFUSED: "down",
    LinkCause.DISCONNECTED: "down",
    LinkCause.DISABLED: "down",
}
"""The state that a link changes to, by reason. A link that was removed has no series."""


class Series(NamedTuple):
    """A metric, with one series for each combination of its labels.

    Attributes:
        name: The name, as used in queries.
        kind: The type of the metric in Prometheus.
        labels: The names of the labels.
        meaning: The help text for the scraper.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str


LINK_UP: Final = Series("knet_link_up", "gauge", LINK_LABELS, "1 if the link is up, 0 if not.")
LINK_ENABLED: Final = Series(
    "knet_link_enabled", "gauge", LINK_LABELS, "1 if the link may be used, 0 if it was disabled."
)
LINK_MTU: Final = Series(
    "knet_link_mtu_bytes",
    "gauge",
    LINK_LABELS,
    "The bytes of a message that fit in one packet of the link, 0 if its path carries none.",
)
LINK_RTT: Final = Series(
    "knet_link_rtt_seconds",
    "histogram",
    LINK_LABELS,
    "Round trips of the pings that were answered within the pong timeout, in seconds.",
)
LINK_LOSS: Final = Series(
    "knet_link_loss_ratio",
    "gauge",
    LINK_LABELS,
    "The share of the last 100 pings that were lost, 0 to 1; absent before the first ping.",
)
LINK_TRANSITIONS: Final = Series(
    "knet_link_transitions_total",
    "counter",
    (*LINK_LABELS, "to", "reason"),
    "The number of times the link went up or down, by its new state and the kind of reason.",
)
LINK_PACKETS: Final = Series(
    "knet_link_packets_total",
    "counter",
    (*LINK_LABELS, "direction", "kind"),
    "Packets sent and received over the link, including those that the system refused to send.",
)
LINK_BYTES: Final = Series(
    "knet_link_bytes_total",
    "counter",
    (*LINK_LABELS, "direction", "kind"),
    "Bytes of these packets: sent with envelopes, received without, both without UDP and IP.",
)
HOST_REACHABLE: Final = Series(
    "knet_host_reachable", "gauge", HOST_LABELS, "1 if a link to the host can carry data, 0 if not."
)
HOST_CONFIRMED: Final = Series(
    "knet_host_confirmed",
    "gauge",
    (*HOST_LABELS, "slot"),
    "1 if the host has answered with the configuration in that crypto slot, of model aead, 0 if"
    " not; absent for other models.",
)
DROPS: Final = Series(
    "knet_drops_total", "counter", ("cause",), "Packets or messages dropped, by cause."
)
CHANNEL_QUEUE: Final = Series(
    "knet_channel_queue",
    "gauge",
    ("channel",),
    "Messages received on an open channel that wait for the program to take them.",
)

STREAM_OPEN: Final = Series(
    "knet_stream_open",
    "gauge",
    STREAM_LABELS,
    "Streams, requests and messages with the host that are open or under way.",
)
STREAM_RTT: Final = Series(
    "knet_stream_rtt_seconds",
    "gauge",
    STREAM_LABELS,
    "The smoothed round trip of streams with the host, in seconds; absent before the first.",
)
STREAM_WINDOW: Final = Series(
    "knet_stream_window_bytes",
    "gauge",
    STREAM_LABELS,
    "The congestion window: the most bytes of streams to the host that may be in flight.",
)
STREAM_PACKETS: Final = Series(
    "knet_stream_packets_total",
    "counter",
    (*STREAM_LABELS, "outcome"),
    "Packets of streams to the host, by outcome.",
)

SERIES: Final = (
    LINK_UP,
    LINK_ENABLED,
    LINK_MTU,
    LINK_RTT,
    LINK_LOSS,
    LINK_TRANSITIONS,
    LINK_PACKETS,
    LINK_BYTES,
    HOST_REACHABLE,
    HOST_CONFIRMED,
    DROPS,
    CHANNEL_QUEUE,
    STREAM_OPEN,
    STREAM_RTT,
    STREAM_WINDOW,
    STREAM_PACKETS,
)
"""All series, in the order of the exposition."""
