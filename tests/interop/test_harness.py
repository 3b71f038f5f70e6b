"""The harness by itself: what the C library says to the C library."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio

from tests.interop import libknet
from tests.interop.c_node import CCrypto, CNode, CNodeDiedError, open_c_node
from tests.interop.conftest import OpenNamespaces, need
from tests.interop.namespaces import NamespacePair, inside
from tests.ports import free_udp_port

# More than the minute after which a search for the path MTU that was disturbed is made again.
LIMIT = 120.0
PORT = 5405
SIZES = (1, 99, 1446, 1447, 9000, 65535, 65536)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def two_nodes(
    pair: NamespacePair | None, crypto: CCrypto | None, addresses: tuple[str, str] | None = None
) -> AsyncGenerator[tuple[CNode, CNode], None]:
    """C nodes 1 and 2 with one link between them, each reachable to the other."""
    if addresses is None:
        assert pair is not None
        addresses = pair.v4(0, 0), pair.v4(1, 0)
    if pair is None:
        ends = [(address, free_udp_port(address)) for address in addresses]
        names: list[str | None] = [None, None]
    else:
        ends = [(address, PORT) for address in addresses]
        names = list(pair.names)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(open_c_node(1, namespace=names[0], crypto=crypto))
        two = await stack.enter_async_context(open_c_node(2, namespace=names[1], crypto=crypto))
        await one.add_host(2)
        # A new link waits ten times its pong timeout before it is called down.
        await one.add_link(2, 0, ends[0], ends[1], pong_timeout=0.4)
        await two.add_host(1)
        await two.add_link(1, 0, ends[1], ends[0], pong_timeout=0.4)
        await one.wait_reachable(2)
        await two.wait_reachable(1)
        yield one, two


async def exchange(one: CNode, two: CNode) -> None:
    for sender, receiver in ((one, two), (two, one)):
        sent = [os.urandom(size) for size in SIZES]
        for data in sent:
            await sender.send(data)
        assert await receiver.receive_count(len(sent)) == sent


@pytest.fixture(params=["clear", "nss", "openssl"])
def crypto(request: pytest.FixtureRequest, c_key: bytes) -> CCrypto | None:
    return None if request.param == "clear" else CCrypto(key=c_key, model=request.param)


def test_what_is_missing_skips_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    need(None)
    with pytest.raises(pytest.fail.Exception, match="apt-get install something"):
        need("apt-get install something")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install something"):
        need("apt-get install something")


def test_structures_have_the_sizes_of_the_c_library() -> None:
    sizes = {record: ctypes.sizeof(record) for record in libknet.EXPECTED_SIZES}
    assert sizes == dict(libknet.EXPECTED_SIZES)


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
async def test_loopback_exchange(crypto: CCrypto | None, addresses: tuple[str, str]) -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(None, crypto, addresses) as (one, two):
            await exchange(one, two)


def where() -> str:
    """The network namespace of the calling thread."""
    return os.readlink("/proc/thread-self/ns/net")


async def test_threads_leave_a_namespace_with_the_test(namespaces: NamespacePair) -> None:
    home = where()
    # One more than may have been begun before.
    count = 1 + sum(each.name.startswith("Trio thread") for each in threading.enumerate())
    places: list[str] = []

    async def look(together: threading.Barrier) -> None:
        def wait_and_look() -> str:
            together.wait(LIMIT)
            return where()

        places.append(await trio.to_thread.run_sync(wait_and_look))

    async def look_everywhere() -> set[str]:
        places.clear()
        together = threading.Barrier(count)
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(look, together)
        return set(places)

    with inside(namespaces.names[0]):
        there = where()
        assert there in await look_everywhere()
    assert await look_everywhere() == {home} != {there}


async def test_namespace_exchange_and_data_mtu(
    namespaces: NamespacePair, crypto: CCrypto | None
) -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(namespaces, crypto) as (one, two):
            expected = 1446 if crypto is None else 1397
            assert await one.wait_data_mtu(expected) == await one.data_mtu()
            assert await two.wait_data_mtu(expected) == await two.data_mtu()
            await exchange(one, two)
            status = await one.link_status(2, 0)
            assert status["connected"] == 1
            assert status["dst_ipaddr"] == namespaces.v4(1, 0)
            assert status["stats"]["tx_data_packets"] >= len(SIZES)
            statistics = await one.statistics()
            assert (statistics["tx_crypt_packets"] > 0) is (crypto is not None)


@pytest.mark.parametrize("family", ["v6", "link-local"])
async def test_namespace_ipv6(namespaces: NamespacePair, family: str) -> None:
    address = namespaces.v6 if family == "v6" else namespaces.link_local
    with trio.fail_after(LIMIT):
        async with two_nodes(namespaces, None, (address(0, 1), address(1, 1))) as (one, two):
            await one.wait_data_mtu(1426)
            await exchange(one, two)


async def test_other_mtu(open_namespaces: OpenNamespaces) -> None:
    with trio.fail_after(LIMIT), open_namespaces(1, mtu=9000) as pair:
        async with two_nodes(pair, None) as (one, _):
            assert await one.wait_data_mtu(lambda mtu: mtu > 1446) == 8946


async def test_streams_and_commands_at_once() -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
            await one.start_stream(50, 100, interval=0.001, start=7)
            assert await one.data_mtu() > 0
            assert await one.wait_stream_done() == 50
            for number in range(7, 57):
                assert await two.receive() == (0, number.to_bytes(8, "big") + bytes(92))
            await one.start_stream(10**9, 8, interval=0.001)
            await two.receive_count(3)
            sent = await one.stop_stream()
            assert await one.wait_stream_done() == sent
            await two.receive_count(sent - 3)
            await one.send_many([b"a", b"b"])
            assert await two.receive_count(2) == [b"a", b"b"]


async def test_channels_and_filter() -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
            assert await one.add_channel(5) == 5
            assert await two.add_channel(5) == 5
            await one.send(b"five", 5)
            assert await two.receive() == (5, b"five")
            await one.set_filter([2], tx_channel=5)
            await one.send(b"moved")
            assert await two.receive() == (5, b"moved")
            await one.send_sync(b"in step", 5)
            assert await two.receive() == (5, b"in step")
            await one.set_filter("error")
            with pytest.raises(OSError, match="knet_send_sync") as caught:
                await one.send_sync(b"refused")
            assert caught.value.errno == errno.EFAULT
            await one.set_filter(None)
            await one.send(b"again")
            assert await two.receive() == (0, b"again")


async def test_own_host_over_loopback() -> None:
    with trio.fail_after(LIMIT):
        async with open_c_node(1) as node:
            await node.add_host(1)
            await node.add_link(
                1, 0, ("127.0.0.1", PORT), ("127.0.0.1", PORT), transport="loopback"
            )
            await node.send(b"to myself")
            assert await node.receive() == (0, b"to myself")
        assert node.returncode == 0


async def test_compression() -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
            await one.set_compress("zlib", 6, 1)
            await one.send(b"z" * 5000)
            assert await two.receive() == (0, b"z" * 5000)
            assert (await one.statistics())["tx_compressed_packets"] == 1
            assert (await two.statistics())["rx_compressed_packets"] == 1


async def test_errors_keep_their_errno() -> None:
    with trio.fail_after(LIMIT):
        async with open_c_node(1) as node:
            await node.add_host(2, name="two", policy="active")
            with pytest.raises(OSError, match="knet_host_add") as caught:
                await node.add_host(2)
            assert caught.value.errno == errno.EEXIST
            assert (await node.host_status(2))["reachable"] == 0


async def test_the_c_library_logs_to_us() -> None:
    with trio.fail_after(LIMIT):
        async with open_c_node(1, log_level="debug") as node:
            await node.add_host(2)
            # The log and the answers come by different ways.
            await node.wait_until(lambda: "host" in {line.subsystem for line in node.logs})
            assert "log: [host]" in node.report()


async def test_restart(namespaces: NamespacePair) -> None:
    ends = [(namespaces.v4(side, 0), PORT) for side in (0, 1)]
    with trio.fail_after(LIMIT):
        async with open_c_node(1, namespace=namespaces.names[0]) as one:
            await one.add_host(2)
            await one.add_link(2, 0, ends[0], ends[1])
            for _ in range(2):
                async with open_c_node(2, namespace=namespaces.names[1]) as two:
                    await two.add_host(1)
                    await two.add_link(1, 0, ends[1], ends[0])
                    await one.wait_reachable(2)
                    await two.wait_reachable(1)
                    await two.send(b"here")
                    assert await one.receive() == (0, b"here")
                assert two.returncode == 0
                assert not process_exists(two.pid)
                await one.wait_unreachable(2)


async def test_kill() -> None:
    async def waits(
        wait: Callable[[], Awaitable[object]], task_status: trio.TaskStatus[None]
    ) -> None:
        task_status.started()
        with pytest.raises(CNodeDiedError, match="status -9"):
            await wait()

    with trio.fail_after(LIMIT):
        async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
            async with trio.open_nursery() as nursery:
                await nursery.start(waits, two.receive)
                await nursery.start(waits, partial(two.wait_reachable, 1234))
                await nursery.start(waits, partial(two.wait_data_mtu, 1))
                await two.kill()
            assert not process_exists(two.pid)
            with pytest.raises(CNodeDiedError):
                await two.data_mtu()
            with pytest.raises(CNodeDiedError):
                await two.wait_reachable(1234)
            await one.wait_unreachable(2)


async def test_suspend() -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
            two.suspend()
            await one.wait_unreachable(2)
            two.resume()
            await one.wait_reachable(2)
            two.suspend()
        assert not process_exists(two.pid)


async def test_a_cancelled_block_leaves_no_process() -> None:
    pids: list[int] = []
    with trio.fail_after(LIMIT):
        with trio.CancelScope() as scope:
            async with two_nodes(None, None, ("127.0.0.1", "127.0.0.1")) as (one, two):
                pids = [one.pid, two.pid]
                await one.start_stream(10**9, 65536)
                scope.cancel()
                await trio.sleep_forever()
    assert len(pids) == 2
    assert not any(process_exists(pid) for pid in pids)


async def test_namespaces_break_and_mend(namespaces: NamespacePair) -> None:
    with trio.fail_after(LIMIT):
        async with two_nodes(namespaces, None) as (one, two):
            namespaces.drop(0)
            await one.wait_unreachable(2)
            await two.wait_unreachable(1)
            namespaces.undrop(0)
            await one.wait_reachable(2)
            await two.wait_reachable(1)
            namespaces.set_link(0, up=False)
            await two.wait_unreachable(1)
            namespaces.set_link(0, up=True)
            await two.wait_reachable(1)


def test_the_thread_is_inside_and_the_namespaces_go(open_namespaces: OpenNamespaces) -> None:
    with open_namespaces(1) as pair:
        names = pair.names
        for side in (0, 1):
            with pair.inside(side), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                assert [name for _, name in socket.if_nameindex() if name != "lo"] == ["veth0"]
            # The socket stays where it was made: only there can it have this address.
            with pair.inside(side), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                made.bind((pair.v4(side, 0), 0))
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
            pytest.raises(OSError, match="Cannot assign requested address"),
        ):
            outside.bind((pair.v4(0, 0), 0))
    assert not any(os.path.exists(f"/run/netns/{name}") for name in names)


def test_the_namespaces_go_after_a_failure(open_namespaces: OpenNamespaces) -> None:
    names: list[str] = []

    def fail() -> None:
        with open_namespaces(1) as pair:
            names.extend(pair.names)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(names) == 2
    assert not any(os.path.exists(f"/run/netns/{name}") for name in names)
