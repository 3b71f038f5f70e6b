"""Who connects without being a peer: refused, counted, and nothing is left of it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

import trio

from knet_trio import AclEntry, DropCause
from tests.interop.c_node import LIBKNET
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    PORT,
    THEIRS,
    add_c_link,
    connect,
    exchange,
    open_ours,
    open_pair,
    open_theirs,
    our_link,
    wait_for,
)
from tests.machine.sctp import (
    OUR_SIDE,
    THEIR_SIDE,
    add_dynamic_c_link,
    add_our_link,
    associations,
    counted,
    our_namespace,
    over_sctp,
    wait_associations,
)

LIMIT: Final = 140.0
STRANGER: Final = "10.77.0.99"
MANY: Final = 200
BOTH_WAYS: Final = 2


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def connect_from(namespaces: NamespacePair, stack: ExitStack, count: int) -> None:
    """Begin that many associations with us from the address of a stranger."""
    with namespaces.inside(THEIR_SIDE):
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
            stack.enter_context(sock)
            sock.bind((STRANGER, 0))
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect((namespaces.v4(OUR_SIDE, 0), PORT))


def connect_and_leave(namespaces: NamespacePair, count: int) -> None:
    """Make that many associations with us from the peer's address, and end each at once.

    By turns they are shut down and aborted (SCTP takes SO_LINGER of zero seconds as TCP does).
    """
    with namespaces.inside(THEIR_SIDE):
        for number in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as sock:
                if number % 2:
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                sock.connect((namespaces.v4(OUR_SIDE, 0), PORT))


async def test_many_associations_of_a_stranger() -> None:
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, LIBKNET)
        device = namespaces.device(0)
        namespaces.run(THEIR_SIDE, "ip", "address", "add", f"{STRANGER}/24", "dev", device)
        async with open_pair(setup) as pair:
            before = open_files()
            with ExitStack() as stack:
                for _ in range(MANY // 20):
                    connect_from(namespaces, stack, 20)
                    await trio.sleep(0.1)
                await wait_for(lambda: counted(pair).get(DropCause.UNKNOWN_ADDRESS, 0) >= MANY)
                # All were refused, and we have closed them.
                assert open_files() <= before + MANY
                assert associations(namespaces, OUR_SIDE) == BOTH_WAYS
            await exchange(pair, [b"one", b"two"])
            assert our_link(pair, 0).down_count == 0
            assert open_files() == before
            assert counted(pair) == {DropCause.UNKNOWN_ADDRESS: MANY}


async def test_associations_that_are_gone_at_once() -> None:
    """Aborted and shut down as soon as they are there, many of them before we have taken them."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, LIBKNET)
        async with open_pair(setup) as pair:
            before = open_files()
            for _ in range(MANY // 20):
                connect_and_leave(namespaces, 20)
                await trio.sleep(0.1)
            await exchange(pair, [b"one", b"two"])
            assert our_link(pair, 0).down_count == 0
            await wait_for(lambda: open_files() == before)
            assert associations(namespaces, OUR_SIDE) == BOTH_WAYS


async def test_an_address_that_the_access_list_rejects(program: str) -> None:
    """Ours at first, and then that of the peer: the link comes up when both accept."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        bare = replace(setup, ours=(), theirs=())
        async with open_theirs(bare) as c, open_ours(bare) as ours:
            link = await add_our_link(ours, setup, dynamic=True)
            link.acl.append(AclEntry.address(STRANGER))
            await add_c_link(c, setup, 0)
            drops = ours.handle.statistics
            await wait_for(lambda: drops().drops[DropCause.ACCESS_LIST] > 1)
            assert not ours.host.status.reachable
            await wait_associations(namespaces, OUR_SIDE, 1)
            link.acl.append(AclEntry.address(setup.theirs[0][0]))
            await connect(ours, c)
            assert ours.handle.hosts[THEIRS].status.reachable


async def test_an_address_that_the_access_list_of_the_peer_rejects(program: str) -> None:
    """The peer ends each association that we make, until its list accepts our address."""
    with trio.fail_after(LIMIT), our_namespace() as namespaces:
        setup = over_sctp(namespaces, program)
        bare = replace(setup, ours=(), theirs=())
        async with open_theirs(bare) as c, open_ours(bare) as ours:
            if program == LIBKNET:
                # Ours, and libknet from 1.35 on, have them by default.
                await c.set_access_lists(True)
            await add_dynamic_c_link(c, setup, STRANGER)
            link = await add_our_link(ours, setup, dynamic=False)
            await wait_for(lambda: "association" in link.status.reason)
            assert not ours.host.status.reachable
            await c.add_acl(OURS, 0, "address", setup.ours[0][0])
            await connect(ours, c)
            assert ours.handle.hosts[THEIRS].status.reachable
