"""Handles on a simulated network: host ``n`` has link ``k`` at ``10.k.0.n``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from knet_trio import CryptoConfig, Handle, LinkPolicy, open_handle

# Virtual seconds, which no test has to wait for.
PATIENCE = 600.0


def at(host_id: int, link_id: int = 0) -> str:
    """Where a host has a link."""
    return f"10.{link_id}.0.{host_id}"


async def join(
    handle: Handle,
    peers: range,
    *,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    transport: str = "udp",
) -> None:
    """Give a handle links to its peers."""
    me = handle.host_id
    for peer in peers:
        if peer != me:
            host = handle.add_host(peer, policy=policy)
            for link in range(links):
                src, dst = (at(me, link), 5405), (at(peer, link), 5405)
                await host.add_link(link, src, dst, transport=transport)


@asynccontextmanager
async def open_nodes(
    count: int,
    *,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    crypto: CryptoConfig | None = None,
    transport: str = "udp",
) -> AsyncGenerator[list[Handle]]:
    """Open the hosts from 1 to ``count``, and wait until all reach each other."""
    async with AsyncExitStack() as stack:
        handles = [
            await stack.enter_async_context(open_handle(host_id, crypto=crypto))
            for host_id in range(1, count + 1)
        ]
        for handle in handles:
            peers = range(1, count + 1)
            await join(handle, peers, links=links, policy=policy, transport=transport)
        with trio.fail_after(PATIENCE):
            for handle in handles:
                for host in handle.hosts.values():
                    await host.wait_reachable()
        yield handles
