from __future__ import annotations

from knet_trio._core.onwire import Ping
from knet_trio._state.explain_handle import MOST_LINES, explain_handle
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from tests.state.fakes import KEY, World, address


async def test_without_hosts() -> None:
    assert explain_handle(World().handle) == (
        "the handle of host 1 reaches 0 of 0 hosts; messages of up to 482 bytes go in one packet\n"
        "  it has no hosts yet: add one with add_host\n"
        "  packets go in the clear; clear packets are accepted"
    )


async def test_crypto() -> None:
    world = World(crypto=CryptoConfig(KEY))
    crypto = world.context.crypto
    text = explain_handle(world.handle)
    assert "packets are sealed with crypto slot 1; clear packets are refused" in text
    assert KEY.hex() not in text
    crypto.use(0)
    assert (
        "packets go in the clear though a crypto slot is set: select it with use_crypto;"
        " clear packets are accepted"
    ) in explain_handle(world.handle)


async def test_settings_that_keep_messages_back_or_let_all_in() -> None:
    world = World(access_lists=False)
    assert "access lists are off" in explain_handle(world.handle)
    assert "forwarding" not in explain_handle(world.handle)
    world.context.forwarding = False
    assert "forwarding is off: turn it on with await handle.set_forwarding(True)" in explain_handle(
        world.handle
    )


async def test_hosts_that_cannot_be_reached_come_first() -> None:
    world = World()
    good = world.add_host(2)
    world.bring_up(world.add_link(good, dst=address(2)))
    world.add_host(3)
    lines = explain_handle(world.handle).splitlines()
    assert lines[0].startswith("the handle of host 1 reaches 1 of 2 hosts;")
    hosts = [line for line in lines if line.startswith("  host ")]
    assert hosts == [
        "  host 3 (host3) is unreachable: it has no links; add one with add_link",
        "  host 2 (host2) is reachable: messages go over link 0",
    ]
    assert any(line.startswith("    link 0 to host 2") for line in lines)


async def test_of_many_hosts_some_are_explained() -> None:
    world = World()
    for host_id in range(2, 2 + 2 * MOST_LINES):
        world.add_host(host_id)
    lines = explain_handle(world.handle).splitlines()
    explained = sum(line.startswith("  host ") for line in lines)
    assert len(lines) == MOST_LINES + 1
    left = 2 * MOST_LINES - explained
    assert lines[-1] == f"  and {left} more hosts: see explain() of each"


async def test_it_is_bounded_whatever_was_dropped() -> None:
    world = World()
    for host_id in range(2, 12):
        host = world.add_host(host_id)
        for link_id in range(8):
            link = world.add_link(host, link_id, dst=address(host_id)._replace(port=link_id + 1))
            for cause in DropCause:
                link.counters.drop(cause)
    for cause in DropCause:
        world.context.counters.drop(cause)
    most_of_a_host = 1 + 8 * (4 + len(DropCause))
    assert len(explain_handle(world.handle).splitlines()) <= MOST_LINES + most_of_a_host


async def test_who_is_not_known_is_told_here() -> None:
    world = World()
    world.add_host(2)
    world.receive(Ping(7, 0, bytes(16), 0, True), address(7))
    assert (
        "  unknown_host x 1: a packet from 198.51.100.7:5405 names host 7 as its sender, which the"
        " handle does not have: it has 2 (host2); add_host(7) adds it; compare the host ids on both"
        " sides (last 0.0 s ago)"
    ) in explain_handle(world.handle).splitlines()


async def test_who_was_added_since_is_not_to_be_added() -> None:
    world = World()
    world.receive(Ping(7, 0, bytes(16), 0, True), address(7))
    assert "it has none yet; add_host(7) adds it" in explain_handle(world.handle)
    world.add_host(7)
    text = explain_handle(world.handle)
    assert "which the handle does not have: it was added since" in text
    assert "add_host(7)" not in text


async def test_a_link_that_is_not_known_is_told_here() -> None:
    world = World()
    world.add_link(world.add_host(2), 1, dst=address(2))
    world.receive(Ping(2, 0, bytes(16), 0, True), address(7))
    text = explain_handle(world.handle)
    assert (
        "is for link 0 to host 2, which the handle does not have: the links to that host are 1"
        in text
    )


async def test_what_a_link_tells_is_not_told_twice() -> None:
    world = World()
    link = world.add_link(world.add_host(2), dst=address(2))
    world.receive(Ping(3, 0, bytes(16), 0, True), address(2))
    lines = [line for line in explain_handle(world.handle).splitlines() if "unknown_host" in line]
    assert lines == [
        f"    {line}" for line in link.explain().splitlines() if "unknown_host" in line
    ]


async def test_what_a_link_tells_is_not_counted_here() -> None:
    world = World()
    world.add_link(world.add_host(2), dst=address(2))
    for source in (address(2), address(2), address(7)):
        world.receive(Ping(3, 0, bytes(16), 0, True), source)
    text = explain_handle(world.handle)
    assert f"  unknown_host x 1: a packet from {address(7)}" in text
    assert f"  unknown_host x 2: a packet from {address(2)}" in text


async def test_drops_without_words_of_their_own() -> None:
    world = World()
    world.context.counters.drop(DropCause.REASSEMBLY_GIVEN_UP, 2)
    world.context.counters.drop(DropCause.DUPLICATE, 2)
    text = explain_handle(world.handle)
    assert "  reassembly_given_up x 2: fragments of messages are missing" in text
    assert "duplicate" not in text
