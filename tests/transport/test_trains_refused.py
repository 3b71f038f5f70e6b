"""Errors that a train meets without being to blame, so that the next ones go as trains again."""

from __future__ import annotations

import errno

import pytest

from knet_trio._transport.errqueue import REPORTED_LATE
from knet_trio.address import Address
from tests.transport.conftest import Opener

V4 = Address("127.0.0.1", 0)


@pytest.mark.parametrize("number", [*sorted(REPORTED_LATE), errno.ENOBUFS])
async def test_what_is_no_refusal_of_trains_stops_none(
    number: int, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of earlier datagrams, and queues that are full."""
    one, two = open_udp(V4), open_udp(V4)
    sock = open_udp.socket(one)
    monkeypatch.setattr("knet_trio._transport.offload.CROWDED", 0.0)
    for _ in range(5):
        sock.sends = [number]
        assert one.send_nowait([b"a", b"b"], two.local) == 2
    sock.calls = 0
    assert one.send_nowait([b"a", b"b"], two.local) == 2
    assert sock.calls == 1


async def test_the_network_cannot_stop_trains(open_udp: Opener) -> None:
    one, two = open_udp(V4), open_udp(V4)
    nobody = open_udp.free_address(V4)
    sock = open_udp.socket(one)
    for _ in range(5):
        # On the loopback the answer is there before the next call.
        one.send_nowait([b"x"], nobody)
        assert one.send_nowait([b"a", b"b"], two.local) == 2
    sock.calls = 0
    one.troubles()
    assert one.send_nowait([b"a", b"b"], two.local) == 2
    assert sock.calls == 1
