"""Errors of the network that somebody off the path has made up, and real ones.

Whoever knows addresses and ports can make a machine believe them, without any key. The forger has
an address of its own here, in a namespace with nothing but a loopback interface.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import pytest
import trio

from knet_trio import AclEntry, Handle, Link, open_handle
from knet_trio._core.inquiry import PATIENCE, PAUSE
from tests.attack.arena import CRYPTO, open_socket
from tests.cluster import LOCALHOST, wait_for
from tests.cluster import PATIENCE as LIMIT
from tests.interop.conftest import need
from tests.interop.namespaces import namespace_pair, namespaces_missing

VICTIM, PEER, FORGER = "10.99.0.1", "10.99.0.2", "10.99.0.66"
PORT: Final = 5405
UNREACHABLE: Final = 3
# Network, host, port, "administratively prohibited".
CODES: Final = (0, 1, 3, 13)
TOO_BIG: Final = 4
PONG_TIMEOUT: Final = 5.0


@contextmanager
def open_namespace() -> Generator[None]:
    """The calling thread is in a namespace with the three addresses; sockets made stay in it."""
    need(namespaces_missing())
    with namespace_pair(0) as pair:
        for host in (VICTIM, PEER, FORGER):
            pair.run(0, "ip", "address", "add", f"{host}/32", "dev", "lo")
        with pair.inside(0):
            yield


class Forger:
    """Makes up what a router would say of packets from the victim to its peer."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._sock.bind((FORGER, 0))

    def close(self) -> None:
        self._sock.close()

    def forge(self, code: int, mtu: int = 0) -> None:
        """Send one error. It quotes the headers of the packet that it pretends to be about."""
        length = 80
        udp = struct.pack("!HHHH", PORT, PORT, 8 + length, 0)
        addresses = socket.inet_aton(VICTIM) + socket.inet_aton(PEER)
        total = 20 + len(udp) + length
        ip = struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses
        head = struct.pack("!BBHI", UNREACHABLE, code, 0, mtu)
        summed = struct.pack("!BBHI", UNREACHABLE, code, checksum(head + ip + udp), mtu)
        self._sock.sendto(summed + ip + udp, (VICTIM, 0))


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Scene(NamedTuple):
    """The victim, its link to the peer, the peer and whoever sends errors."""

    victim: Handle
    link: Link
    peer: Handle
    forger: Forger


@asynccontextmanager
async def open_scene() -> AsyncGenerator[Scene]:
    """Two hosts with an encrypted link that is up."""
    with open_namespace():
        forger = Forger()
        try:
            async with (
                open_handle(1, crypto=CRYPTO) as victim,
                open_handle(2, crypto=CRYPTO) as peer,
            ):
                ends = ((VICTIM, PORT), (PEER, PORT))
                link = await add_link(victim, 2, *ends)
                back = await add_link(peer, 1, *reversed(ends))
                for one in (link, back):
                    await wait_for(lambda s=one: s.status.connected and s.status.proto_overhead > 0)  # type: ignore[misc]
                yield Scene(victim, link, peer, forger)
        finally:
            forger.close()


async def add_link(
    handle: Handle,
    host_id: int,
    src: tuple[str, int],
    dst: tuple[str, int] | None,
    *,
    interval: float = 0.5,
) -> Link:
    host = handle.add_host(host_id)
    # Pings are seldom, so that those seen are answers to errors.
    return await host.add_link(
        0, src, dst, ping_interval=interval, pong_timeout=PONG_TIMEOUT, pong_count=1
    )


def is_doubted(link: Link) -> bool:
    return "in doubt: the network reports for" in link.explain()


@pytest.mark.parametrize("code", CODES)
async def test_one_that_is_forged_makes_no_flap(code: int) -> None:
    async with open_scene() as (_, link, _, forger):
        before = link.status.stats.tx_ping_packets
        forger.forge(code)
        await wait_for(lambda: is_doubted(link) or link.status.stats.tx_ping_packets > before)
        await wait_for(lambda: not is_doubted(link))
        await trio.sleep(2 * PATIENCE)
        assert link.status.connected
        assert link.status.stats.down_count == 0


