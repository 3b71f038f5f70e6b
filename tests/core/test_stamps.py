from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio._core.onwire import TIME_SIZE
from knet_trio._core.stamps import SECRET_SIZE, Stamps
from knet_trio.address import Address

SECRET = bytes(range(SECRET_SIZE))
STAMPS = Stamps(SECRET)
PLACE = Address("192.0.2.1", 5405)

WHERE = Stamps.describe(2, 0, PLACE)

TIMES = st.floats(allow_nan=False)
HOSTS = st.integers(0, 65535)
LINKS = st.integers(0, 7)
PORTS = st.integers(1, 65535)
PLACES = st.builds(
    Address,
    st.one_of(
        st.ip_addresses(v=4).map(str),
        st.ip_addresses(v=6).map(str),
        st.ip_addresses(v=6, network="fe80::/64").map(lambda ip: f"{ip}%eth0"),
    ),
    PORTS,
)


@given(TIMES, HOSTS, LINKS, PLACES)
def test_a_stamp_is_sixteen_bytes_and_says_when(
    time: float, host: int, link: int, place: Address
) -> None:
    stamp = STAMPS.make(time, Stamps.describe(host, link, place))
    assert len(stamp) == TIME_SIZE
    assert STAMPS.read_untrusted(stamp, Stamps.describe(host, link, place)) == time
    # The sign of a zero too.
    assert struct.pack(">d", time) == stamp[:8]


@given(TIMES, HOSTS, LINKS, PLACES, HOSTS, LINKS, PLACES)
def test_it_is_good_for_one_link_and_one_place(
    time: float, host: int, link: int, place: Address, host2: int, link2: int, place2: Address
) -> None:
    stamp = STAMPS.make(time, Stamps.describe(host, link, place))
    for other in ((host2, link, place), (host, link2, place), (host, link, place2)):
        expected = time if other == (host, link, place) else None
        assert STAMPS.read_untrusted(stamp, Stamps.describe(*other)) == expected


def test_a_port_is_part_of_the_place() -> None:
    stamp = STAMPS.make(1.0, WHERE)
    other = Stamps.describe(2, 0, PLACE._replace(port=5406))
    assert STAMPS.read_untrusted(stamp, other) is None


@pytest.mark.parametrize("secret", [bytes(SECRET_SIZE), SECRET[:-1] + b"\0"])
def test_another_handle_does_not_know_it(secret: bytes) -> None:
    stamp = STAMPS.make(1.0, WHERE)
    assert Stamps(secret).read_untrusted(stamp, WHERE) is None
    assert Stamps(SECRET).read_untrusted(stamp, WHERE) == 1.0


@given(st.integers(0, 8 * TIME_SIZE - 1))
def test_no_bit_of_it_may_be_another(bit: int) -> None:
    number = int.from_bytes(STAMPS.make(1234.5, WHERE), "big") ^ 1 << bit
    changed = number.to_bytes(TIME_SIZE, "big")
    assert STAMPS.read_untrusted(changed, WHERE) is None


@given(TIMES, TIMES)
def test_the_proof_is_of_that_time(time: float, other: float) -> None:
    proof = STAMPS.make(time, WHERE)[8:]
    forged = struct.pack(">d", other) + proof
    expected = other if struct.pack(">d", time) == struct.pack(">d", other) else None
    assert STAMPS.read_untrusted(forged, WHERE) == expected


@given(st.binary(min_size=TIME_SIZE, max_size=TIME_SIZE))
def test_bytes_that_nobody_made_are_none(stamp: bytes) -> None:
    assert STAMPS.read_untrusted(stamp, WHERE) is None


def test_times_that_are_none_cannot_be_read() -> None:
    for time in (math.nan, math.inf, -math.inf):
        assert STAMPS.read_untrusted(struct.pack(">dQ", time, 1), WHERE) is None
