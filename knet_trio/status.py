"""Frozen records of states and counters. Their fields have libknet's names."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import attrs

from knet_trio._core.round_trips import BOUNDS
from knet_trio.errors import DropCause


@attrs.frozen
class HostStatus:
    """Whether a host can be reached. See knet_host_get_status(3).

    Attributes:
        reachable: Whether a link to it can carry data.
        remote: Always False: libknet has it for what it does not do yet.
        external: Always False likewise.
    """

    reachable: bool
    remote: bool = False
    external: bool = False


class LinkCause(enum.StrEnum):
    """Why a link went up or down, for programs. ``LinkStatistics.transitions`` counts each.

    ``LinkStatus.reason`` says the same in words, and more of it.
    """

    # It went up: the peer answers pings.
    ANSWERED = "answered"
    # It went up: the link of a host to itself is up while it is enabled.
    ENABLED = "enabled"

    # It went down: no pong came for too long.
    NO_PONG = "no_pong"
    # An error was reported of the way there, and the peer did not answer a ping either.
    UNREACHABLE = "unreachable"
    # This machine itself says that the peer cannot be reached, or refused to send pings.
    REFUSED = "refused"
    # The connection to the peer is lost, with a transport that has connections.
    DISCONNECTED = "disconnected"
    DISABLED = "disabled"
    REMOVED = "removed"


@attrs.frozen
class OnwireVersions:
    """The versions of the wire protocol. See knet_handle_get_onwire_ver(3).

    Attributes:
        minimum: The oldest version that the handle can speak.
        maximum: The newest one.
        in_use: The one that it speaks.
    """

    minimum: int
    maximum: int
    in_use: int


@attrs.frozen(kw_only=True)
class LinkStatistics:
    """The counters of one link. See knet_link_get_status(3).

    Sent bytes are those that the transport carries: with knet's headers and, if the traffic is
    encrypted, with salt, padding and hash, but without the headers of UDP, SCTP and IP. Received
    bytes are those of the packets that come out of decryption, with knet's headers. What is refused
    on arrival, since it is damaged, sealed with another key or not from the peer of this link, is
    only counted in ``HandleStatistics.drops``.

    Attributes:
        tx_data_packets: Data packets sent, one for each fragment and each copy; with those that the
            system refused.
        rx_data_packets: Data packets received, also copies of what came over another link before.
        tx_data_bytes: Bytes of the data packets sent: 14 of header each, the message (compressed
            where that made it smaller) and, if encrypted, the envelope.
        rx_data_bytes: Bytes of the data packets received, after decryption and before
            decompression, with 14 of header each.
        tx_ping_packets: Pings sent, with those that the system refused.
        rx_ping_packets: Pings received.
        tx_ping_bytes: Bytes of the pings sent: 26 each, and the envelope.
        rx_ping_bytes: Bytes of the pings received, after decryption: 26 each.
        tx_pong_packets: Answers to pings sent, with those that the system refused.
        rx_pong_packets: Answers to pings received, also those that came too late to count.
        tx_pong_bytes: Bytes of the answers to pings sent: 26 each, and the envelope.
        rx_pong_bytes: Bytes of the answers to pings received, after decryption: 26 each.
        tx_pmtu_packets: Path MTU probes sent. Neither answers to probes of the peer are counted
            nor probes that the system refused for their size.
        rx_pmtu_packets: Path MTU probes received, and answers to the probes sent.
        tx_pmtu_bytes: Bytes of the path MTU probes sent, with their envelopes.
        rx_pmtu_bytes: Bytes of the probes and answers received, after decryption; an answer has 9.
        tx_total_packets: Packets sent: data, pings, pongs and probes.
        rx_total_packets: Packets received: data, pings, pongs, probes and answers to probes.
        tx_total_bytes: Bytes of all these packets sent.
        rx_total_bytes: Bytes of all these packets received.
        tx_total_errors: Packets that the system refused to send.
        tx_total_retries: Packets that the socket had no room for.
        tx_pmtu_errors: Path MTU probes that the system refused to send, but not for their size.
        tx_pmtu_retries: Path MTU probes that the socket had no room for; they are sent again later.
        tx_ping_errors: Pings that the system refused to send.
        tx_ping_retries: Pings that the socket had no room for; they are lost.
        tx_pong_errors: Answers to pings that the system refused to send.
        tx_pong_retries: Answers to pings that the socket had no room for; they are lost.
        tx_data_errors: Data packets that the system refused to send.
        tx_data_retries: Data packets that the socket had no room for; they wait, and each try that
            finds no room counts.
        latency_min: The shortest round trip of a ping in seconds, None without a sample.
        latency_max: The longest round trip of a ping in seconds, None without a sample.
        latency_ave: The moving average of the round trips in seconds, None without a sample.
        latency_samples: How many round trips ``latency_ave`` is of; see ``set_ping_timers``.
        latency_total: The sum of all round trips in seconds; only of pings that were answered
            within ``pong_timeout``.
        latency_buckets: How many of these took no longer than each of ``LATENCY_BOUNDS`` and
            longer than the one before; the last number is of those that took longer than all.
        up_count: How often the link went up.
        down_count: How often the link went down after it had been up.
        transitions: How often it went up or down, for each cause; 0 where it did not.
        last_up_times: When it last went up, up to 16 times of day (``time.time()``), oldest first.
        last_down_times: When it last went down, up to 16 times of day, oldest first.
    """

    LATENCY_BOUNDS: ClassVar[tuple[float, ...]] = BOUNDS
    """The longest round trip of each of ``latency_buckets`` but the last, in seconds."""

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
    """A time that a link went up or down.

    Attributes:
        at: When, in seconds on Trio's clock.
        connected: Whether it went up.
        reason: Why, in words.
    """

    at: float
    connected: bool
    reason: str


@attrs.frozen(kw_only=True)
class LinkStatus:
    """The state of a link. See knet_link_get_status(3).

    Times are seconds. The figures of the last pings are of the last 100 that were answered, or were
    not answered within ``pong_timeout``, since the link was enabled or its statistics were cleared.

    Attributes:
        src_ipaddr: The local address.
        src_port: Its port.
        dst_ipaddr: The address of the peer, None while a dynamic link has no peer.
        dst_port: Its port, None likewise.
        enabled: Whether the link is in use.
        connected: Whether it is up.
        dynconnected: Whether it is dynamic and has a peer.
        latency: The average round trip, 0.0 before the first pong.
        pong_last: When the last pong came, on Trio's clock, None before the first.
        mtu: The user bytes that one packet carries: what every path carries until the path MTU is
            known, 0 if the path does not even carry that.
        proto_overhead: The bytes around them on the wire, 0 before a search has found the path MTU;
            a fixed MTU is not searched for.
        reason: Why it is up or down, in words for people, which other releases may put otherwise.
        since: Since when ``reason`` holds, on Trio's clock; ``Link.history`` has when the link
            went up or down.
        carries_data: Whether messages can go over it: it is up, and its path takes packets of the
            smallest MTU.
        loss: The share of the last pings that was lost, 0 to 1; None before there was one.
        jitter: The mean difference between a round trip and the next, of the last pings; None
            before there were two.
        latency_p50: The round trip that half of the last pings did not exceed; None before one was
            answered.
        latency_p99: The round trip that 99 % of them did not exceed; None likewise.
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

    Compression is counted by messages, and encryption by packets on the wire. A message to several
    hosts, or over several links, counts once when it is compressed and encrypted.

    Attributes:
        tx_uncompressed_packets: Messages sent as they were while compression was on: not longer
            than its threshold, or not made smaller. Without compression none is counted.
        tx_compressed_packets: Messages that were handed to the compressor, also those that it did
            not make smaller.
        tx_compressed_original_bytes: Bytes of these messages before compression, without headers.
        tx_compressed_size_bytes: Bytes that the compressor made of them, also where these were not
            sent because they were no fewer.
        tx_compress_time_ave: Mean time to compress a message in seconds, None without a sample.
        tx_compress_time_min: Shortest time to compress a message in seconds, None without a sample.
        tx_compress_time_max: Longest time to compress a message in seconds, None without a sample.
        rx_compressed_packets: Messages received that were compressed, and could be decompressed.
        rx_compressed_original_bytes: Bytes of these messages after decompression, without headers.
        rx_compressed_size_bytes: Bytes of these messages before decompression, without headers.
        rx_compress_time_ave: Mean time to decompress a message in seconds, None without a sample.
        rx_compress_time_min: Shortest time to decompress a message in seconds, None without a
            sample.
        rx_compress_time_max: Longest time to decompress a message in seconds, None without a
            sample.
        tx_crypt_packets: Packets encrypted, of every kind: data, pings, pongs, path MTU probes and
            answers to them.
        tx_crypt_byte_overhead: Bytes that encryption added to data packets: salt, padding and hash.
        tx_crypt_time_ave: Mean time to encrypt a data packet in seconds, None without a sample.
        tx_crypt_time_min: Shortest time to encrypt a data packet in seconds, None without a sample.
        tx_crypt_time_max: Longest time to encrypt a data packet in seconds, None without a sample.
        rx_crypt_packets: Data packets decrypted, also copies of what came over another link; no
            packets of other kinds, and none that failed.
        rx_crypt_time_ave: Mean time to decrypt a data packet in seconds, None without a sample.
        rx_crypt_time_min: Shortest time to decrypt a data packet in seconds, None without a sample.
        rx_crypt_time_max: Longest time to decrypt a data packet in seconds, None without a sample.
        tx_failed_to_compress: Messages sent as they were because the compressor failed.
        tx_unable_to_compress: Messages sent as they were because the compressor did not make them
            smaller.
        rx_failed_to_decompress: Messages dropped because they could not be decompressed.
        drops: How many packets or messages were dropped, for each cause; 0 where there were none.
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


