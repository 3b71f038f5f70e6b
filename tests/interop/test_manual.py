"""docs/libknet.md beside the C library: what both say of the same arguments.

Where they say something else, the row of the call has to tell.
"""

from __future__ import annotations

import ctypes
import time
from typing import Final

import pytest

from knet_trio import LinkPolicy
from tests.interop import libknet
from tests.interop.arguments import Case, cases
from tests.interop.arguments_of_addresses import cases_of_addresses
from tests.interop.arguments_of_links import cases_of_links
from tests.interop.both_sides import (
    DYNAMIC,
    LOCAL,
    STATIC,
    CSide,
    c_answer,
    open_c_side,
    open_our_side,
    our_answer,
)
from tests.ports import free_udp_port
from tests.test_libknet_table import DOCUMENT, ROWS

CASES: Final = [*cases(), *cases_of_links(), *cases_of_addresses()]
CALLS: Final = tuple(dict.fromkeys(case.call for case in CASES))
# What is said of all calls, or of all in a section.
TEXT: Final = " ".join(
    line.strip()
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if not line.startswith("|")
)
each_call = pytest.mark.parametrize("call", CALLS)


def cases_of(call: str) -> list[Case]:
    return [case for case in CASES if case.call == call]


@each_call
def test_the_c_library_says(call: str) -> None:
    tried = cases_of(call)
    with open_c_side() as side:
        answers = {case.what: c_answer(case.c, side) for case in tried}
    assert answers == {case.what: case.in_c for case in tried}


@each_call
async def test_ours_says(call: str) -> None:
    tried = cases_of(call)
    async with open_our_side() as side:
        answers = {case.what: await our_answer(case.ours, side) for case in tried}
    assert answers == {case.what: case.here for case in tried}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call}-{case.what}")
def test_the_row_says_where_they_differ(case: Case) -> None:
    if case.says is None:
        assert case.in_c == case.here
        return
    assert case.in_c != case.here
    (row,) = (row for row in ROWS if row.call == f"`{case.call}`")
    assert case.says in row.differences or case.says in TEXT


def test_no_two_cases_have_the_same_name() -> None:
    assert len({(case.call, case.what) for case in CASES}) == len(CASES)


def c_timers(side: CSide) -> tuple[int, int, int]:
    interval, timeout, samples = ctypes.c_long(), ctypes.c_long(), ctypes.c_uint()
    where = [ctypes.byref(number) for number in (interval, timeout, samples)]
    side.call("knet_link_get_ping_timers", 2, STATIC, *where)
    return interval.value, timeout.value, samples.value


async def test_what_nobody_has_set_is_the_same() -> None:
    with open_c_side() as c:
        theirs = (
            c.got("knet_handle_pmtud_getfreq"),
            c.got("knet_handle_get_transport_reconnect_interval"),
            c_timers(c),
            c.got("knet_link_get_pong_count", 2, STATIC),
            c.got("knet_link_get_priority", 2, STATIC),
            c.got("knet_host_get_policy", 2),
            c.handle.host_name(2),
            c.handle.data_mtu(),
        )
    async with open_our_side() as o:
        config = o.static.config
        assert theirs == (
            o.handle.pmtud_interval,
            o.handle.reconnect_interval * 1000,
            (config.ping_interval * 1000, config.pong_timeout * 1000, config.latency_samples),
            o.static.pong_count,
            o.static.priority,
            (LinkPolicy.PASSIVE, LinkPolicy.ACTIVE, LinkPolicy.ROUND_ROBIN).index(o.host.policy),
            o.host.name,
            o.handle.data_mtu,
        )


async def test_a_link_that_never_was_enabled_says_what_the_row_of_its_status_says() -> None:
    with open_c_side() as c:
        c.add_link(("::1", 0), ("::1", 5))
        static, dynamic = (c.handle.link_status(2, link_id) for link_id in (STATIC, DYNAMIC))
        ipv6 = c.handle.link_status(3, 0)
    async with open_our_side() as o:
        await o.add_link(("::1", 0), ("::1", 5))
        for status, ours, mtu in (
            (static, o.static.status, 522),
            (dynamic, o.dynamic.status, 482),
            (ipv6, o.handle.get_host(3).links[0].status, 1206),
        ):
            assert status["mtu"] == mtu
            assert ours.mtu == max(mtu, 522)
            assert status["proto_overhead"] == ours.proto_overhead == 0
            assert status["latency"] == ours.latency == 0
            stats = status["stats"]
            latencies = [stats[f"latency_{which}"] for which in ("min", "max", "ave")]
            assert latencies == [2**32 - 1, 0, 0]
            assert (
                ours.stats.latency_min is ours.stats.latency_max is ours.stats.latency_ave is None
            )
            assert status["pong_last"] == {"tv_sec": 0, "tv_nsec": 0}
            assert ours.pong_last is None
        # The port that was asked for: 0.
        assert ipv6["src_port"] == "0"
        assert o.handle.get_host(3).links[0].status.src_port != 0


def test_in_c_a_link_that_is_disabled_stays_connected_and_its_host_is_unreachable() -> None:
    """What the rows of knet_host_get_status and knet_link_get_status say of it."""
    ports = [free_udp_port(), free_udp_port()]
    pair = [libknet.Handle(number) for number in (1, 2)]
    for handle, other, mine in zip(pair, (2, 1), (0, 1), strict=True):
        handle.call("knet_host_add", other)
        src, dst = (LOCAL, ports[mine]), (LOCAL, ports[1 - mine])
        handle.link_set_config(other, 0, src, dst, transport=1, flags=0)
        handle.call("knet_link_set_ping_timers", other, 0, 100, 60_000, 100)
        handle.call("knet_link_set_pong_count", other, 0, 1)
        handle.call("knet_link_set_enable", other, 0, 1)
    one, _ = pair
    try:
        wait_for(one, reachable=1)
        one.call("knet_link_set_enable", 2, 0, 0)
        wait_for(one, reachable=0)
        assert one.link_status(2, 0)["connected"] == 1
    finally:
        for handle in pair:
            handle.free()


def wait_for(handle: libknet.Handle, *, reachable: int) -> None:
    deadline = time.monotonic() + 30
    while handle.host_status(2)["reachable"] != reachable:
        assert time.monotonic() < deadline
        time.sleep(0.05)
