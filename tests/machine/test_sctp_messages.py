"""Messages over SCTP: of every size, in clear and encrypted, and with links without `dst`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
import trio

from knet_trio import AclEntry
from tests.interop.c_node import LIBKNET, CCrypto
from tests.interop.pairs import (
    OURS,
    Pair,
    add_c_link,
    connect,
    exchange,
    open_ours,
    open_pair,
    open_theirs,
    our_link,
)
from tests.machine.sctp import (
    add_dynamic_c_link,
    add_our_link,
    counted,
    our_namespace,
    over_sctp,
)

LIMIT: Final = 90.0
SIZES: Final = (1, 1400, 1401, 20_000, 65_000)
KEY: Final = bytes(range(256))


def message(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


@pytest.mark.parametrize(
    ("ipv6", "mtu"), [(False, 1500), (False, 600), (True, 1500)], ids=["IPv4", "narrow", "IPv6"]
)
async def test_messages_of_every_size(program: str, ipv6: bool, mtu: int) -> None:
    """In clear over IPv4, encrypted over IPv6."""
    crypto = CCrypto(key=KEY) if ipv6 else None
    with trio.fail_after(LIMIT), our_namespace(mtu=mtu) as namespaces:
        setup = over_sctp(namespaces, program, ipv6=ipv6, crypto=crypto)
        async with open_pair(setup) as pair:
            sizes = SIZES if program == LIBKNET else (*SIZES, 65_536)
            await exchange(pair, [message(size) for size in sizes])
            assert counted(pair) == {}
            link = our_link(pair, 0)
            assert (link.down_count, link.tx_total_errors) == (0, 0)
            if not ipv6:
                # Nothing has to be cut but what does not fit in a packet of ours.
                assert link.tx_data_packets == len(sizes) + (program != LIBKNET)
                assert link.rx_data_packets == len(sizes) + (program != LIBKNET)


# libknet 1.25 crashes when more comes over an association that it made, so as from a dynamic link.
SIZES_OF_DYNAMIC: Final = (1, 1400, 1401)


@pytest.mark.parametrize("dynamic", ["ours", "theirs"])
async def test_a_link_without_dst(program: str, dynamic: str) -> None:
    """It sends over what the peer has connected."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        bare = replace(setup, ours=(), theirs=())
        async with open_theirs(bare) as c, open_ours(bare) as ours:
            link = await add_our_link(ours, setup, dynamic=dynamic == "ours")
            if dynamic == "ours":
                link.acl.append(AclEntry.address(setup.theirs[0][0]))
                await add_c_link(c, setup, 0)
            else:
                await add_dynamic_c_link(c, setup, setup.ours[0][0])
            await connect(ours, c)
            pair = Pair(setup, ours, c)
            await exchange(pair, [message(size) for size in SIZES_OF_DYNAMIC])
            assert counted(pair) == {}
            assert our_link(pair, 0).down_count == 0
            assert link.status.dynconnected == (dynamic == "ours")
            assert (await c.link_status(OURS, 0))["dynconnected"] == (dynamic == "theirs")
