"""How much fits into a packet, held against what the C library was measured to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.onwire import FULL_HEADER_SIZE
from knet_trio._core.sizes import CLEAR, SCTP_HEADERS, UDP_HEADER, EnvelopeSizes, PathSizes
from knet_trio._core.sizes import minimum_data_mtu as minimum_of

AES_SHA256 = EnvelopeSizes(salt=16, hash=32, block=16)
CTR_SHA256 = EnvelopeSizes(salt=16, hash=32, block=1)
HASH_ONLY = EnvelopeSizes(salt=0, hash=32, block=0)

ENVELOPES = st.builds(
    EnvelopeSizes, st.sampled_from([0, 16]), st.integers(0, 64), st.sampled_from([0, 1, 8, 16])
)


def udp(*, ipv6: bool, envelope: EnvelopeSizes) -> PathSizes:
    return PathSizes(ipv6, UDP_HEADER, envelope)


@pytest.mark.parametrize(
    ("ipv6", "envelope", "mtu", "overhead"),
    [
        (False, CLEAR, 1446, 54),
        (True, CLEAR, 1426, 74),
        (False, AES_SHA256, 1397, 102),
        (True, AES_SHA256, 1365, 122),
        (False, CTR_SHA256, 1397, 102),
        (True, CTR_SHA256, 1377, 122),
    ],
)
def test_a_path_of_1500_bytes_has_the_mtu_and_overhead_the_c_library_reports(
    ipv6: bool, envelope: EnvelopeSizes, mtu: int, overhead: int
) -> None:
    sizes = udp(ipv6=ipv6, envelope=envelope)
    assert sizes.payload(1500) == mtu
    assert sizes.overhead == overhead


@pytest.mark.parametrize(
    ("ipv6", "envelope", "mtu"),
    [
        (False, CLEAR, 65481),
        (True, CLEAR, 65461),
        (False, AES_SHA256, 65429),
        (True, AES_SHA256, 65397),
        (False, CTR_SHA256, 65432),
        (True, CTR_SHA256, 65412),
    ],
)
def test_the_widest_path_has_the_mtu_the_c_library_reports(
    ipv6: bool, envelope: EnvelopeSizes, mtu: int
) -> None:
    assert udp(ipv6=ipv6, envelope=envelope).payload(65535) == mtu


@pytest.mark.parametrize(
    ("ipv6", "envelope", "mtu"),
    [
        (False, CLEAR, 522),
        (False, AES_SHA256, 469),
        (True, CLEAR, 1206),
        (True, AES_SHA256, 1157),
    ],
)
def test_a_link_starts_with_the_mtu_the_c_library_starts_with(
    ipv6: bool, envelope: EnvelopeSizes, mtu: int
) -> None:
    assert udp(ipv6=ipv6, envelope=envelope).minimum_payload == mtu


@pytest.mark.parametrize(("envelope", "mtu"), [(CLEAR, 482), (AES_SHA256, 421)])
def test_a_handle_starts_with_the_data_mtu_the_c_library_starts_with(
    envelope: EnvelopeSizes, mtu: int
) -> None:
    assert minimum_of(envelope) == mtu


@pytest.mark.parametrize(
    ("ipv6", "transport", "headers"),
    [
        (False, UDP_HEADER, 28),
        (True, UDP_HEADER, 48),
        (False, SCTP_HEADERS, 48),
        (True, SCTP_HEADERS, 68),
    ],
)
def test_headers_are_those_of_ip_and_of_the_transport(
    ipv6: bool, transport: int, headers: int
) -> None:
    sizes = PathSizes(ipv6, transport, CLEAR)
    assert sizes.headers == headers
    assert sizes.probe_length(1500) == 1500 - headers


def sealed(envelope: EnvelopeSizes, length: int) -> int:
    """How long an envelope around ``length`` bytes is: PKCS#7 pads to the next whole block."""
    if envelope.block > 1:
        length += envelope.block - length % envelope.block
    return envelope.salt + length + envelope.hash


@given(ENVELOPES, st.integers(200, 65535))
def test_the_largest_plaintext_fits_its_room(envelope: EnvelopeSizes, room: int) -> None:
    largest = envelope.largest_plaintext(room)
    assert sealed(envelope, largest) <= room


@given(ENVELOPES.filter(lambda envelope: envelope.block != 1), st.integers(200, 65535))
def test_no_larger_plaintext_fits(envelope: EnvelopeSizes, room: int) -> None:
    assert sealed(envelope, envelope.largest_plaintext(room) + 1) > room


@given(st.integers(200, 65535))
def test_a_stream_cipher_gives_one_byte_away_as_the_c_library_does(room: int) -> None:
    assert sealed(CTR_SHA256, CTR_SHA256.largest_plaintext(room)) == room - 1


@given(st.integers(0, 47))
def test_where_no_envelope_fits_nothing_does(room: int) -> None:
    for envelope in (AES_SHA256, CTR_SHA256):
        assert envelope.largest_plaintext(room) < 1
    assert HASH_ONLY.largest_plaintext(min(room, 32)) < 1


@given(st.booleans(), ENVELOPES, st.integers(300, 65535))
def test_what_a_path_carries_is_what_headers_and_padding_leave(
    ipv6: bool, envelope: EnvelopeSizes, onwire: int
) -> None:
    sizes = udp(ipv6=ipv6, envelope=envelope)
    padding = onwire - sizes.overhead - sizes.payload(onwire)
    assert 0 <= padding <= envelope.block


@given(st.booleans(), ENVELOPES, st.integers(300, 65535))
def test_a_probe_fills_the_path_up_to_a_block(
    ipv6: bool, envelope: EnvelopeSizes, onwire: int
) -> None:
    sizes = udp(ipv6=ipv6, envelope=envelope)
    size = sizes.headers + sealed(envelope, sizes.probe_length(onwire))
    assert 0 <= onwire - size < max(envelope.block, 1)
    assert sizes.payload(onwire) + FULL_HEADER_SIZE <= sizes.probe_length(onwire)