async def test_a_flood_takes_no_link_down_and_makes_few_pings() -> None:
    async with open_scene() as (victim, link, peer, forger):
        inbox, outbox = peer.open_channel(0), victim.open_channel(0)
        before = link.status.stats.tx_ping_packets
        began = trio.current_time()
        for number in range(400):
            forger.forge(CODES[number % len(CODES)])
            await outbox.send(b"%d" % number)
            assert (await inbox.receive()).data == b"%d" % number
            await trio.sleep(0.002)
        lasted = trio.current_time() - began
        stats = link.status.stats
        assert stats.down_count == 0
        # Those of the heartbeat among them, and three where an answer took its time.
        assert 2 <= stats.tx_ping_packets - before <= 3 * (lasted / PAUSE + 1) + lasted / 0.5 + 1
        await wait_for(lambda: not is_doubted(link))


async def test_a_size_that_is_forged_changes_no_mtu() -> None:
    async with open_scene() as (victim, link, _, forger):
        before = (link.status.mtu, victim.data_mtu)
        probes = link.status.stats.tx_pmtu_packets
        forger.forge(TOO_BIG, 600)
        await wait_for(lambda: link.status.stats.tx_pmtu_packets > probes)
        for _ in range(50):
            forger.forge(TOO_BIG, 600)
            await trio.sleep(0.01)
            assert (link.status.mtu, victim.data_mtu) == before
        assert link.status.connected


async def test_a_peer_that_is_gone_is_noticed_amid_a_flood() -> None:
    async with open_scene() as (_, link, peer, forger):
        await peer.get_host(1).remove()
        began = trio.current_time()
        with trio.fail_after(LIMIT):
            while link.status.connected:
                forger.forge(CODES[0])
                await trio.sleep(0.001)
        # It would take a pong timeout at least, and ten while the link is young.
        assert trio.current_time() - began < PONG_TIMEOUT / 2
        assert "and the peer has not answered a ping for" in link.explain()


class Nat:
    """Stands in front of the peer: gives what it sends an address of its own."""

    def __init__(self, inside: socket.socket, peer: tuple[str, int], to: tuple[str, int]) -> None:
        self._inside = inside
        self._peer = peer
        self._to = to

    @asynccontextmanager
    async def mapping(self, outside: socket.socket) -> AsyncGenerator[None]:
        """Carry both ways through ``outside`` in the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, self._inside, outside, self._to)
            nursery.start_soon(self._carry, outside, self._inside, self._peer)
            yield
            nursery.cancel_scope.cancel()

    async def _carry(self, source: socket.socket, sink: socket.socket, to: tuple[str, int]) -> None:
        while True:
            await trio.lowlevel.wait_readable(source)
            sink.sendto(source.recv(65536), to)


async def test_a_nat_gives_another_port_and_the_old_one_refuses() -> None:
    with open_socket(LOCALHOST) as inside:
        async with open_handle(1, crypto=CRYPTO) as victim, open_handle(2, crypto=CRYPTO) as peer:
            link = await add_link(victim, 2, (LOCALHOST, 0), None, interval=1.0)
            link.acl.append(AclEntry.address(LOCALHOST))
            back = await add_link(peer, 1, (LOCALHOST, 0), inside.getsockname(), interval=1.0)
            nat = Nat(inside, back.config.src, link.config.src)
            with open_socket(LOCALHOST) as outside:
                async with nat.mapping(outside):
                    await wait_for(lambda: link.status.connected and back.status.connected)
                    assert link.status.dst_port == outside.getsockname()[1]
            await wait_for(lambda: is_doubted(link))
            # A peer at a fixed address would be missed by now.
            await trio.sleep(2 * PATIENCE)
            with open_socket(LOCALHOST) as outside:
                async with nat.mapping(outside):
                    port = outside.getsockname()[1]
                    await wait_for(lambda: link.status.dst_port == port)
                    assert not is_doubted(link)
                    await trio.sleep(2 * PATIENCE)
                    assert link.status.stats.down_count == 0
                    assert link.status.connected