# What is behind a state. ``Handle.diagnose`` and ``Link.diagnose`` return these.


@attrs.frozen(kw_only=True)
class DropDetail:
    """Packets or messages that were dropped for one cause.

    Attributes:
        count: How many, since the statistics were cleared.
        at: When the last of them was, on Trio's clock; None if that is not kept.
        source: The address and port that it came from; None if it came from nowhere.
        text: What was wrong with it, in words; empty if that is not kept.
    """

    count: int
    at: float | None
    source: str | None
    text: str


@attrs.frozen(kw_only=True)
class LinkTrouble:
    """The last error that the system reported of what a link sent.

    Attributes:
        at: When, on Trio's clock.
        errno: The system's number, such as ``errno.ECONNREFUSED``.
        local: Whether this machine itself said so, and not the network.
        text: The same in words.
    """

    at: float
    errno: int
    local: bool
    text: str


@attrs.frozen(kw_only=True)
class CryptoFault:
    """Why packets that came in cannot be opened, as far as the last of them shows.

    Attributes:
        at: When it came, on Trio's clock.
        source: The address and port that it came from.
        differs: ``key``; ``cipher`` or ``hash`` if it was sealed with a key of this handle;
            ``clear`` if it was not sealed; ``sealed`` if this handle has no key.
        cipher: With which cipher a key of this handle opens it, None if with none.
        hash: With which hash, likewise.
        datagram: Its bytes as they came, at most 256, in hexadecimal digits; empty if its hash was
            right.
    """

    at: float
    source: str
    differs: str
    cipher: str | None
    hash: str | None
    datagram: str


