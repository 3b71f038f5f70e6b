"""Our handle and a peer with links over SCTP, in namespaces of the machine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import trio

from knet_trio import Link
from tests.interop.c_node import CCrypto, CNode
from tests.interop.namespaces import NamespacePair, namespace_pair
from tests.interop.pairs import (
    OURS,
    PING_INTERVAL,
    POLL,
    Ours,
    Pair,
    Setup,
    in_namespaces,
)

# Emulated, a round trip alone may take a few tenths of a second.
PONG_TIMEOUT: Final = 4.0
OUR_SIDE: Final = 0
THEIR_SIDE: Final = 1


@contextmanager
def our_namespace(links: int = 1, *, mtu: int = 1500) -> Generator[NamespacePair, None, None]:
    """Two namespaces, with the calling thread in ours: associations are made at any time.

    With an MTU of less than 1280 they have no IPv6.
    """
    with namespace_pair(links) as namespaces, namespaces.inside(OUR_SIDE):
        for i in range(links):
            namespaces.set_mtu(i, mtu)
        yield namespaces


def over_sctp(
    namespaces: NamespacePair,
    program: str,
    links: int = 1,
    *,
    ipv6: bool = False,
    crypto: CCrypto | None = None,
) -> Setup:
    """A link over each of that many of their pairs, to a peer that runs that program."""
    setup = in_namespaces(
        namespaces,
        links,
        address=namespaces.v6 if ipv6 else namespaces.v4,
        crypto=crypto,
        pong_timeout=PONG_TIMEOUT,
    )
    return replace(setup, program=program, transport="sctp")


def filter_packets(
    namespaces: NamespacePair, side: int, transport: str = "sctp", *, drop: bool
) -> None:
    """Lose every packet of a transport to a side without a word, or let them through again."""
    action = "-I" if drop else "-D"
    for tool in ("iptables", "ip6tables"):
        rule = (action, "INPUT", "-p", transport, "-j", "DROP")
        namespaces.run(side, tool, "-w", "5", *rule)


def associations(namespaces: NamespacePair, side: int) -> int:
    """How many associations the sockets of that side have."""
    lines = namespaces.run(side, "cat", "/proc/net/sctp/assocs").splitlines()
    return len(lines) - 1


def figures(namespaces: NamespacePair, side: int) -> dict[str, int]:
    """What the kernel has counted in the namespace of that side, as RFC 3873 names it."""
    lines = namespaces.run(side, "cat", "/proc/net/sctp/snmp").splitlines()
    return {name: int(number) for name, number in (line.split() for line in lines)}


def counted(pair: Pair) -> dict[str, int]:
    """What our side has dropped, by the names of the causes."""
    drops = pair.ours.handle.statistics().drops
    return {str(cause): times for cause, times in drops.items() if times}


async def wait_associations(namespaces: NamespacePair, side: int, most: int) -> None:
    """Until that side has no more associations than that."""
    while associations(namespaces, side) > most:  # noqa: ASYNC110
        await trio.sleep(POLL)


async def add_dynamic_c_link(c: CNode, setup: Setup, accepts: str) -> None:
    """Give the peer link 0 without a destination, whose access list accepts an address."""
    await c.add_link(
        OURS,
        0,
        setup.theirs[0],
        None,
        transport="sctp",
        ping_interval=PING_INTERVAL,
        pong_timeout=PONG_TIMEOUT,
        enabled=False,
    )
    await c.add_acl(OURS, 0, "address", accepts)
    await c.set_link_enable(OURS, 0, True)


async def add_our_link(ours: Ours, setup: Setup, *, dynamic: bool) -> Link:
    """Give us link 0, with a destination or without."""
    return await ours.host.add_link(
        0,
        setup.ours[0],
        None if dynamic else setup.theirs[0],
        transport="sctp",
        ping_interval=PING_INTERVAL,
        pong_timeout=PONG_TIMEOUT,
        pong_count=1,
    )
