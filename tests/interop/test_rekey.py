"""Keys that change while messages flow both ways, and keys that do not fit."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio

from knet_trio import BusyError, CryptoConfig, DropCause
from tests.interop.c_node import CCrypto, CNode
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    Ours,
    Pair,
    Setup,
    Stream,
    exchange,
    finish_ours,
    finish_theirs,
    in_namespaces,
    number_of,
    on_loopback,
    open_ours,
    open_pair,
    open_theirs,
    stream_of,
    wait_c_link,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("segmentation")

# More than the minute after which a search for the path MTU that was disturbed is made again.
LIMIT: Final = 120.0
# Several packets at an MTU of 1500.
SIZE: Final = 3000
# A link that is down for a moment loses messages, which a busy machine must not be the reason of.
PATIENCE: Final = 4.0
INTERVAL: Final = 0.002
SOME: Final = 50
FOREVER: Final = 10**9


def new_crypto(cipher: str = "aes256", hash: str = "sha256") -> CCrypto:
    return CCrypto(key=os.urandom(1024), cipher=cipher, hash=hash)


def set_ours(ours: Ours, crypto: CCrypto, slot: int) -> None:
    config = CryptoConfig(crypto.key, crypto.cipher, crypto.hash, crypto.model)
    ours.handle.set_crypto(config, slot)


async def set_theirs(c: CNode, crypto: CCrypto, slot: int) -> None:
    await c.set_crypto(crypto.model, crypto.cipher, crypto.hash, crypto.key, slot)


class Flow:
    """Streams both ways. At its end all of them must have arrived, once and in order."""

    def __init__(self, pair: Pair, stream: Stream) -> None:
        self.pair = pair
        self._stream = stream
        self._theirs: list[int] = []

    async def some(self) -> None:
        """Until some more messages were sent from here and received from there."""
        await self._stream.flow(SOME)
        datas = await self.pair.ours.receive_count(SOME)
        self._theirs += [number_of(data, SIZE) for data in datas]

    async def finish(self) -> None:
        end = await self._stream.stop()
        assert await finish_ours(self.pair, SIZE) == list(range(end))
        end = await self.pair.c.stop_stream()
        self._theirs += await finish_theirs(self.pair, SIZE)
        assert self._theirs == list(range(end))


@asynccontextmanager
async def open_flow(setup: Setup) -> AsyncGenerator[Flow, None]:
    async with open_pair(setup) as pair, stream_of(pair.ours, SIZE, INTERVAL) as stream:
        await pair.c.start_stream(FOREVER, SIZE, interval=INTERVAL)
        flow = Flow(pair, stream)
        await flow.some()
        yield flow
        await flow.finish()


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("cipher", "hash", "data_mtu"),
    [("aes256", "sha256", 1397), ("aes128", "sha512", 1365), ("aes-256-ctr", "md5", 1413)],
)
async def test_rekey(
    namespaces: NamespacePair, first: str, cipher: str, hash: str, data_mtu: int
) -> None:
    old, new = new_crypto(), new_crypto(cipher, hash)
    with trio.fail_after(LIMIT):
        async with open_flow(in_namespaces(namespaces, crypto=old, pong_timeout=PATIENCE)) as flow:
            ours, c = flow.pair.ours, flow.pair.c
            set_ours(ours, new, 2)
            await set_theirs(c, new, 2)
            await flow.some()
            for side in ("ours", "theirs") if first == "ours" else ("theirs", "ours"):
                if side == "ours":
                    ours.handle.use_crypto(2)
                else:
                    await c.use_crypto(2)
                # With one side changed and the other not, both directions flow on.
                await flow.some()
            ours.handle.set_crypto(None, 1)
            with pytest.raises(BusyError):
                ours.handle.set_crypto(None, 2)
            await flow.some()
            await ours.wait_data_mtu(data_mtu)
            await c.wait_data_mtu(data_mtu)
            await flow.some()
            assert ours.handle.statistics().drops[DropCause.NOT_AUTHENTIC] == 0
            assert ours.host.links[0].status.stats.down_count == 0


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("aes-128-ctr", "aes-256-ctr"), ("aes256", "aes-256-ctr")],
)
async def test_another_cipher_under_the_same_key(
    namespaces: NamespacePair, first: str, before: str, after: str
) -> None:
    """The hash is right for both. The C library loses what comes in by the other; we do not."""
    key = os.urandom(1024)
    old, new = CCrypto(key=key, cipher=before), CCrypto(key=key, cipher=after)
    setup = in_namespaces(namespaces, crypto=old, pong_timeout=PATIENCE)
    with trio.fail_after(LIMIT):
        async with open_pair(setup) as pair:
            ours, c = pair.ours, pair.c
            received: list[int] = []

            async def some() -> None:
                datas = await ours.receive_count(SOME)
                received.extend(number_of(data, SIZE) for data in datas)

            await c.start_stream(FOREVER, SIZE, interval=INTERVAL)
            await some()
            set_ours(ours, new, 2)
            await set_theirs(c, new, 2)
            await some()
            for side in ("ours", "theirs") if first == "ours" else ("theirs", "ours"):
                if side == "ours":
                    ours.handle.use_crypto(2)
                else:
                    await c.use_crypto(2)
                await some()
            ours.handle.set_crypto(None, 1)
            await some()
            end = await c.stop_stream()
            received += await finish_theirs(pair, SIZE)
            assert received == list(range(end))
            for cause in (DropCause.NOT_AUTHENTIC, DropCause.WRONG_VERSION, DropCause.MALFORMED):
                assert ours.handle.statistics().drops[cause] == 0
            await exchange(pair, [b"both are there"])


async def test_many_rekeys() -> None:
    with trio.fail_after(LIMIT):
        async with open_flow(on_loopback(crypto=new_crypto(), pong_timeout=PATIENCE)) as flow:
            ours, c = flow.pair.ours, flow.pair.c
            for turn in range(6):
                slot = 2 - turn % 2
                new = new_crypto()
                set_ours(ours, new, slot)
                await set_theirs(c, new, slot)
                ours.handle.use_crypto(slot)
                await c.use_crypto(slot)
                await flow.some()


async def test_from_clear_to_crypto(namespaces: NamespacePair) -> None:
    crypto = new_crypto()
    with trio.fail_after(LIMIT):
        # As long as the C node sends in the clear what we send sealed, its pongs to us are no
        # packets at all. A busy machine may take longer for that than a second.
        async with open_flow(in_namespaces(namespaces, pong_timeout=PATIENCE)) as flow:
            ours, c = flow.pair.ours, flow.pair.c
            # Else the key in use would be the end of it.
            ours.handle.allow_clear_traffic = True
            set_ours(ours, crypto, 1)
            await set_theirs(c, crypto, 1)
            await flow.some()
            ours.handle.use_crypto(1)
            # The other side still sends in the clear.
            await flow.some()
            await c.use_crypto(1)
            await flow.some()
            ours.handle.allow_clear_traffic = False
            await c.clear_traffic(False)
            await flow.some()
            # The same goes for its answers to probes: a search from then may have found too little.
            ours.handle.pmtud_interval = 1.0
            await c.set_pmtud_interval(1)
            await ours.wait_data_mtu(1397)
            await c.wait_data_mtu(1397)
            await flow.some()
            # And back: slot 0 sends in the clear.
            ours.handle.allow_clear_traffic = True
            await c.clear_traffic(True)
            await c.use_crypto(0)
            await flow.some()
            ours.handle.use_crypto(0)
            await ours.wait_data_mtu(1446)
            await flow.some()
            assert ours.handle.statistics().tx_crypt_packets > 0


async def test_clear_packets_are_not_let_in() -> None:
    """The C node goes over to clear packets, which we do not allow."""
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=new_crypto(), pong_timeout=0.3)) as pair:
            ours, link = pair.ours, pair.ours.host.links[0]
            await pair.c.use_crypto(0)
            await pair.c.send_many([b"in the clear"] * SOME)
            await refused(ours, SOME)
            await link.wait_disconnected()
            assert "no crypto configuration opens it" in link.explain()
            await pair.c.use_crypto(1)
            await link.wait_connected()
            await wait_c_link(pair.c, 0, True)
            await pair.c.wait_reachable(OURS)
            await pair.c.send(b"sealed")
            assert await ours.receive_count(1) == [b"sealed"]


async def test_a_peer_that_takes_a_wrong_key() -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=new_crypto(), pong_timeout=0.3)) as pair:
            ours, link = pair.ours, pair.ours.host.links[0]
            await set_theirs(pair.c, new_crypto(), 2)
            await pair.c.use_crypto(2)
            await pair.c.send_many([b"under a wrong key"] * SOME)
            await refused(ours, SOME)
            await link.wait_disconnected()
            assert not ours.host.status.reachable
            assert "no crypto configuration opens it" in link.explain()
            with pytest.raises(trio.WouldBlock):
                ours.channel.receive_nowait()
            await pair.c.use_crypto(1)
            await link.wait_connected()
            await wait_c_link(pair.c, 0, True)
            await pair.c.wait_reachable(OURS)
            await pair.c.send(b"under the right one")
            assert await ours.receive_count(1) == [b"under the right one"]


async def test_a_peer_that_never_had_the_key() -> None:
    setup = on_loopback(crypto=new_crypto())
    with trio.fail_after(LIMIT):
        async with open_ours(setup) as ours, open_theirs(setup) as c:
            wrong = new_crypto()
            # The slot is in use, which only the older form of the call may replace.
            await c.handle_crypto(wrong.model, wrong.cipher, wrong.hash, wrong.key)
            link = ours.host.links[0]
            await refused(ours, 10)
            assert not link.status.connected
            assert "no crypto configuration opens it" in link.explain()
            assert not (await c.link_status(OURS, 0))["connected"]


async def refused(ours: Ours, count: int) -> None:
    """Until so many packets were not authentic."""
    await wait_for(lambda: ours.handle.statistics().drops.get(DropCause.NOT_AUTHENTIC, 0) >= count)