@attrs.frozen(kw_only=True)
class LinkDiagnosis:
    """What may be wrong with a link, beside its ``LinkStatus``. Times are seconds.

    Attributes:
        at: When this was read, on Trio's clock.
        counted: How many pongs in a row have come since the link is down.
        pong_last: When the last pong came that counted, on Trio's clock; None before the first.
        ping_last: When the last ping of the peer came from where the link leads; None likewise.
        heard_from: The address and port of the last ping that says it is of the peer and came from
            elsewhere, since the link went up or a ping came from where it leads; None for none.
        heard_at: When that was, None likewise.
        challenged: Where the peer of a dynamic link may be, which was asked and has not answered;
            None for nowhere.
        connection_fault: Why there is no connection to the peer, in words, with a transport that
            needs one; None while there is one, for a dynamic link without a peer, and with UDP.
        peer_connected: Whether the peer has made a connection to this host, with a transport that
            needs one; the peer of a static link answers over that, unless its own end is dynamic.
            None for a dynamic link without a peer, and with UDP.
        late_pongs: How many pongs came later than ``pong_timeout``.
        late_pong: The round trip of the last of them, None before the first.
        late_at: When that came, on Trio's clock; None likewise.
        searching: Whether the path MTU is being searched for.
        path_mtu: The largest packet that the path was seen to carry, in bytes on the wire; None
            before a search has ended.
        lost_size: The bytes on the wire of the smallest packet that this machine sends, and that
            vanished on the way; None if the search has found none.
        told_mtu: What the network said in that search that it takes at most, in bytes on the wire;
            None if it said nothing.
        small_buffers: What is wrong with the buffers of its socket and what helps, in words; None
            if the system gave what was asked for.
        overflows: How many packets the system has dropped that came to its sockets, which links
            may share, because the receive buffer was full.
        trouble: The last error of what it sent, None before the first.
        drops: What was dropped on it, by cause; causes without any are left out.
        crypto_fault: Why what comes from where it leads cannot be opened, None if all could.
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
    """Messages that came for a channel which is not open.

    Attributes:
        channel: The channel.
        messages: How many were lost.
        host_id: The host that sent the last of them.
        at: When that came, on Trio's clock.
    """

    channel: int
    messages: int
    host_id: int
    at: float


@attrs.frozen(kw_only=True)
class HandleDiagnosis:
    """What may be wrong with a handle, beside its ``HandleStatistics``. Times are seconds.

    Attributes:
        at: When this was read, on Trio's clock.
        forwarding: Whether messages are sent and received.
        encrypted: Whether packets are sealed.
        drops: What was dropped that concerns no link, by cause; causes without any are left out.
        crypto_fault: Why packets that came from where no link leads cannot be opened, None if all
            could.
        closed_channels: The channels that are not open, and that messages came for.
        stalls: How often the event loop came to the heartbeat over 0.05 s late.
        stalled: How late it was then, all times together.
        longest_stall: The longest of these times.
        clock_steps: How often the time of day was set, so that it moved on by 0.1 s more or less
            than the time that passed.
        clock_step: By how much it was set the last time; 0.0 before the first.
        clock_step_at: When that was noticed, on Trio's clock; None before the first.
        cpu_used: How long the thread has had a processor, in all; None where the system does not
            tell.
        cpu_awaited: How long it was ready to run and had none; None likewise.
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
