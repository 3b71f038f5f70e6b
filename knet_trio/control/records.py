"""What goes over the control socket, as records. ``codec`` makes JSON of them, and them of JSON.

Statistics are those of the library, ``HandleStatistics`` and ``LinkStatistics``.
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
        host_id: The host that the handle is of.
        pid: The id of the server's process.
        methods: The methods that it answers.
    """

    knet_trio_control: int
    package: str
    host_id: int
    pid: int
    methods: tuple[str, ...]


@attrs.frozen(kw_only=True)
class LinkReport:
    """The state of a link. ``LinkStatus`` and ``LinkConfig`` say more of most fields.

    Attributes:
        link_id: The id of the link, 0 to 7.
        at: When this was read, on the clock of the server's program, in seconds.
        transport: The name of its transport: ``udp``, ``sctp`` or ``loopback``.
        src: The local address and port.
        dst: The address and port of the peer, null while a dynamic link has no peer.
        dynamic: Whether its destination is learnt.
        enabled: Whether it is in use.
        connected: Whether it is up.
        carries_data: Whether messages can go over it.
        in_use: Whether messages go over it now, by the host's policy; without a copy that is sent
            while there is doubt about another link.
        reason: Why it is up or down, in words.
        since: Since when that holds, on the same clock.
        latency: The average round trip in seconds, 0 before the first pong.
        latency_p50: The median of the last pings, in seconds.
        latency_p99: What 99 % of them did not exceed, in seconds.
        jitter: The mean difference between one and the next, in seconds.
        loss: The share of the last pings that was lost, 0 to 1.
        mtu: The user bytes that one packet carries.
        proto_overhead: The bytes around them on the wire, 0 while that is not known.
        priority: 0 to 255; the passive policy prefers the highest.
        ping_interval: Seconds between pings.
        pong_timeout: Seconds without a pong after which it is down.
        latency_samples: How many round trips ``latency`` is made of.
        pong_count: After how many pongs one more takes it up.
        high_priority: Whether its packets are marked for the network.
        up_count: How often it went up.
        down_count: How often it went down.
        tx_data_packets: Data packets sent.
        rx_data_packets: Data packets received.
        tx_data_bytes: Their bytes, sent.
        rx_data_bytes: Their bytes, received.
        tx_total_packets: Packets of all kinds sent.
        rx_total_packets: Packets of all kinds received.
        tx_total_bytes: Their bytes, sent.
        rx_total_bytes: Their bytes, received.
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

    The counters begin at zero when either side has started again.

    Attributes:
        channel: The channel, 0 to 31.
        open: How many streams, requests and messages are open or under way.
        round_trip: The smoothed round trip in seconds, null before the first.
        window: The congestion window: how many bytes may be on their way.
        in_flight: How many bytes are on their way.
        rate: The bytes a second that the window lets through at this round trip, null before the
            first.
        arrived_packets: How many packets the host has acknowledged.
        lost_packets: How many were taken for lost; what was in them was sent again.
        spurious_losses: How many of these arrived after all.
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
        host_id: Its id.
        name: Its name.
        policy: How its links share its messages: ``passive``, ``active`` or ``round-robin``.
        reachable: Whether a link to it can carry data.
        links: Its links, in the order of their ids.
        streams: The streams with it, for each channel that has some.
        confirmed: Whether it has answered with the crypto configuration in a slot, by the number
            of the slot; those of model ``aead`` alone, and none for this host itself.
    """

    host_id: int
    name: str
    policy: str
    reachable: bool
    links: tuple[LinkReport, ...]
    streams: tuple[StreamReport, ...] = ()
    confirmed: Mapping[str, bool] = attrs.field(factory=dict[str, bool])


