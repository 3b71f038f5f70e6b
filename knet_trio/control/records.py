"""The records that are sent over the control socket; ``codec`` converts them to JSON and back.

Statistics are the library's own records, ``HandleStatistics`` and ``LinkStatistics``.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from knet_trio import LinkStatistics


@attrs.frozen(kw_only=True)
class Hello:
    """The first line that a server sends.

    Attributes:
        knet_trio_control: The version of the protocol.
        package: The release of knet_trio.
        host_id: The id of the handle's own host.
        pid: The process id of the server.
        methods: The methods that the server answers.
        name: The name of that host, empty if the program did not give one.
    """

    knet_trio_control: int
    package: str
    host_id: int
    pid: int
    methods: tuple[str, ...]
    name: str = ""


@attrs.frozen(kw_only=True)
class LinkReport:
    """The state of a link. ``LinkStatus`` and ``LinkConfig`` describe most fields in more detail.

    Attributes:
        link_id: The id of the link, 0 to 7.
        at: The time of this report, on the server's clock, in seconds.
        transport: The transport: ``udp``, ``sctp`` or ``loopback``.
        src: The local address and port.
        dst: The address and port of the peer, null while a dynamic link has no peer.
        dynamic: True if the address of the peer is learnt from its packets.
        enabled: True if the link may be used.
        connected: True if the link is up.
        carries_data: True if messages can be sent over the link.
        in_use: True if messages are sent over the link now, by the host's policy. Copies that are
            sent while another link is in doubt do not count.
        reason: Why the link is up or down, a text for people.
        since: The time since when ``reason`` holds, on the server's clock, in seconds.
        latency: The average round trip in seconds, 0 before the first pong.
        latency_p50: The median round trip of the last pings, in seconds; null before the first.
        latency_p99: The 99th percentile of these round trips, in seconds; null before the first.
        jitter: The mean difference between two successive round trips, in seconds; null before the
            second.
        loss: The share of the last pings that were lost, 0 to 1; null before the first.
        mtu: The bytes of a message that fit in one packet.
        proto_overhead: The bytes of a packet on the wire in addition to these, 0 while not known.
        priority: The priority, 0 to 255. The passive policy uses the link with the highest.
        ping_interval: Seconds between pings.
        pong_timeout: Seconds without a pong after which the link is down.
        latency_samples: The number of round trips that ``latency`` is calculated from.
        pong_count: The link comes up with the pong after this many.
        high_priority: True if the packets of the link are marked with a DSCP.
        up_count: The number of times the link went up.
        down_count: The number of times the link went down.
        tx_data_packets: Data packets sent.
        rx_data_packets: Data packets received.
        tx_data_bytes: Bytes of the data packets sent.
        rx_data_bytes: Bytes of the data packets received.
        tx_total_packets: Packets of all kinds sent.
        rx_total_packets: Packets of all kinds received.
        tx_total_bytes: Bytes of all packets sent.
        rx_total_bytes: Bytes of all packets received.
        tx_total_errors: Packets that the system refused to send.
    """

    link_id: int
    at: float
    transport: str
    src: str
    dst: str | None
    dynamic: bool
    enabled: bool
    connected: bool
    carries_data: bool
    in_use: bool
    reason: str
    since: float
    latency: float
    latency_p50: float | None
    latency_p99: float | None
    jitter: float | None
    loss: float | None
    mtu: int
    proto_overhead: int
    priority: int
    ping_interval: float
    pong_timeout: float
    latency_samples: int
    pong_count: int
    high_priority: bool
    up_count: int
    down_count: int
    tx_data_packets: int
    rx_data_packets: int
    tx_data_bytes: int
    rx_data_bytes: int
    tx_total_packets: int
    rx_total_packets: int
    tx_total_bytes: int
    rx_total_bytes: int
    tx_total_errors: int


@attrs.frozen(kw_only=True)
class StreamReport:
    """The streams with a host, over one channel.

    The counters start at zero when either side has restarted.

    Attributes:
        channel: The channel, 0 to 31.
        open: Streams, requests and messages that are open or under way.
        round_trip: The smoothed round trip in seconds, null before the first measurement.
        window: The congestion window: the most bytes that may be in flight.
        in_flight: Bytes in flight: sent and neither acknowledged nor lost.
        rate: The rate that the congestion window allows at this round trip, in bytes per second;
            null before the first measurement.
        arrived_packets: Packets that the host has acknowledged.
        lost_packets: Packets that were declared lost; their contents were retransmitted.
        spurious_losses: Packets that were declared lost but arrived later.
    """

    channel: int
    open: int
    round_trip: float | None
    window: int
    in_flight: int
    rate: float | None
    arrived_packets: int
    lost_packets: int
    spurious_losses: int


@attrs.frozen(kw_only=True)
class HostReport:
    """The state of a host, with its links.

    Attributes:
        host_id: The id of the host.
        name: The name of the host.
        policy: How the links share the messages: ``passive``, ``active`` or ``round-robin``.
        reachable: True if a link to the host can carry data.
        links: The links to the host, in the order of their ids.
        streams: The streams with the host, one record for each channel that has streams.
        confirmed: For each crypto slot of model ``aead``, by its number: true if the host has
            answered with that configuration. Empty for the handle's own host.
    """

    host_id: int
    name: str
    policy: str
    reachable: bool
    links: tuple[LinkReport, ...]
    streams: tuple[StreamReport, ...] = ()
    confirmed: Mapping[str, bool] = attrs.field(factory=dict[str, bool])


@attrs.frozen(kw_only=True)
class KeyChangeReport:
    """A change of the cluster's key that has begun and has not ended.

    Attributes:
        change_id: The id of the change, the same on all hosts.
        began_by: The id of the host that began the change.
        phase: The last phase that this host has done: ``set`` if it accepts the new key, ``use`` if
            it seals with it and accepts the old one.
        cipher: The cipher that the new key is used with.
        hash: The hash that the new key is used with.
        model: The model that the new key is used with.
    """

    change_id: str
    began_by: int
    phase: str
    cipher: str
    hash: str
    model: str


@attrs.frozen(kw_only=True)
class HandleReport:
    """The state of a handle, with its hosts.

    Attributes:
        host_id: The id of the handle's own host.
        at: The time of this report, on the server's clock, in seconds.
        time: The time of this report, in seconds since 1970.
        data_mtu: The largest message that fits in one packet on every link in use, in bytes.
        forwarding: True if messages are sent and received.
        access_lists: True if access lists are enforced.
        allow_clear_traffic: True if packets without envelope are accepted now.
        hedge: True if messages are also sent over a second link while the first is in doubt.
        dscp: The DSCP of packets of high-priority links.
        mtu: The configured interface MTU in bytes, null for path MTU discovery.
        pmtud_interval: Seconds between path MTU searches.
        reconnect_interval: Seconds between two attempts to connect, for links over SCTP.
        drops: Packets or messages dropped, by cause; causes with none are left out.
        key_change: The change of the key in progress, in a program that serves ``rekey`` with
            ``knet_trio.rekeying``; null for none.
        encrypted: True if packets are sent encrypted.
        hosts: The hosts, in the order of their ids.
    """

    host_id: int
    at: float
    time: float
    data_mtu: int
    forwarding: bool
    access_lists: bool
    allow_clear_traffic: bool
    hedge: bool
    dscp: int
    mtu: int | None
    pmtud_interval: float
    reconnect_interval: float
    drops: Mapping[str, int]
    key_change: KeyChangeReport | None = None
    # A server of an earlier release does not report it.
    encrypted: bool = True
    hosts: tuple[HostReport, ...]


@attrs.frozen(kw_only=True)
class LinkMetrics:
    """The metrics of a link.

    Attributes:
        link_id: The id of the link, 0 to 7.
        enabled: True if the link may be used.
        connected: True if the link is up.
        mtu: The bytes of a message that fit in one packet.
        loss: The share of the last pings that were lost, 0 to 1; null before the first.
        stats: The counters of the link.
    """

    link_id: int
    enabled: bool
    connected: bool
    mtu: int
    loss: float | None
    stats: LinkStatistics


@attrs.frozen(kw_only=True)
class HostMetrics:
    """The metrics of a host, with its links.

    Attributes:
        host_id: The id of the host.
        name: The name of the host.
        reachable: True if a link to the host can carry data.
        links: The links to the host, in the order of their ids.
        streams: The streams with the host, one record for each channel that has streams.
        confirmed: For each crypto slot of model ``aead``, by its number: true if the host has
            answered with that configuration. Empty for the handle's own host.
    """

    host_id: int
    name: str
    reachable: bool
    links: tuple[LinkMetrics, ...]
    streams: tuple[StreamReport, ...] = ()
    confirmed: Mapping[str, bool] = attrs.field(factory=dict[str, bool])


@attrs.frozen(kw_only=True)
class HandleMetrics:
    """The metrics of a handle, with its hosts.

    Attributes:
        host_id: The id of the handle's own host.
        time: The time of this report, in seconds since 1970.
        latency_bounds: The upper bounds of ``latency_buckets`` in the links' counters: the longest
            round trip of each bucket but the last, in seconds.
        drops: Packets or messages dropped, by cause, including causes with none.
        channel_queues: Messages waiting in each open channel, by its number.
        hosts: The hosts, in the order of their ids.
    """

    host_id: int
    time: float
    latency_bounds: tuple[float, ...]
    drops: Mapping[str, int]
    channel_queues: Mapping[str, int]
    hosts: tuple[HostMetrics, ...]


@attrs.frozen(kw_only=True)
class LinkChange:
    """A change of a link to up or down.

    Attributes:
        at: The time of the change, on the server's clock, in seconds.
        time: The time of the change, in seconds since 1970.
        connected: True if the link went up.
        reason: Why the link went up or down, a text for people.
    """

    at: float
    time: float
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class LinkHistory:
    """The latest changes of a link to up or down.

    Attributes:
        changes: Up to 32 changes, the latest last.
    """

    changes: tuple[LinkChange, ...]


@attrs.frozen(kw_only=True)
class Explanation:
    """An explanation of the state of a handle, a host or a link.

    Attributes:
        text: One or more lines for people.
    """

    text: str


@attrs.frozen(kw_only=True)
class LinkPing:
    """The results of one or more pings over a link.

    Attributes:
        link_id: The id of the link.
        sent: The number of pings sent: none over a link that is down.
        answered: The number of pings answered in time.
        seconds: The mean round trip in seconds, null if no ping was answered.
        slowest: The longest round trip in seconds, null if no ping was answered.
        connected: True if the link is up.
        in_use: True if messages are sent over the link now.
        reason: Why the link is up or down, a text for people.
    """

    link_id: int
    sent: int
    answered: int
    seconds: float | None
    slowest: float | None
    connected: bool
    in_use: bool
    reason: str


@attrs.frozen(kw_only=True)
class HostPing:
    """The results of pings over the links of a host.

    Attributes:
        host_id: The id of the host.
        name: The name of the host.
        links: The results for each requested link, in the order of their ids.
    """

    host_id: int
    name: str
    links: tuple[LinkPing, ...]


@attrs.frozen(kw_only=True)
class PathReport:
    """The result of a search for the path MTU of a link.

    Attributes:
        mtu: The bytes of a message that fit in one packet; 0 if the link is down or carries no
            data.
    """

    mtu: int


@attrs.frozen(kw_only=True)
class LoopReport:
    """How late the event loop of the server ran a task that sleeps for short intervals.

    Attributes:
        seconds: How long the loop was observed, in seconds.
        looks: The number of wake-ups observed.
        late: The sum of all delays longer than 0.02 seconds, in seconds.
        longest: The longest delay, in seconds.
    """

    seconds: float
    looks: int
    late: float
    longest: float


@attrs.frozen(kw_only=True)
class LinkEvent:
    """A link went up or down.

    Attributes:
        time: The time of the event, in seconds since 1970.
        host_id: The id of the host.
        host_name: The name of the host; the id, if the host was removed.
        link_id: The id of the link.
        connected: True if the link is up now.
        reason: Why the link is up or down, a text for people.
    """

    time: float
    host_id: int
    host_name: str
    link_id: int
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class HostEvent:
    """A host became reachable or unreachable.

    Attributes:
        time: The time of the event, in seconds since 1970.
        host_id: The id of the host.
        host_name: The name of the host; the id, if the host was removed.
        reachable: True if a link to the host can carry data now.
        reason: Why the host is reachable or not, a text for people; empty if that has changed again
            in the meantime.
    """

    time: float
    host_id: int
    host_name: str
    reachable: bool
    reason: str


@attrs.frozen(kw_only=True)
class DataMtuEvent:
    """The data MTU changed.

    Attributes:
        time: The time of the event, in seconds since 1970.
        data_mtu: The largest message that fits in one packet on every link in use, in bytes.
    """

    time: float
    data_mtu: int


@attrs.frozen(kw_only=True)
class ChannelEvent:
    """The data fd of a channel failed or reached its end.

    Attributes:
        time: The time of the event, in seconds since 1970.
        channel: The channel, 0 to 31.
        direction: ``tx`` for reading from the descriptor, ``rx`` for writing to it.
        reason: The error of the system, a text for people.
    """

    time: float
    channel: int
    direction: str
    reason: str


@attrs.frozen(kw_only=True)
class MissedEvents:
    """The reader was too slow: the oldest events were dropped before the next one.

    Attributes:
        time: The time of this notice, in seconds since 1970.
        count: The number of events dropped.
    """

    time: float
    count: int


ControlEvent = LinkEvent | HostEvent | DataMtuEvent | ChannelEvent | MissedEvents
"""An event that ``ControlClient.events`` returns."""

EVENT_TYPES: Mapping[str, type[ControlEvent]] = {
    "link": LinkEvent,
    "host": HostEvent,
    "data_mtu": DataMtuEvent,
    "channel": ChannelEvent,
    "missed": MissedEvents,
}
"""The records of events, by the value of their member ``event``."""
