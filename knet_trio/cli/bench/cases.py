"""All cases of the bench."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from knet_trio import get_compress_list
from knet_trio.cli.bench.bed import AES, CLEAR, PLAIN, STREAMING, TCP, Dressing
from knet_trio.cli.bench.case import Case
from knet_trio.cli.bench.kinds.aead import (
    AeadCalls,
    AeadRefused,
    AeadRoundTrip,
    AeadThroughput,
    Refused,
)
from knet_trio.cli.bench.kinds.broadcast import BroadcastCost
from knet_trio.cli.bench.kinds.calls import Calls
from knet_trio.cli.bench.kinds.connect import Connect
from knet_trio.cli.bench.kinds.echo import Echo
from knet_trio.cli.bench.kinds.failover import Failover
from knet_trio.cli.bench.kinds.hosts import AddingHosts, RefusingHosts
from knet_trio.cli.bench.kinds.idle import Idle
from knet_trio.cli.bench.kinds.isolation import Isolation
from knet_trio.cli.bench.kinds.load import Load
from knet_trio.cli.bench.kinds.memory import Memory
from knet_trio.cli.bench.kinds.natural import Natural
from knet_trio.cli.bench.kinds.requests import Acknowledged, Requests
from knet_trio.cli.bench.kinds.roundtrip import RoundTrip
from knet_trio.cli.bench.kinds.streams import LinkChoice, StreamCut, StreamLoss, StreamThroughput
from knet_trio.cli.bench.kinds.throughput import Throughput
from knet_trio.cli.bench.kinds.turns import LongTurns
from knet_trio.cli.bench.network import Loopback, Veth

_SIZES: Final = (64, 1400, 8192, 65000)
# Each with the size for which rare dressings are measured.
_NETWORKS: Final = ((Loopback.name, 1400), (Veth.name, 65000))
_OTHERS: Final = tuple(PLAIN)
_POLICIES: Final = ("passive", "active")
_CTR: Final = Dressing("aes-256-ctr-sha256", "aes-256-ctr", "sha256")
# Encryption that libknet does not have; packets are of Ethernet's size.
_AEAD: Final = tuple(
    Dressing(cipher, cipher, "none", model="aead")
    for cipher in ("aes256-gcm", "chacha20-poly1305", "aes256-gcm-siv")
)
_AEAD_SIZES: Final = (64, 1400, 65000)
# With a payload that can be compressed.
_LZ4: Final = Dressing("lz4", compress="lz4", payload="text")
# Models that are fast enough to decompress without a thread.
_FAST: Final = ("zlib", "lz4", "lz4hc", "zstd")


def _cases() -> Iterator[Case]:
    for network, one_size in _NETWORKS:
        # The other contenders have no such encryption or compression, and no fragments.
        others = _OTHERS if network == Loopback.name else ()
        for size in _SIZES:
            yield Throughput(network, size, CLEAR, who=others)
            yield Throughput(network, size, AES)
        for dressing in (_CTR, _LZ4):
            yield Throughput(network, one_size, dressing)
        yield Throughput(network, 64, CLEAR, mode="one")
        yield RoundTrip(network, 64, CLEAR, who=others)
        yield RoundTrip(network, 64, AES)
    for hosts in (1, 4, 16):
        yield BroadcastCost(hosts)
    yield Failover("interface-down", "active")
    yield Failover("interface-down", "passive")
    yield Failover("black-hole", "passive")
    yield Failover("black-hole", "passive", hedge=False)
    yield Connect()
    yield Idle()
    for hosts in (1, 512):
        yield Memory(hosts)
    yield Load("loopback", 1400, CLEAR)
    yield Load("veth", 1400, AES)
    for dressing in (CLEAR, AES):
        yield Echo(dressing)
        yield Calls(dressing)
        yield Natural("async-for", dressing)
        yield Natural("receive", dressing)
        yield Natural("send", dressing)
        yield Natural("send", dressing, beside="tens")
    for what in ("send-many", "arguments", "errors", "mtu", "probes", "rekey"):
        yield LongTurns(what)
    for algorithm in _FAST:
        if algorithm in get_compress_list():
            yield LongTurns("flood", algorithm)
    for source in ("own-addresses", "one-address"):
        for to in ("alone", "broadcast"):
            yield Isolation(source, to)
    yield RefusingHosts(1000)
    yield AddingHosts(2000)
    yield from _stream_cases()
    yield from _aead_cases()


def _stream_cases() -> Iterator[Case]:
    everybody = tuple(STREAMING)
    for network, _ in _NETWORKS:
        yield StreamThroughput(network, CLEAR, who=(TCP,))
        # QUIC always encrypts.
        yield StreamThroughput(network, AES, who=everybody)
    for policy in _POLICIES:
        yield StreamThroughput(Veth.name, CLEAR, LinkChoice(2, policy))
    yield StreamLoss(2, CLEAR)
    yield StreamLoss(2, AES, LinkChoice(2, "active"), who=("aioquic",))
    for cut in ("interface-down", "black-hole"):
        for policy in _POLICIES:
            yield StreamCut(cut, policy, CLEAR)
    yield Requests(Loopback.name, CLEAR, who=("pyzmq",))
    yield Requests(Veth.name, AES, who=("aioquic",))
    yield Acknowledged(Loopback.name, CLEAR)


def _aead_cases() -> Iterator[Case]:
    for dressing in _AEAD:
        for size in _AEAD_SIZES:
            yield AeadThroughput(Veth.name, size, dressing)
        yield AeadRoundTrip(Veth.name, 64, dressing)
        yield AeadCalls(dressing)
        for what in Refused:
            yield AeadRefused(what, dressing)


CASES: Final = tuple(_cases())


def choose(patterns: Sequence[str], cases: Sequence[Case] = CASES) -> list[Case]:
    """Return the cases that fit any of the patterns.

    Args:
        patterns: Names of cases, beginnings of names, or patterns with wildcards; none for all
            cases.
        cases: The cases to choose from.

    Raises:
        ValueError: A pattern fits no case.
    """
    for pattern in patterns:
        if not any(_fits(case, pattern) for case in cases):
            raise ValueError(f"no case fits {pattern!r}; --list shows them")
    return [case for case in cases if not patterns or any(_fits(case, one) for one in patterns)]


def _fits(case: Case, pattern: str) -> bool:
    return fnmatchcase(case.name, pattern) or fnmatchcase(case.name, f"{pattern}/*")