@attrs.frozen(kw_only=True)
class HandleReport:
    """The state of a handle, with its hosts.

    Attributes:
        host_id: The id of the host that it is of.
        at: When this was read, on the clock of the server's program, in seconds.
        time: The same as a time of day, in seconds since 1970.
        data_mtu: The largest message that goes in one packet on every link in use, in bytes.
        forwarding: Whether messages are sent and received.
        access_lists: Whether access lists are heeded.
        allow_clear_traffic: Whether packets without envelope are accepted now.
        hedge: Whether a second link is used too while there is doubt about the first.
        dscp: What marks the packets of high-priority links.
        mtu: The interface MTU to go by, null for path MTU discovery.
        pmtud_interval: Seconds between path MTU searches.
        reconnect_interval: Seconds from one attempt to connect to the next, of links over SCTP.
        drops: How many packets or messages were dropped, by cause; causes without any are left out.
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
    hosts: tuple[HostReport, ...]


@attrs.frozen(kw_only=True)
class LinkMetrics:
    """What can be measured of a link.

    Attributes:
        link_id: The id of the link, 0 to 7.
        enabled: Whether it is in use.
        connected: Whether it is up.
        mtu: The user bytes that one packet carries.
        loss: The share of the last pings that was lost, 0 to 1.
        stats: Its counters.
    """

    link_id: int
    enabled: bool
    connected: bool
    mtu: int
    loss: float | None
    stats: LinkStatistics


@attrs.frozen(kw_only=True)
class HostMetrics:
    """What can be measured of a host, with its links.

    Attributes:
        host_id: Its id.
        name: Its name.
        reachable: Whether a link to it can carry data.
        links: Its links, in the order of their ids.
        streams: The streams with it, for each channel that has some.
        confirmed: Whether it has answered with the crypto configuration in a slot, by the number
            of the slot; those of model ``aead`` alone, and none for this host itself.
    """

    host_id: int
    name: str
    reachable: bool
    links: tuple[LinkMetrics, ...]
    streams: tuple[StreamReport, ...] = ()
    confirmed: Mapping[str, bool] = attrs.field(factory=dict[str, bool])


@attrs.frozen(kw_only=True)
class HandleMetrics:
    """What can be measured of a handle, with its hosts.

    Attributes:
        host_id: The id of the host that it is of.
        time: When this was read, in seconds since 1970.
        latency_bounds: What the numbers in ``latency_buckets`` of the links' counters are of: the
            longest round trip of each but the last, in seconds.
        drops: How many packets or messages were dropped, by cause, also those without any.
        channel_queues: How many messages wait in each open channel, by its number.
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
    """A time that a link went up or down.

    Attributes:
        at: When, on the clock of the server's program, in seconds.
        time: The same as a time of day, in seconds since 1970.
        connected: Whether it went up.
        reason: Why, in words.
    """

    at: float
    time: float
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class LinkHistory:
    """The last times that a link went up or down.

    Attributes:
        changes: Up to 32, the latest last.
    """

    changes: tuple[LinkChange, ...]


@attrs.frozen(kw_only=True)
class Explanation:
    """Why something is as it is.

    Attributes:
        text: Some lines.
    """

    text: str


@attrs.frozen(kw_only=True)
class LinkPing:
    """What became of a ping, or of several.

    Attributes:
        link_id: The link that it went over.
        sent: How many there were.
        answered: How many of them were answered in time.
        seconds: The round trip, of several the mean; null for none.
        slowest: The longest of them, null for none.
        connected: Whether the link is up.
        in_use: Whether messages go over it now.
        reason: Why it is up or down, in words.
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
    """What became of a ping over each link of a host.

    Attributes:
        host_id: The id of the host.
        name: Its name.
        links: The links that were asked for, in the order of their ids.
    """

    host_id: int
    name: str
    links: tuple[LinkPing, ...]


@attrs.frozen(kw_only=True)
class PathReport:
    """What a search has found of the path of a link.

    Attributes:
        mtu: The user bytes that one packet carries; 0 if the link is down, or carries no data.
    """

    mtu: int


@attrs.frozen(kw_only=True)
class LoopReport:
    """How late the event loop of the server's program came round, of the times that were looked at.

    Attributes:
        seconds: For how long that was.
        looks: How often it was to come round.
        late: How many seconds it was late, all times together that it was more than 0.02.
        longest: How many it was late at most.
    """

    seconds: float
    looks: int
    late: float
    longest: float


@attrs.frozen(kw_only=True)
class LinkEvent:
    """A link went up or down.

    Attributes:
        time: When the server heard of it, in seconds since 1970.
        host_id: The id of its host.
        host_name: The name of its host; the id, if it is not there any more.
        link_id: The id of the link.
        connected: Whether it is up now.
        reason: Why, in words.
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
        time: When the server heard of it, in seconds since 1970.
        host_id: The id of the host.
        host_name: Its name; the id, if it is not there any more.
        reachable: Whether a link to it can carry data now.
        reason: Why, in words; empty if that has changed again.
    """

    time: float
    host_id: int
    host_name: str
    reachable: bool
    reason: str


@attrs.frozen(kw_only=True)
class DataMtuEvent:
    """The largest message that goes in one packet has another size now.

    Attributes:
        time: When the server heard of it, in seconds since 1970.
        data_mtu: That size, in bytes.
    """

    time: float
    data_mtu: int


@attrs.frozen(kw_only=True)
class ChannelEvent:
    """The data fd of a channel failed, or came to its end.

    Attributes:
        time: When the server heard of it, in seconds since 1970.
        channel: The channel, 0 to 31.
        direction: ``tx`` for what is read from the descriptor, ``rx`` for what is written to it.
        reason: What the system said, in words.
    """

    time: float
    channel: int
    direction: str
    reason: str


@attrs.frozen(kw_only=True)
class MissedEvents:
    """The reader was too slow, and the oldest events before the next one are gone.

    Attributes:
        time: When it was told so, in seconds since 1970.
        count: How many.
    """

    time: float
    count: int


ControlEvent = LinkEvent | HostEvent | DataMtuEvent | ChannelEvent | MissedEvents
"""What ``ControlClient.events`` gives."""

EVENT_TYPES: Mapping[str, type[ControlEvent]] = {
    "link": LinkEvent,
    "host": HostEvent,
    "data_mtu": DataMtuEvent,
    "channel": ChannelEvent,
    "missed": MissedEvents,
}
"""The records of events by what their member ``event`` says."""
