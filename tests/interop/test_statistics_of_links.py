"""What the statistics of a link say when something happens to it, here and in the C library."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from knet_trio import open_handle
from knet_trio._core.onwire import TYPE_PING, Pong, encode_pong
from tests.interop.c_node import open_c_node
from tests.interop.conftest import OpenNamespaces
from tests.interop.pairs import wait_for
from tests.interop.side_pairs import A, B, fall_silent, open_pair, wait_found
from tests.interop.sides import PING_INTERVAL, POLL, PONG_TIMEOUT, open_side
from tests.ports import free_udp_port

LIMIT: Final = 60.0
LOCALHOST: Final = "127.0.0.1"
PORT: Final = 5405
FIXED_MTU: Final = 1000


@pytest.mark.parametrize("program", ["ours", "C"])
async def test_an_mtu_that_is_fixed_after_the_search(program: str) -> None:
    """The overhead stays known, also when it is searched for again."""
    with trio.fail_after(LIMIT):
        async with open_pair((program, "C"), None) as (a, _):
            await a.set_mtu(FIXED_MTU)
            while (fixed := await a.link_record(0))["mtu"] > FIXED_MTU:  # noqa: ASYNC110
                await trio.sleep(POLL)
            assert (fixed["mtu"], fixed["proto_overhead"]) == (946, 54)
            await a.set_mtu(0)
            found = await a.wait_link(0, mtu=FIXED_MTU)
            assert (found["mtu"], found["proto_overhead"]) == (65481, 54)


@pytest.mark.parametrize("program", ["ours", "C"])
async def test_a_link_that_goes_down_and_comes_back(program: str) -> None:
    """To the C library taking a link into use is a time that it goes down."""
    extra = 1 if program == "C" else 0
    with trio.fail_after(LIMIT):
        async with open_pair((program, "C"), None) as (a, b):
            assert await a.events(0) == (1, extra, 1, extra)
            searched = await a.link_record(0)
            await b.remove_link(0)
            await a.wait_down(0)
            assert await a.events(0) == (1, 1 + extra, 1, 1 + extra)
            down = await a.link_record(0)
            # It keeps what was found, ours forgets that.
            kept = {"C": (searched["mtu"], searched["proto_overhead"]), "ours": (522, 0)}
            assert (down["mtu"], down["proto_overhead"]) == kept[program]
            await b.add_link(0, *b.ends[0])
            await a.wait_link(0, connected=1)
            assert await a.events(0) == (2, 1 + extra, 2, 1 + extra)


async def test_a_link_that_is_disabled_while_it_is_up() -> None:
    """It goes down. The C library counts that it comes up."""
    with trio.fail_after(LIMIT):
        async with open_pair(("ours", "C"), None) as (a, b):
            await a.set_enabled(0, False)
            assert await a.events(0) == (1, 1, 1, 1)
            await b.set_enabled(0, False)
            assert await b.events(0) == (2, 1, 2, 1)


@pytest.mark.parametrize("program", ["ours", "C"])
async def test_a_link_that_is_never_up(program: str) -> None:
    """The C library counts each time that it is taken into use or out of use."""
    extra = 1 if program == "C" else 0
    with trio.fail_after(LIMIT):
        async with open_side(program, A, B, None) as a:
            await a.add_link(0, (LOCALHOST, free_udp_port()), (LOCALHOST, free_udp_port()))
            assert await a.events(0) == (0, extra, 0, extra)
            await a.set_enabled(0, False)
            assert await a.events(0) == (0, 2 * extra, 0, 2 * extra)


@pytest.mark.parametrize("program", ["ours", "C"])
async def test_what_the_system_refuses(program: str, open_namespaces: OpenNamespaces) -> None:
    """It is among what was sent, and an error; but a probe that is too large is neither."""
    with trio.fail_after(LIMIT), open_namespaces(1) as namespaces:
        ends = (namespaces.v4(0, 0), PORT), (namespaces.v4(1, 0), PORT)
        one, two = namespaces.names
        async with open_side(program, A, B, None, one) as a, open_side("C", B, A, None, two) as b:
            with namespaces.inside(0):
                await a.add_link(0, *ends)
            await b.add_link(0, *reversed(ends))
            await wait_found(a, b, 0)
            record, _ = await fall_silent(a, b)
            assert 1 <= record["link 0 tx_pmtu_bytes"] / record["link 0 tx_pmtu_packets"] <= 1472
            assert record["link 0 tx_total_errors"] == 0
            await a.clear_statistics()
            if program == "C":
                namespaces.set_link(0, up=False)
            else:
                # Ours is down at once with the interface. The C library would try this for ever.
                namespaces.run(0, "ip", "route", "add", "prohibit", f"{ends[1][0]}/32")
            for _ in range(3):
                await a.send(bytes(100))
            found = await a.wait_link(0, tx_data_errors=3)
            # Ours asks the peer by pings, which are refused too.
            pings = found["tx_ping_errors"]
            assert (pings > 0) == (program != "C")
            assert {
                name: value
                for name, value in found.items()
                if value and "_" in name and "_ping_" not in name
            } == {
                "tx_data_packets": 3,
                "tx_data_bytes": 342,
                "tx_data_errors": 3,
                "tx_total_packets": 3 + pings,
                "tx_total_bytes": 342 + 26 * pings,
                "tx_total_errors": 3 + pings,
                "proto_overhead": 54,
            }


async def answer_ping(peer: trio.socket.SocketType, *, late: bool) -> None:
    """Answer the next ping as host B, at once or only after a while."""
    while True:
        ping, source = await peer.recvfrom(65536)
        if ping[1] == TYPE_PING:
            break
    if late:
        await trio.sleep(5 * PING_INTERVAL)
    pong = encode_pong(Pong(B, 0, ping[7:23], 0, timed=True))
    await peer.sendto(pong, source)


async def test_round_trips() -> None:
    """Minimum and maximum are those of round trips, and in the C library of their average."""
    with trio.fail_after(LIMIT):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as peer:
            await peer.bind((LOCALHOST, 0))
            dst: tuple[str, int] = peer.getsockname()
            async with open_handle(A) as handle:
                link = await handle.add_host(B).add_link(
                    0, (LOCALHOST, 0), dst, ping_interval=PING_INTERVAL, pong_timeout=PONG_TIMEOUT
                )
                stats = link.status.stats
                assert link.status.latency == stats.latency_samples == 0
                assert stats.latency_min is stats.latency_max is stats.latency_ave is None
                await answer_ping(peer, late=False)
                await wait_for(lambda: link.status.stats.latency_samples == 1)
                await answer_ping(peer, late=True)
                await wait_for(lambda: link.status.stats.latency_samples == 2)
                stats = link.status.stats
                assert stats.latency_min is not None
                assert stats.latency_ave is not None
                assert stats.latency_max is not None
                assert stats.latency_min < stats.latency_ave < stats.latency_max
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as peer:
            await peer.bind((LOCALHOST, 0))
            dst = peer.getsockname()
            async with open_c_node(A) as c:
                await c.add_host(B)
                await c.add_link(B, 0, (LOCALHOST, free_udp_port()), dst, pong_timeout=PONG_TIMEOUT)
                status = await c.link_status(B, 0)
                found = status["stats"]
                assert status["latency"] == found["latency_max"] == found["latency_ave"] == 0
                assert found["latency_min"] == 2**32 - 1
                await answer_ping(peer, late=False)
                await c.wait_link(B, 0, lambda one: one["stats"]["latency_samples"] == 1)
                await answer_ping(peer, late=True)
                status = await c.wait_link(B, 0, lambda one: one["stats"]["latency_samples"] == 2)
                found = status["stats"]
                assert found["latency_min"] < found["latency_ave"] == found["latency_max"]
