"""There and back: what a codec wrote it reads as it was, for all that it takes.

Packets have theirs beside their other tests, in core/test_onwire.py.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knet_trio import (
    LogLevel,
    LogSubsystem,
    get_log_level_id,
    get_log_level_name,
    get_log_subsystem_id,
    get_log_subsystem_name,
)
from knet_trio._catalogue import get_transport_id, get_transport_list, get_transport_name
from knet_trio._compress import MODELS, Decompressors, make_compressor
from knet_trio._core.acl import AclEntry
from knet_trio._core.inbound import InboundSequence
from knet_trio._core.liveness import Liveness, PongOutcome
from knet_trio._core.onwire import (
    MAX_MESSAGE,
    Data,
    decode_untrusted,
    encode_data,
    encode_message,
    next_seq,
)
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, make_cipher
from knet_trio._crypto.envelope import MODELS as CRYPTO_MODELS
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Compressor
from knet_trio.address import Address, format_address, parse_address, socket_address
from knet_trio.config import CompressConfig, CryptoConfig
from knet_trio.errors import DropCause

KEYS = st.binary(min_size=128, max_size=160)
PACKETS = st.lists(st.binary(min_size=1, max_size=200), max_size=4)
# Like text, like noise, all the same, and one after the other.
MESSAGES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=100),
        st.tuples(st.binary(min_size=1, max_size=8), st.integers(1, 2000)).map(
            lambda run: run[0] * run[1]
        ),
    ),
    min_size=1,
    max_size=4,
).map(lambda parts: b"".join(parts)[:MAX_MESSAGE])
LEVELS = {
    "zlib": [*range(-1, 10)],
    "lz4": [0, 1, 10, 1000, 65537],
    "lz4hc": [*range(17)],
    "lzo2": [1, 11, 12, 15, 999],
    "lzma": [*range(7)],
    "bzip2": [*range(1, 10)],
    "zstd": [*range(20)],
}
HOSTS = st.one_of(
    st.ip_addresses(v=4),
    # Those that stand for IPv4 ones are refused.
    st.ip_addresses(v=6).filter(
        lambda address: not (address.is_link_local or IPv6Address(int(address)).ipv4_mapped)
    ),
)
PORTS = st.integers(0, 65535)


def compressor(model: str, level: int | None) -> Compressor:
    if model == "lzo2":
        pytest.importorskip("lzo", reason="pip install 'knet-trio[lzo2]'")
    return make_compressor(CompressConfig(model, level))


@pytest.mark.parametrize("digest", HASH_NAMES)
@pytest.mark.parametrize("cipher", [*CIPHER_NAMES, "none"])
@settings(max_examples=20)
@given(key=KEYS, batches=st.lists(PACKETS, max_size=3), model=st.sampled_from(CRYPTO_MODELS))
def test_every_cipher_with_every_hash(
    cipher: str, digest: str, key: bytes, batches: list[list[bytes]], model: str
) -> None:
    if digest == "sha224" and model == "nss":
        model = "openssl"
    here, there = (
        make_cipher(CryptoConfig(key, cipher=cipher, hash=digest, model=model)) for _ in range(2)
    )
    # Both ends go on from what they did before.
    for packets in batches:
        envelopes = here.seal(packets)
        assert there.open_many_untrusted(envelopes) == packets
        assert [there.open_untrusted(envelope) for envelope in reversed(envelopes)] == list(
            reversed(packets)
        )


@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 1, 2]),
    st.lists(st.binary(min_size=1, max_size=100), max_size=5),
)
def test_both_slots_whichever_seals(sealing: int, opening: int, payloads: list[bytes]) -> None:
    packets = [encode_data(Data(7, 9, 0, True, 1, 0, 3, payload)) for payload in payloads]
    configs = {1: CryptoConfig(b"1" * 128), 2: CryptoConfig(b"2" * 128, "aes-128-ctr", "sha1")}
    here, there = CryptoSlots(), CryptoSlots(allow_clear_traffic=True)
    for slots, used in ((here, sealing), (there, opening)):
        for slot, config in configs.items():
            slots.set(config, slot)
        slots.use(used)
    assert there.open_many_untrusted(here.seal(packets)) == packets


@pytest.mark.parametrize("model", MODELS)
@given(message=MESSAGES, data=st.data())
def test_every_compressor_at_every_level(model: str, message: bytes, data: st.DataObject) -> None:
    level = data.draw(st.one_of(st.none(), st.sampled_from(LEVELS[model])))
    algorithm = compressor(model, level)
    packed = algorithm.compress(message)
    opener = Decompressors().find_untrusted(algorithm.wire_id)
    assert opener.decompress_untrusted(packed, MAX_MESSAGE) == message
    # The limit is no larger than it must be.
    assert opener.decompress_untrusted(packed, len(message)) == message


@given(
    message=MESSAGES,
    size=st.integers(300, 3000),
    model=st.sampled_from(["zlib", "lz4", "lzma"]),
    cipher=st.sampled_from(["aes256", "aes-128-ctr", "none"]),
    seed=st.randoms(use_true_random=False),
)
def test_a_message_through_all_of_them(
    message: bytes, size: int, model: str, cipher: str, seed: Random
) -> None:
    algorithm = compressor(model, None)
    envelope = CryptoConfig(b"k" * 128, cipher=cipher)
    packets = encode_message(
        algorithm.compress(message),
        node=1,
        seq=1,
        compress=algorithm.wire_id,
        broadcast=True,
        channel=31,
        fragment_size=size,
    )
    datagrams = make_cipher(envelope).seal(packets)
    seed.shuffle(datagrams)
    drops: Counter[DropCause] = Counter()
    source = InboundSequence(lambda cause: drops.update([cause]))
    arrived: list[bytes] = []
    for datagram in datagrams:
        packet = decode_untrusted(make_cipher(envelope).open_untrusted(datagram))
        assert isinstance(packet, Data)
        whole = source.receive(packet)
        if whole is not None:
            opener = Decompressors().find_untrusted(packet.compress)
            arrived.append(opener.decompress_untrusted(whole, MAX_MESSAGE))
    assert arrived == [message]
    assert not drops


@given(HOSTS, PORTS)
def test_addresses(host: IPv4Address | IPv6Address, port: int) -> None:
    address = parse_address(host, port)
    assert parse_address(*address) == address
    assert parse_address(address.host, str(port)) == address
    assert format_address(address) == str(address)
    text, _, number = str(address).rpartition(":")
    assert parse_address(text.strip("[]"), number) == address
    assert address.is_ipv6 is (host.version == 6)
    # The system reads and writes them in the same way.
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    assert socket.inet_ntop(family, socket.inet_pton(family, str(socket_address(address)[0]))) == (
        socket.inet_ntop(family, host.packed)
    )
    assert AclEntry.address(address.host).matches(host)


@given(st.integers(0, 2**64 - 1))
def test_link_local_addresses(interface_id: int) -> None:
    host = str(IPv6Address((0xFE80 << 112) + interface_id))
    address = parse_address(f"{host}%lo", 1)
    assert address == Address(f"{host}%lo", 1)
    assert parse_address(*address) == address
    assert socket_address(address)[2:] == (0, socket.if_nametoindex("lo"))


@given(st.integers(0, 255), st.sampled_from([str.lower, str.upper, str.title]))
def test_log_names(number: int, spelling: Callable[[str], str]) -> None:
    subsystem = get_log_subsystem_id(spelling(get_log_subsystem_name(number)))
    known = number in {each.value for each in LogSubsystem}
    assert subsystem == (number if known else LogSubsystem.UNKNOWN)
    level = get_log_level_id(spelling(get_log_level_name(number)))
    known = number in {each.value for each in LogLevel}
    assert level == (number if known else LogLevel.ERROR)


def test_transport_names() -> None:
    assert [get_transport_name(get_transport_id(name)) for name in get_transport_list()] == (
        get_transport_list()
    )


@given(st.integers(1, 65535), st.integers(0, 200))
def test_numbers_of_messages_go_round_and_leave_out_0(seq: int, steps: int) -> None:
    later = seq
    for _ in range(steps):
        later = next_seq(later)
    assert later == (seq + steps - 1) % 65535 + 1


@given(st.floats(0, 1e9), st.lists(st.floats(0, 10), min_size=1, max_size=5))
def test_times_of_pings(start: float, waits: list[float]) -> None:
    link = Liveness(start, timeout=1e6, pong_count=255)
    now = start
    for wait in waits:
        sent = link.ping_time(now)
        now += wait
        assert link.pong_received(now, sent) is PongOutcome.COUNTED
        assert link.overdue(now) == 0
    assert link.latency_samples == len(waits)
