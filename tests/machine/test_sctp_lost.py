"""Associations that are lost, in every way that they can be, and links that come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
import trio

from knet_trio import LinkCause
from tests.interop.c_node import LIBKNET
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    POLL,
    Pair,
    connect,
    exchange,
    open_ours,
    open_pair,
    open_theirs,
    our_link,
    wait_c_link,
)
from tests.machine.sctp import (
    OUR_SIDE,
    THEIR_SIDE,
    associations,
    figures,
    filter_packets,
    our_namespace,
    over_sctp,
    wait_associations,
)

LIMIT: Final = 140.0
MESSAGES: Final = (b"one", b"two", b"three")
# One each way.
BOTH_WAYS: Final = 2


def inits(namespaces: NamespacePair) -> int:
    """How many INIT chunks we have sent, while we have no association."""
    return figures(namespaces, OUR_SIDE)["SctpOutCtrlChunks"]


async def test_the_peer_restarts(program: str, long: bool) -> None:
    """Killed, its kernel says so; at the end no association is left but those in use."""
    with trio.fail_after(LIMIT * (5 if long else 1)), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        async with open_ours(setup) as ours:
            link = ours.host.links[0]
            lives = 10 if long else 2
            for _ in range(lives):
                async with open_theirs(setup) as c:
                    await connect(ours, c)
                    await exchange(Pair(setup, ours, c), MESSAGES)
                    await wait_associations(namespaces, OUR_SIDE, BOTH_WAYS)
                    await c.kill()
                await ours.host.wait_unreachable()
            stats = link.status.stats
            assert stats.transitions[LinkCause.DISCONNECTED] == stats.down_count == lives
            await wait_associations(namespaces, OUR_SIDE, 0)


async def test_our_handle_restarts(program: str) -> None:
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        async with open_theirs(setup) as c:
            for _ in range(10):
                async with open_ours(setup) as ours:
                    await connect(ours, c)
                    await exchange(Pair(setup, ours, c), MESSAGES)
                    await wait_associations(namespaces, OUR_SIDE, BOTH_WAYS)
                await c.wait_unreachable(OURS)


async def test_a_silent_cut(program: str) -> None:
    """The heartbeat finds it, and soon after it is mended the link is up again."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        async with open_pair(over_sctp(namespaces, program)) as pair:
            link = pair.ours.host.links[0]
            for side in (OUR_SIDE, THEIR_SIDE):
                filter_packets(namespaces, side, drop=True)
            await link.wait_disconnected()
            await wait_c_link(pair.c, 0, False)
            assert link.status.stats.transitions[LinkCause.NO_PONG] == 1
            assert "no pong" in link.explain()
            # As long again: whoever waits twice as long after each attempt waits long now.
            await trio.sleep(10)
            for side in (OUR_SIDE, THEIR_SIDE):
                filter_packets(namespaces, side, drop=False)
            await connect(pair.ours, pair.c)
            await exchange(pair, MESSAGES)
            assert our_link(pair, 0).down_count == 1
            await wait_associations(namespaces, OUR_SIDE, BOTH_WAYS)


async def test_the_interface_goes_down(program: str) -> None:
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        async with open_pair(over_sctp(namespaces, program)) as pair:
            link = pair.ours.host.links[0]
            namespaces.set_link(0, up=False)
            await link.wait_disconnected()
            await wait_c_link(pair.c, 0, False)
            namespaces.set_link(0, up=True)
            await connect(pair.ours, pair.c)
            await exchange(pair, MESSAGES)
            assert our_link(pair, 0).down_count == 1


async def test_the_link_is_made_anew(program: str) -> None:
    """Nobody is left listening, and then somebody is."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        bare = replace(setup, ours=(), theirs=())
        async with open_theirs(setup) as c, open_ours(bare) as ours:
            for _ in range(3):
                link = await ours.host.add_link(
                    0,
                    setup.ours[0],
                    setup.theirs[0],
                    transport="sctp",
                    ping_interval=0.1,
                    pong_timeout=setup.pong_timeout,
                    pong_count=1,
                )
                await connect(ours, c)
                await exchange(Pair(setup, ours, c), MESSAGES)
                await link.remove()
                await c.wait_unreachable(OURS)
                assert associations(namespaces, OUR_SIDE) <= BOTH_WAYS


@pytest.mark.parametrize("answered", [True, False], ids=["refused", "unanswered"])
async def test_the_reconnect_interval(answered: bool) -> None:
    """It is the time from one attempt to the next, also of those that nobody answers."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, LIBKNET)
        if not answered:
            filter_packets(namespaces, THEIR_SIDE, drop=True)
        for interval in (0.3, 2.0):
            async with open_ours(replace(setup, ours=(), theirs=())) as ours:
                ours.handle.reconnect_interval = interval
                before, began = inits(namespaces), trio.current_time()
                await ours.host.add_link(0, setup.ours[0], setup.theirs[0], transport="sctp")
                while inits(namespaces) < before + 4:  # noqa: ASYNC110
                    await trio.sleep(POLL)
                # What else goes out, such as the end of an attempt, is counted along.
                attempts, passed = inits(namespaces) - before, trio.current_time() - began
                assert attempts <= passed / interval + 2
