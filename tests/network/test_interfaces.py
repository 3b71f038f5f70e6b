"""Link-local addresses, whose interface gets another name, or goes and comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import trio

from tests.interop.namespaces import NamespacePair, namespace_pair
from tests.interop.pairs import OURS, Pair, in_namespaces, open_pair, wait_for
from tests.network.conftest import KNET_TRIO

LIMIT: Final = 60.0
SOME: Final = 20


async def exchange(pair: Pair, label: bytes) -> None:
    """Some messages go each way."""
    texts = [b"%s %d" % (label, number) for number in range(SOME)]
    for text in texts:
        await pair.ours.channel.send(text)
        await pair.c.send(text)
    assert await pair.ours.receive_count(SOME) == texts
    assert await pair.c.receive_count(SOME) == texts


async def test_an_interface_is_renamed(program: str) -> None:
    """What comes over it is still known by the name that the link was given."""
    with trio.fail_after(LIMIT), namespace_pair(1) as namespaces, namespaces.inside(0):
        setup = in_namespaces(namespaces, address=NamespacePair.link_local, pong_timeout=2.0)
        async with open_pair(replace(setup, program=program)) as pair:
            await exchange(pair, b"before")
            namespaces.rename(0, "lan0", side=0)
            await exchange(pair, b"after")
            # Pings go on and are answered.
            link = pair.ours.host.links[0]
            pongs = link.status.stats.rx_pong_packets
            await wait_for(lambda: link.status.stats.rx_pong_packets > pongs + 3)
            assert link.status.stats.down_count == 0


async def test_an_interface_goes_and_comes_back() -> None:
    """It has another index then, and the socket was bound to the old one.

    The C library keeps the old socket, so the peer is one of ours.
    """
    with trio.fail_after(LIMIT), namespace_pair(1) as namespaces, namespaces.inside(0):
        setup = in_namespaces(namespaces, address=NamespacePair.link_local, pong_timeout=0.5)
        async with open_pair(replace(setup, program=KNET_TRIO)) as pair:
            await exchange(pair, b"before")
            host = pair.ours.host
            namespaces.take_away(0)
            await host.wait_unreachable()
            namespaces.bring_back(0, mtu=1500)
            await host.wait_reachable()
            await pair.c.wait_reachable(OURS)
            await exchange(pair, b"after")
