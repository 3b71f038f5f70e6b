"""A tap of ours and a nozzle of a corosync that runs make one Ethernet."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import trio

from knet_trio import DropCause
from knet_trio.cluster import load_cluster, open_cluster
from knet_trio.tap import open_cluster_tap
from tests.cluster import KEY, PATIENCE
from tests.cluster.files import write_key
from tests.cluster.running_corosync import corosync_missing, running
from tests.interop.conftest import need
from tests.interop.namespaces import NamespacePair, namespace_pair

ADDRESSES: Final = ("10.66.0.1", "10.66.0.2")
PORT: Final = 7000
FILE: Final = """
totem {{
    version: 2
    cluster_name: nozzled
    transport: knet
    crypto_cipher: aes256
    crypto_hash: sha256
    keyfile: {key}
    token: 1000
}}
nodelist {{
    node {{
        ring0_addr: {first}
        nodeid: 1
        name: alpha
    }}
    node {{
        ring0_addr: {second}
        nodeid: 2
        name: beta
    }}
}}
nozzle {{
    name: noz0
    ipaddr: 10.66.0.0
    ipprefix: 24
}}
"""


async def answer(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(bytes(data).upper())


async def listen(pair: NamespacePair, side: int, address: str) -> trio.SocketListener:
    with pair.inside(side):
        listening = trio.socket.socket()
    listening.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
    await listening.bind((address, PORT))
    listening.listen()
    return trio.SocketListener(listening)


async def ask(pair: NamespacePair, side: int, address: str, text: bytes) -> bytes:
    with pair.inside(side):
        asking = trio.socket.socket()
    await asking.connect((address, PORT))
    async with trio.SocketStream(asking) as stream:
        await stream.send_all(text)
        answer = b""
        while len(answer) < len(text):
            answer += await stream.receive_some()
        return answer


@pytest.mark.usefixtures("taps")
async def test_tcp_goes_both_ways_between_a_nozzle_and_a_tap(tmp_path: Path) -> None:
    need(corosync_missing())
    key = write_key(tmp_path / "key", KEY[:256])
    with namespace_pair(1) as pair:
        text = FILE.format(first=pair.v4(0, 0), second=pair.v4(1, 0), key=key)
        path = tmp_path / "corosync.conf"
        path.write_text(text)
        with running(pair, text, tmp_path):
            async with AsyncExitStack() as stack:
                with pair.inside(1):
                    opening = open_cluster(load_cluster(path), host="beta")
                    handle = await stack.enter_async_context(opening)
                    tap = await stack.enter_async_context(open_cluster_tap(handle))
                # corosync sends to the host whose id the address ends with.
                assert tap.mac == "54:54:01:00:00:02"
                with trio.fail_after(PATIENCE):
                    await handle.hosts[1].wait_reachable()
                    await talk(pair)
            # What it says to itself stays out of the Ethernet.
            drops = handle.statistics().drops
            assert {cause for cause in drops if drops[cause]} <= {DropCause.NO_CHANNEL}


async def talk(pair: NamespacePair) -> None:
    async with trio.open_nursery() as nursery:
        for side, address in enumerate(ADDRESSES):
            listener = await listen(pair, side, address)
            await nursery.start(trio.serve_listeners, answer, [listener])
        for side, address in enumerate(reversed(ADDRESSES)):
            # From the beginning of a connection to windows of many frames.
            for text in (b"hello", b"hello" * 20_000):
                assert await ask(pair, side, address, text) == text.upper()
        nursery.cancel_scope.cancel()
