"""Records of states and counters. Their fields have libknet's names where libknet has them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import attrs

from knet_trio._core.round_trips import BOUNDS
from knet_trio.errors import DropCause


@attrs.frozen
class HostStatus:
    """The state of a host. See knet_host_get_status(3).

    Attributes:
        reachable: True if a link to the host can carry data.
        remote: Always False: libknet reserves it.
        external: Always False: libknet reserves it.
    """

    reachable: bool
    remote: bool = False
    external: bool = False


class LinkCause(enum.StrEnum):
    """Why a link went up or down. ``LinkStatistics.transitions`` counts each cause.

    ``LinkStatus.reason`` is a longer text for people.
    """

    # It went up: the peer answers pings.
    ANSWERED = "answered"
    # It went up: the link of a host to itself is up while it is enabled.
    ENABLED = "enabled"

    # It went down: no pong came for too long.
    NO_PONG = "no_pong"
    # The network reported an error on the path, and the peer did not answer a ping either.
    UNREACHABLE = "unreachable"
    # This machine reports that the peer is unreachable, or refuses to send pings.
    REFUSED = "refused"
    # The connection to the peer is lost, with a transport that has connections.
    DISCONNECTED = "disconnected"
    DISABLED = "disabled"
    REMOVED = "removed"


@attrs.frozen
class OnwireVersions:
    """The versions of the wire protocol. See knet_handle_get_onwire_ver(3).

    Attributes:
        minimum: The oldest version that the handle supports.
        maximum: The newest version that the handle supports.
        in_use: The version in use.
    """

    minimum: int
    maximum: int
    in_use: int


@attrs.frozen(kw_only=True)
class LinkStatistics:
    """The counters of one link. See knet_link_get_status(3).

    Bytes sent are those that the transport carries: with knet's headers and, if packets are
    encrypted, with the envelope, but without the headers of UDP, SCTP and IP. Bytes received are
    those of packets after decryption, with knet's headers. Packets that are refused on arrival,
    because they are malformed, encrypted with another key or not from the peer of this link, are
    counted only in ``HandleStatistics.drops``.

    Attributes:
        tx_data_packets: Data packets sent, one for each fragment and each copy, including those
            that the system refused.
        rx_data_packets: Data packets received, including copies that came over another link before.
        tx_data_bytes: Bytes of the data packets sent: 14 of header each, the message (compressed if
            that made it smaller) and, if encrypted, the envelope.
        rx_data_bytes: Bytes of the data packets received, after decryption and before
            decompression, with 14 of header each.
        tx_ping_packets: Pings sent, including those that the system refused.
        rx_ping_packets: Pings received.
        tx_ping_bytes: Bytes of the pings sent: 26 each, and the envelope.
        rx_ping_bytes: Bytes of the pings received, after decryption: 26 each.
        tx_pong_packets: Pongs sent, including those that the system refused.
        rx_pong_packets: Pongs received, including those that came too late to count.
        tx_pong_bytes: Bytes of the pongs sent: 26 each, and the envelope.
        rx_pong_bytes: Bytes of the pongs received, after decryption: 26 each.
        tx_pmtu_packets: Path MTU probes sent. Replies to the peer's probes are not counted, nor
            are probes that the system refused for their size.
        rx_pmtu_packets: Path MTU probes received, and replies to the probes sent.
        tx_pmtu_bytes: Bytes of the path MTU probes sent, with their envelopes.
        rx_pmtu_bytes: Bytes of the probes and replies received, after decryption; a reply has 9.
        tx_total_packets: Packets sent: data, pings, pongs and probes.
        rx_total_packets: Packets received: data, pings, pongs, probes and replies.
        tx_total_bytes: Bytes of all these packets sent.
        rx_total_bytes: Bytes of all these packets received.
        tx_total_errors: Packets that the system refused to send.
        tx_total_retries: Packets for which the socket had no room.
        tx_pmtu_errors: Path MTU probes that the system refused to send, but not for their size.
        tx_pmtu_retries: Path MTU probes for which the socket had no room; they are sent later.
        tx_ping_errors: Pings that the system refused to send.
        tx_ping_retries: Pings for which the socket had no room; they are lost.
        tx_pong_errors: Pongs that the system refused to send.
        tx_pong_retries: Pongs for which the socket had no room; they are lost.
        tx_data_errors: Data packets that the system refused to send.
        tx_data_retries: Data packets for which the socket had no room; they wait, and each attempt
            without room counts.
        latency_min: The shortest round trip of a ping in seconds, None without a sample.
        latency_max: The longest round trip of a ping in seconds, None without a sample.
        latency_ave: The moving average of the round trips in seconds, None without a sample.
        latency_samples: The number of round trips in ``latency_ave``; see ``set_ping_timers``.
        latency_total: The sum of all round trips in seconds, of pings that were answered within
            ``pong_timeout``.
        latency_buckets: The number of these round trips in each bucket: at most that of
            ``LATENCY_BOUNDS`` and above the bound before; the last bucket has those above all.
        up_count: The number of times the link went up.
        down_count: The number of times the link went down after it had been up.
        transitions: The number of times it went up or down, for every cause.
        last_up_times: When it went up, the last 16 times (``time.time()``), oldest first.
        last_down_times: When it went down, the last 16 times (``time.time()``), oldest first.
    """

    LATENCY_BOUNDS: ClassVar[tuple[float, ...]] = BOUNDS
    """The upper bounds of ``latency_buckets`` except the last, in seconds."""

    tx_data_packets: int
    rx_data_packets: int
    tx_data_bytes: int
    rx_data_bytes: int
    tx_ping_packets: int
    rx_ping_packets: int
    tx_ping_bytes: int
    rx_ping_bytes: int
    tx_pong_packets: int
    rx_pong_packets: int
    tx_pong_bytes: int
    rx_pong_bytes: int
    tx_pmtu_packets: int
    rx_pmtu_packets: int
    tx_pmtu_bytes: int
    rx_pmtu_bytes: int
    tx_total_packets: int
    rx_total_packets: int
    tx_total_bytes: int
    rx_total_bytes: int
    tx_total_errors: int
    tx_total_retries: int
    tx_pmtu_errors: int
    tx_pmtu_retries: int
    tx_ping_errors: int
    tx_ping_retries: int
    tx_pong_errors: int
    tx_pong_retries: int
    tx_data_errors: int
    tx_data_retries: int
    latency_min: float | None
    latency_max: float | None
    latency_ave: float | None
    latency_samples: int
    latency_total: float
    latency_buckets: tuple[int, ...]
    up_count: int
    down_count: int
    transitions: Mapping[LinkCause, int]
    last_up_times: tuple[float, ...]
    last_down_times: tuple[float, ...]


class LinkTransition(NamedTuple):
    """One time that a link went up or down.

    Attributes:
        at: The time, in seconds on Trio's clock.
        connected: True if the link went up, False if down.
        reason: Why, a text for people.
    """

    at: float
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class LinkStatus:
    """The state of a link. See knet_link_get_status(3).

    Times and durations are in seconds. ``loss``, ``jitter`` and the percentiles are of the last 100
    pings that were answered, or were not answered within ``pong_timeout``, since the link was
    enabled or its statistics were cleared.

    Attributes:
        src_ipaddr: The local address.
        src_port: The local port.
        dst_ipaddr: The address of the peer, None while a dynamic link has no peer.
        dst_port: The port of the peer, None while a dynamic link has no peer.
        enabled: True if the link may be used.
        connected: True if the link is up.
        dynconnected: True if the link is dynamic and has a peer.
        latency: The average round trip, 0.0 before the first pong.
        pong_last: The time of the last pong, on Trio's clock; None before the first.
        mtu: The bytes of a message that fit in one packet. Before the path MTU is known, the
            minimum that every path carries; 0 if the path does not carry that.
        proto_overhead: The bytes of a packet on the wire in addition to these; 0 before the path
            MTU is discovered, and with a fixed MTU.
        reason: Why the link is up or down, a text for people, which may change between releases.
        since: The time since when ``reason`` holds, on Trio's clock. ``Link.history`` has the times
            when the link went up or down.
        carries_data: True if messages can be sent over the link: it is up, and its path carries
            packets of the smallest MTU.
        loss: The share of pings that were lost, 0 to 1; None before the first.
        jitter: The mean difference between two successive round trips; None before the second.
        latency_p50: The median round trip; None before the first pong.
        latency_p99: The 99th percentile of the round trips; None before the first pong.
        stats: The counters.
    """

    src_ipaddr: str
    src_port: int
    dst_ipaddr: str | None
    dst_port: int | None
    enabled: bool
    connected: bool
    dynconnected: bool
    latency: float
    pong_last: float | None
    mtu: int
    proto_overhead: int
    reason: str
    since: float
    carries_data: bool
    loss: float | None
    jitter: float | None
    latency_p50: float | None
    latency_p99: float | None
    stats: LinkStatistics


@attrs.frozen(kw_only=True)
class HandleStatistics:
    """The counters of a handle. See knet_handle_get_stats(3).

    Compression is counted in messages, encryption in packets. A message to several hosts, or over
    several links, is compressed and encrypted once, and counts once.

    Attributes:
        tx_uncompressed_packets: Messages sent uncompressed while compression was on: not longer
            than the threshold, or not made smaller. Not counted without compression.
        tx_compressed_packets: Messages passed to the compressor, including those that it did not
            make smaller.
        tx_compressed_original_bytes: Bytes of these messages before compression, without headers.
        tx_compressed_size_bytes: Bytes of these messages after compression, including results that
            were not sent because they were not smaller.
        tx_compress_time_ave: Mean time to compress a message in seconds, None without a sample.
        tx_compress_time_min: Shortest time to compress a message in seconds, None without a sample.
        tx_compress_time_max: Longest time to compress a message in seconds, None without a sample.
        rx_compressed_packets: Compressed messages received that could be decompressed.
        rx_compressed_original_bytes: Bytes of these messages after decompression, without headers.
        rx_compressed_size_bytes: Bytes of these messages before decompression, without headers.
        rx_compress_time_ave: Mean time to decompress a message in seconds, None without a sample.
        rx_compress_time_min: Shortest time to decompress a message in seconds, None without a
            sample.
        rx_compress_time_max: Longest time to decompress a message in seconds, None without a
            sample.
        tx_crypt_packets: Packets encrypted, of every kind: data, pings, pongs, path MTU probes and
            replies.
        tx_crypt_byte_overhead: Bytes that encryption added to data packets.
        tx_crypt_time_ave: Mean time to encrypt a data packet in seconds, None without a sample.
        tx_crypt_time_min: Shortest time to encrypt a data packet in seconds, None without a sample.
        tx_crypt_time_max: Longest time to encrypt a data packet in seconds, None without a sample.
        rx_crypt_packets: Data packets decrypted, including copies that came over another link.
            Packets of other kinds, and failures, are not counted.
        rx_crypt_time_ave: Mean time to decrypt a data packet in seconds, None without a sample.
        rx_crypt_time_min: Shortest time to decrypt a data packet in seconds, None without a sample.
        rx_crypt_time_max: Longest time to decrypt a data packet in seconds, None without a sample.
        tx_failed_to_compress: Messages sent uncompressed because the compressor failed.
        tx_unable_to_compress: Messages sent uncompressed because the compressor did not make them
            smaller.
        rx_failed_to_decompress: Messages dropped because they could not be decompressed.
        drops: The number of packets or messages dropped, for every cause.
    """

    tx_uncompressed_packets: int
    tx_compressed_packets: int
    tx_compressed_original_bytes: int
    tx_compressed_size_bytes: int
    tx_compress_time_ave: float | None
    tx_compress_time_min: float | None
    tx_compress_time_max: float | None
    rx_compressed_packets: int
    rx_compressed_original_bytes: int
    rx_compressed_size_bytes: int
    rx_compress_time_ave: float | None
    rx_compress_time_min: float | None
    rx_compress_time_max: float | None
    tx_crypt_packets: int
    tx_crypt_byte_overhead: int
    tx_crypt_time_ave: float | None
    tx_crypt_time_min: float | None
    tx_crypt_time_max: float | None
    rx_crypt_packets: int
    rx_crypt_time_ave: float | None
    rx_crypt_time_min: float | None
    rx_crypt_time_max: float | None
    tx_failed_to_compress: int
    tx_unable_to_compress: int
    rx_failed_to_decompress: int
    drops: Mapping[DropCause, int]


# Returned by ``Handle.diagnose`` and ``Link.diagnose``.


@attrs.frozen(kw_only=True)
class DropDetail:
    """Packets or messages that were dropped for one cause.

    Attributes:
        count: Their number since the statistics were cleared.
        at: The time of the last of them, on Trio's clock; None if it is not recorded.
        source: The address and port that the last one came from; None for messages sent here.
        text: What was wrong with the last one, a text for people; empty if it is not recorded.
    """

    count: int
    at: float | None
    source: str | None
    text: str


@attrs.frozen(kw_only=True)
class LinkTrouble:
    """The last error that the system reported for packets that a link sent.

    Attributes:
        at: The time, on Trio's clock.
        errno: The system's error number, such as ``errno.ECONNREFUSED``.
        local: True if this machine reported it, False if the network did.
        text: The error as text.
    """

    at: float
    errno: int
    local: bool
    text: str


@attrs.frozen(kw_only=True)
class CryptoFault:
    """Why received packets cannot be decrypted, according to the last of them.

    Attributes:
        at: The time when that packet was received, on Trio's clock.
        source: The address and port that it came from.
        differs: ``key`` if another key encrypted it; ``cipher`` or ``hash`` if a key of this handle
            did; ``clear`` if it is not encrypted; ``sealed`` if this handle has no key.
        cipher: The cipher with which a key of this handle decrypts it, None if none does.
        hash: The hash with which a key of this handle authenticates it, None if none does.
        datagram: The packet as it came, at most 256 bytes, in hexadecimal; empty if its hash was
            right.
        other_model: Whether it is in an envelope of model ``aead`` and this handle has none of
            that, or the other way round.
    """

    at: float
    source: str
    differs: str
    cipher: str | None
    hash: str | None
    datagram: str
    other_model: bool = False


@attrs.frozen(kw_only=True)
class LinkDiagnosis:
    """What may be wrong with a link, in addition to its ``LinkStatus``.

    Times and durations are in seconds.

    Attributes:
        at: The time of this diagnosis, on Trio's clock.
        counted: The number of pongs in a row since the link went down.
        pong_last: The time of the last pong that counted, on Trio's clock; None before the first.
        ping_last: The time of the peer's last ping from the address of the link, on Trio's clock;
            None before the first.
        heard_from: The address and port of the last ping of the peer from another address, since
            the link went up or a ping came from its own address; None without one.
        heard_at: The time of that ping, on Trio's clock; None without one.
        challenged: The address and port where the peer of a dynamic link may be, which was asked
            and has not answered; None without one.
        connection_fault: Why there is no connection to the peer, a text for people, with a
            transport that needs one; None while connected, for a dynamic link without a peer, and
            with UDP.
        peer_connected: True if the peer has connected to this host, with a transport that needs a
            connection; the peer of a static link answers over it, unless its own end is dynamic.
            None for a dynamic link without a peer, and with UDP.
        late_pongs: The number of pongs that came after ``pong_timeout``.
        late_pong: The round trip of the last late pong, None before the first.
        late_at: The time of the last late pong, on Trio's clock; None before the first.
        searching: True while the path MTU is being discovered.
        path_mtu: The largest packet that the path has carried, in bytes on the wire; None before a
            discovery has ended.
        lost_size: The smallest packet that this machine sends and the path does not carry, in bytes
            on the wire; None if the discovery has found none.
        told_mtu: The largest packet of the path according to the network, in bytes on the wire;
            None if the network reported nothing in the discovery.
        small_buffers: What is wrong with the buffers of its socket and what helps, a text for
            people; None if the system granted the requested sizes.
        overflows: The number of packets that the system dropped because the receive buffer of a
            socket of the link was full. Links may share sockets.
        trouble: The last error for packets that it sent, None before the first.
        drops: Packets and messages dropped on the link, by cause, without causes that did not
            occur.
        crypto_fault: Why packets from the address of the link cannot be decrypted, None if they
            can.
    """

    at: float
    counted: int
    pong_last: float | None
    ping_last: float | None
    heard_from: str | None
    heard_at: float | None
    challenged: str | None
    connection_fault: str | None
    peer_connected: bool | None
    late_pongs: int
    late_pong: float | None
    late_at: float | None
    searching: bool
    path_mtu: int | None
    lost_size: int | None
    told_mtu: int | None
    small_buffers: str | None
    overflows: int
    trouble: LinkTrouble | None
    drops: Mapping[DropCause, DropDetail]
    crypto_fault: CryptoFault | None


@attrs.frozen(kw_only=True)
class ClosedChannel:
    """Messages received for a channel that is not open.

    Attributes:
        channel: The number of the channel.
        messages: The number of messages lost.
        host_id: The id of the host that sent the last of them.
        at: The time of the last of them, on Trio's clock.
    """

    channel: int
    messages: int
    host_id: int
    at: float


@attrs.frozen(kw_only=True)
class HandleDiagnosis:
    """What may be wrong with a handle, in addition to its ``HandleStatistics``.

    Times and durations are in seconds.

    Attributes:
        at: The time of this diagnosis, on Trio's clock.
        forwarding: True if messages are sent and received.
        encrypted: True if packets are sent encrypted.
        drops: Packets and messages dropped that belong to no link, by cause, without causes that
            did not occur.
        crypto_fault: Why packets from addresses without a link cannot be decrypted, None if they
            can.
        closed_channels: The channels that are not open and for which messages were received.
        stalls: The number of times the event loop ran the heartbeat more than 0.05 s late.
        stalled: The sum of these delays.
        longest_stall: The longest of these delays.
        clock_steps: The number of times the time of day was set: it moved on by 0.1 s more or less
            than the time that passed.
        clock_step: By how much it was set the last time; 0.0 before the first.
        clock_step_at: The time when that was noticed, on Trio's clock; None before the first.
        cpu_used: The CPU time of the thread; None if the system does not report it.
        cpu_awaited: The time in which the thread was runnable and had no CPU; None if the system
            does not report it.
    """

    at: float
    forwarding: bool
    encrypted: bool
    drops: Mapping[DropCause, DropDetail]
    crypto_fault: CryptoFault | None
    closed_channels: tuple[ClosedChannel, ...]
    stalls: int
    stalled: float
    longest_stall: float
    clock_steps: int
    clock_step: float
    clock_step_at: float | None
    cpu_used: float | None
    cpu_awaited: float | None
