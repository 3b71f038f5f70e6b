"""What a host finds of a link to another one that does not come up, on the loopback."""

from __future__ import annotations

import errno
import socket
from functools import partial

import trio
from trio.testing import MockClock

from knet_trio import CryptoConfig, DropCause, Handle, open_handle
from knet_trio.address import Address
from knet_trio.cli.preflight.ears import Ears, Word, write_word
from knet_trio.cli.preflight.records import WayReport
from knet_trio.cli.preflight.watch import Watch
from knet_trio.cluster import Cluster, ClusterHost, ClusterLink, HostLink
from knet_trio.testing import open_network
from tests.cluster import KEY, LOCALHOST, add_quick_link, open_pair, wait_for
from tests.ports import free_udp_port

CRYPTO = CryptoConfig(key=KEY[:256])


def watch(handle: Handle, crypto: CryptoConfig | None = None) -> Watch:
    """Watch link 0 of host 1 to host 2."""
    link = handle.get_host(2).links[0].config
    assert link.dst is not None
    hosts = tuple(
        ClusterHost(number, str(number), (HostLink(0, Address(*place)),))
        for number, place in ((1, link.src), (2, link.dst))
    )
    cluster = Cluster(hosts=hosts, links=(ClusterLink(0, link.src[1]),), crypto=crypto)
    return Watch(handle, cluster, Ears(cluster, hosts[0]))


async def report(watch: Watch) -> WayReport:
    (way,) = await watch.report()
    return way


def is_refused(handle: Handle) -> bool:
    return handle.get_host(2).links[0].diagnose().crypto_fault is not None


async def test_packets_of_another_hash_are_named() -> None:
    other = CryptoConfig(key=CRYPTO.key, cipher="aes128", hash="sha1")
    async with open_handle(1, crypto=CRYPTO) as a, open_handle(2, crypto=other) as b:
        await join(a, b)
        await wait_for(partial(is_refused, a))
        way = await report(watch(a, CRYPTO))
    assert way.unopened > 0
    assert (way.opened, way.connected) == (0, False)
    assert (way.differs, way.sealed_by) == ("hash", "aes128 and sha1")


async def test_packets_in_clear_are_told_at_both_ends() -> None:
    async with open_handle(1, crypto=CRYPTO) as a, open_handle(2) as b:
        await join(a, b)
        await wait_for(partial(is_refused, a))
        assert (await report(watch(a, CRYPTO))).differs == "clear"
    async with open_handle(1) as a, open_handle(2, crypto=CRYPTO) as b:
        await join(a, b)
        await wait_for(partial(is_refused, a))
        way = await report(watch(a))
    assert (way.differs, way.sealed_by) == ("sealed", "")


async def test_a_port_that_is_wrong_on_one_side() -> None:
    async with open_handle(1) as a, open_handle(2) as b:
        here = LOCALHOST, free_udp_port()
        mirror = await add_quick_link(b.add_host(1), 0, (LOCALHOST, 0), here)
        link = await add_quick_link(a.add_host(2), 0, here, (LOCALHOST, 1))
        await wait_for(lambda: link.diagnose().trouble is not None)
        await wait_for(lambda: link.diagnose().heard_from is not None)
        way = await report(watch(a))
    assert way.elsewhere == str(Address(*mirror.config.src))
    assert (way.errno, way.local) == (errno.ECONNREFUSED, False)
    assert "Connection refused" in way.trouble


async def test_a_host_with_another_id_shows_life(autojump_clock: MockClock) -> None:
    async with open_network(1), open_handle(1) as a, open_handle(9) as b:
        here, there = ("10.0.0.1", 5405), ("10.0.0.2", 5405)
        await add_quick_link(b.add_host(1), 0, there, here)
        link = await add_quick_link(a.add_host(2), 0, here, there)
        watching = watch(a)
        await trio.sleep(1)
        assert link.diagnose().drops[DropCause.UNKNOWN_HOST].count
        assert not watching.shows_life(2)
        await trio.sleep(60)
        assert watching.shows_life(2)


async def test_a_word_that_comes_to_the_socket_of_a_link() -> None:
    """Somebody else's word about its address is no packet of another key."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((LOCALHOST, 0))
        async with open_handle(1, crypto=CRYPTO) as a:
            link = await add_quick_link(
                a.add_host(2), 0, (LOCALHOST, 0), (LOCALHOST, other.getsockname()[1])
            )
            other.sendto(write_word(Word(2, 3)), link.config.src)
            await wait_for(partial(is_refused, a))
            way = await report(watch(a, CRYPTO))
    assert way.astray == 3
    assert (way.unopened, way.differs) == (0, "")


async def test_a_good_link_has_nothing() -> None:
    async with open_pair(crypto=CRYPTO) as pair:
        link = pair.a.get_host(2).links[0]
        await wait_for(lambda: link.diagnose().path_mtu is not None)
        way = await report(watch(pair.a, CRYPTO))
    assert (way.unopened, way.differs, way.elsewhere, way.astray, way.errno) == (0, "", "", -1, 0)
    assert way.opened > 0


async def join(a: Handle, b: Handle) -> None:
    """Give hosts 1 and 2 a link to each other."""
    here = LOCALHOST, free_udp_port()
    mirror = await add_quick_link(b.add_host(1), 0, (LOCALHOST, 0), here)
    await add_quick_link(a.add_host(2), 0, here, mirror.config.src)
