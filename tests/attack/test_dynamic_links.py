"""Dynamic links, and somebody who sends what he has recorded, from an accepted address.

He has no key and cannot read what is sent to the peer, so he has no answer to a ping.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from knet_trio import AclEntry, CryptoConfig, DropCause, Link
from knet_trio._core.onwire import Data, Ping, Pong
from tests.attack.arena import (
    PEER,
    SLACK,
    STRANGER_ADDRESS,
    VICTIM,
    Arena,
    TappedEnd,
    both,
    health,
    only,
    open_arena,
    open_socket,
    open_wire,
    pings_and_pongs,
    under_attack,
)
from tests.cluster import (
    LOCALHOST,
    PATIENCE,
    add_quick_link,
    receive,
    wait_dropped,
    wait_for,
)


class Scene(NamedTuple):
    """Two hosts with static links 0 and 1, and link 2 beside them.

    Attributes:
        link: The victim's end of link 2, which is dynamic.
        back: The peer's end.
        tap: What comes to the victim over it can be heard there.
        sock: The attacker's socket, at an address that the access list accepts.
    """

    arena: Arena
    link: Link
    back: Link
    tap: TappedEnd
    sock: socket.socket


@asynccontextmanager
async def open_scene(crypto: CryptoConfig | None) -> AsyncGenerator[Scene]:
    """The scene once all links are up."""
    with open_socket(STRANGER_ADDRESS) as sock:
        async with open_arena(crypto) as arena, open_wire() as (_, far, near):
            link = await arena.victim.get_host(PEER).add_link(
                2, (LOCALHOST, 0), ping_interval=0.05, pong_timeout=1.0, pong_count=1
            )
            link.acl.append(AclEntry.network("127.0.0.0/8"))
            far.plug(link.config.src)
            to_victim = arena.peer.get_host(VICTIM)
            back = await add_quick_link(to_victim, 2, (LOCALHOST, 0), near.address)
            near.plug(back.config.src)
            await wait_for(lambda: link.status.connected and link.status.proto_overhead > 0)
            yield Scene(arena, link, back, far, sock)


def leads_to(link: Link) -> tuple[str | None, int | None]:
    return link.status.dst_ipaddr, link.status.dst_port


async def take_down(scene: Scene) -> None:
    """The network has a hiccup, and the dynamic link is down, as long as the peer's end is."""
    scene.back.enabled = False
    with trio.fail_after(PATIENCE):
        await scene.link.wait_disconnected()


@both
async def test_one_that_is_up_follows_nobody_who_only_repeats(crypto: CryptoConfig | None) -> None:
    async with open_scene(crypto) as scene:
        arena, link, _, tap, sock = scene
        to_peer = arena.victim.get_host(PEER)
        assert leads_to(link) == tap.address
        before = health(arena.victim, to_peer, link)
        with tap.recording() as tape:
            await wait_for(lambda: pings_and_pongs(arena, tape) >= 3)
        questions: list[bytes] = []

        def throw(datagram: bytes) -> None:
            sock.sendto(datagram, link.config.src)
            # It is asked whether it is the peer. It has no answer but the question.
            with contextlib.suppress(BlockingIOError):
                questions.append(sock.recv(2048))

        async with under_attack(arena, SLACK) as attack:
            pinged = link.status.stats.rx_ping_packets

            def done() -> int:
                return attack.dropped + link.status.stats.rx_ping_packets - pinged

            await attack.flood(throw, itertools.cycle(only(arena, tape, (Ping, Pong))), done)
            causes = {DropCause.REPLAYED, DropCause.RATE_LIMITED, DropCause.UNKNOWN_ADDRESS}
            assert set(attack.drops) <= causes
            assert attack.drops[DropCause.REPLAYED] > attack.drops.get(DropCause.RATE_LIMITED, 0)
            # Each ping is looked into once at most.
            assert 0 < len(questions) <= len(only(arena, tape, Ping))
            for question in questions:
                sock.sendto(question, link.config.src)
            await wait_dropped(arena.victim, DropCause.UNKNOWN_HOST, len(questions))
            assert health(arena.victim, to_peer, link) == before


@both
async def test_20_copies_a_second_do_not_hold_one_down(crypto: CryptoConfig | None) -> None:
    async with open_scene(crypto) as scene:
        arena, link, back, tap, sock = scene
        with tap.recording() as tape:
            # So that its pings tell a number: those that tell none are known for copies anyway.
            await arena.outbox.send(b"x")
            assert await receive(arena.inbox, 1) == [b"x"]
            await wait_for(lambda: len(only(arena, tape, Ping)) >= 3)
        copy = only(arena, tape, Ping)[-1]
        await take_down(scene)
        replayed = arena.victim.statistics().drops[DropCause.REPLAYED]
        back.enabled = True
        for _ in range(20):
            sock.sendto(copy, link.config.src)
            await trio.sleep(0.05)
        with trio.fail_after(PATIENCE):
            await link.wait_connected()
        assert leads_to(link) == tap.address
        ups = link.status.stats.up_count
        for _ in range(20):
            sock.sendto(copy, link.config.src)
            await trio.sleep(0.05)
            assert link.status.connected
        assert (link.status.stats.up_count, leads_to(link)) == (ups, tap.address)
        await wait_dropped(arena.victim, DropCause.REPLAYED, replayed + 39)


@both
async def test_recorded_data_over_one_that_is_down_is_refused(crypto: CryptoConfig | None) -> None:
    """Of a host that is reachable over other links, from before the window."""
    async with open_scene(crypto) as scene:
        arena, link, _, tap, sock = scene
        with arena.tap.recording() as data, tap.recording() as pings:
            await arena.outbox.send(b"pay")
            assert await receive(arena.inbox, 1) == [b"pay"]
            await wait_for(lambda: len(only(arena, pings, Ping)) >= 3)
        (message,) = only(arena, data, Data)
        for _ in range(50):
            await arena.outbox.send_many([b"x"] * 100)
            await receive(arena.inbox, 100)
        refused = arena.victim.statistics().drops.get(DropCause.UNKNOWN_ADDRESS, 0)
        await take_down(scene)
        assert arena.victim.get_host(PEER).status.reachable
        for ping in only(arena, pings, Ping):
            for datagram in (ping, message):
                sock.sendto(datagram, link.config.src)
            refused += 1
            await wait_dropped(arena.victim, DropCause.UNKNOWN_ADDRESS, refused)
        assert leads_to(link) == (None, None)
        assert "has not answered the ping sent there" in link.explain()
        await arena.outbox.send(b"the end")
        assert await receive(arena.inbox, 1) == [b"the end"]


@both
async def test_recorded_data_over_a_disabled_one_is_refused(crypto: CryptoConfig | None) -> None:
    async with open_scene(crypto) as scene:
        arena = scene.arena
        with arena.tap.recording() as tape:
            await arena.outbox.send(b"pay")
            assert await receive(arena.inbox, 1) == [b"pay"]
        (message,) = only(arena, tape, Data)
        for _ in range(50):
            await arena.outbox.send_many([b"x"] * 100)
            await receive(arena.inbox, 100)
        for host in (arena.peer.get_host(VICTIM), arena.victim.get_host(PEER)):
            host.links[0].enabled = False
            assert host.status.reachable
        # The last ping of the peer may be refused too.
        for _ in range(10):
            arena.tap.inject(message)
        await wait_dropped(arena.victim, DropCause.LINK_DISABLED, 10)
        await arena.outbox.send(b"the end")
        assert await receive(arena.inbox, 1) == [b"the end"]
