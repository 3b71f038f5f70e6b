"""One link over UDP and one over SCTP between the same addresses, and either fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
import trio

from knet_trio import LinkPolicy
from tests.interop.c_node import LIBKNET, CNode
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    PING_INTERVAL,
    Ours,
    Pair,
    Setup,
    connect,
    open_ours,
    open_theirs,
    our_link,
    wait_c_link,
)
from tests.machine.sctp import PONG_TIMEOUT, filter_packets, our_namespace, over_sctp
from tests.network.traffic import OURS_ON, SMALL, THEIRS_ON, open_traffic

LIMIT: Final = 140.0
INTERVAL: Final = 0.03
SOME: Final = 25
TRANSPORTS: Final = ("udp", "sctp")


@asynccontextmanager
async def open_both(setup: Setup) -> AsyncGenerator[Pair, None]:
    """Both nodes, with link 0 over UDP and link 1 over SCTP, which is preferred."""
    bare = replace(setup, ours=(), theirs=(), channels=(OURS_ON, THEIRS_ON))
    async with open_theirs(bare) as c, open_ours(bare) as ours:
        for link_id, transport in enumerate(TRANSPORTS):
            await add_links(setup, ours, c, link_id, transport)
        await connect(ours, c)
        yield Pair(setup, ours, c)


async def add_links(setup: Setup, ours: Ours, c: CNode, link_id: int, transport: str) -> None:
    here, there = setup.ours[0], setup.theirs[0]
    await ours.host.add_link(
        link_id,
        here,
        there,
        transport=transport,
        priority=link_id,
        ping_interval=PING_INTERVAL,
        pong_timeout=PONG_TIMEOUT,
        pong_count=1,
    )
    await c.add_link(
        OURS,
        link_id,
        there,
        here,
        transport=transport,
        priority=link_id,
        ping_interval=PING_INTERVAL,
        pong_timeout=PONG_TIMEOUT,
    )


async def data_packets(pair: Pair) -> dict[str, list[int]]:
    """The data packets of links 0 and 1, both sides and both ways."""
    found = dict[str, list[int]]()
    for name in ("tx_data_packets", "rx_data_packets"):
        found[f"our {name}"] = [getattr(our_link(pair, i), name) for i in (0, 1)]
        stats = [(await pair.c.link_status(OURS, i))["stats"] for i in (0, 1)]
        found[f"their {name}"] = [each[name] for each in stats]
    if pair.setup.program == LIBKNET:
        # By its address alone it finds the link that data has come over, and here both have one.
        del found["their rx_data_packets"]
    return found


async def cut(namespaces: NamespacePair, pair: Pair, link_id: int, *, drop: bool) -> None:
    """Lose all packets of a transport without a word, or none; until both sides know."""
    for side in (0, 1):
        filter_packets(namespaces, side, TRANSPORTS[link_id], drop=drop)
    link = pair.ours.host.links[link_id]
    await (link.wait_disconnected() if drop else link.wait_connected())
    await wait_c_link(pair.c, link_id, not drop)


@pytest.mark.parametrize("policy", [LinkPolicy.PASSIVE, LinkPolicy.ACTIVE])
async def test_either_link_fails_and_comes_back(program: str, policy: LinkPolicy) -> None:
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = replace(over_sctp(namespaces, program), policy=policy)
        async with open_both(setup) as pair, open_traffic(pair, SMALL, INTERVAL) as traffic:
            await traffic.flow(SOME)
            for failed, other in ((1, 0), (0, 1)):
                await cut(namespaces, pair, failed, drop=True)
                await traffic.flow(SOME)
                before = await data_packets(pair)
                await traffic.flow(SOME)
                after = await data_packets(pair)
                for name in before:
                    assert after[name][failed] == before[name][failed], name
                    assert after[name][other] > before[name][other], name
                await cut(namespaces, pair, failed, drop=False)
                await traffic.flow(SOME)
            before = await data_packets(pair)
            await traffic.flow(SOME)
            after = await data_packets(pair)
            used = (1,) if policy is LinkPolicy.PASSIVE else (0, 1)
            for name in before:
                for i in (0, 1):
                    assert (after[name][i] > before[name][i]) == (i in used), name
            ours, theirs = await traffic.finish()
            if policy is LinkPolicy.ACTIVE:
                assert (ours.lost, theirs.lost) == ([], [])
