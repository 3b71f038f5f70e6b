"""Two hosts that either library runs, and how to wait until they have nothing more to say."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from tests.interop.c_node import Address, CCrypto
from tests.interop.sides import POLL, Record, Side, open_side
from tests.ports import free_udp_port

A: Final = 1
B: Final = 2
MARKER: Final = b"the end"
KINDS: Final = ("data", "ping", "pong")
FOUND_MTU: Final = 1300
"""Less than every interface here takes in one packet, and more than goes over every path."""

Pair = tuple[Side, Side]


@asynccontextmanager
async def open_pair(
    programs: tuple[str, str], crypto: CCrypto | None, links: int = 1, mtu: int = 0
) -> AsyncGenerator[Pair, None]:
    """Hosts A and B, with links that are up and whose path MTU is known. `mtu` fixes that of A."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(open_side(programs[0], A, B, crypto))
        b = await stack.enter_async_context(open_side(programs[1], B, A, crypto))
        if mtu:
            await a.set_mtu(mtu)
        for link_id in range(links):
            await add_link(a, b, link_id)
        for link_id in range(links):
            await wait_found(a, b, link_id, mtu)
        yield a, b


async def add_link(a: Side, b: Side, link_id: int) -> tuple[Address, Address]:
    """Connect the two; the ends of the link."""
    # By its address, without the port, libknet finds the link that data has come over.
    addresses = f"127.0.{link_id}.1", f"127.0.{link_id}.2"
    ends = (addresses[0], free_udp_port(addresses[0])), (addresses[1], free_udp_port(addresses[1]))
    await a.add_link(link_id, ends[0], ends[1])
    await b.add_link(link_id, ends[1], ends[0])
    return ends


async def wait_found(a: Side, b: Side, link_id: int, mtu: int = 0) -> None:
    """Until the link is up on both sides, and they have found the path MTU."""
    # Until it is found or taken over, packets are as small as every path takes them. The C library
    # fills in the overhead before it has found the MTU.
    await a.wait_link(link_id, connected=1, mtu=mtu - 150 if mtu else FOUND_MTU)
    await b.wait_link(link_id, connected=1, mtu=FOUND_MTU)


async def settle(a: Side, b: Side, kinds: tuple[str, ...] = KINDS) -> tuple[Record, Record]:
    """Until what either has sent has arrived, and nothing changes any more; all counters."""
    last = await a.record(), await b.record()
    while True:
        await trio.sleep(POLL)
        now = await a.record(), await b.record()
        if now == last and all(
            sender[f"link {i} tx_{kind}_packets"] == receiver[f"link {i} rx_{kind}_packets"]
            for sender, receiver in (now, now[::-1])
            for i in range(a.links)
            for kind in kinds
        ):
            return now
        last = now


async def fall_silent(a: Side, b: Side) -> tuple[Record, Record]:
    """Until neither sends anything by itself, and what it has sent has arrived; all counters."""
    for side in (a, b):
        await side.stop_clock()
        await side.set_policy("active")
    # Nothing overtakes on a link: before the first there come pings, before the others their pongs.
    for sender, receiver in ((a, b), (b, a), (a, b)):
        await marker(sender, receiver)
        await settle(a, b, ("data",))
    for side in (a, b):
        await side.set_policy("passive")
    # Pings were lost while only one of them had the link.
    return await settle(a, b, ("data",))


async def marker(a: Side, b: Side) -> None:
    """Send one that arrives after what does not."""
    await a.send(MARKER)
    assert await b.receive() == MARKER
