"""Messages of all sizes, both ways, under every envelope and over every kind of address."""

from __future__ import annotations

import os
from typing import Final

import pytest
import trio

from knet_trio import CryptoConfig
from knet_trio._core.onwire import MAX_MESSAGE
from knet_trio._state.data_mtu import DataMtus
from knet_trio.errors import DropCause
from tests.interop.c_node import CCrypto
from tests.interop.conftest import Segmentation
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    Pair,
    connect,
    exchange,
    in_namespaces,
    on_loopback,
    open_ours,
    open_pair,
    open_theirs,
)

pytestmark = pytest.mark.usefixtures("segmentation")

# More than the minute after which a search for the path MTU that was disturbed is made again.
LIMIT: Final = 120.0
SIZES: Final = (1, 100, 1446, 5000, 65536)
HASHES: Final = ("md5", "sha1", "sha256", "sha384", "sha512")
CIPHERS: Final = ("aes128", "aes192", "aes256", "aes-256-cbc", "aes-256-ctr")


def messages() -> list[bytes]:
    return [os.urandom(size) for size in SIZES]


@pytest.fixture(params=["clear", "encrypted"])
def crypto(request: pytest.FixtureRequest, c_key: bytes) -> CCrypto | None:
    return None if request.param == "clear" else CCrypto(key=c_key)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_loopback(address: str, crypto: CCrypto | None) -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(address, crypto=crypto)) as pair:
            await exchange(pair, messages())


def lengths_about(fragments: int, mtu: int) -> list[int]:
    """Lengths that take so many fragments, or one more: equal ones, and the last much shorter."""
    most = fragments * mtu
    least = most - mtu + 1
    lengths = (least, least + 1, least + mtu // 2, most - fragments, most - 1, most, most + 1)
    # Each several times, so that they go out together.
    return [length for length in lengths if 0 < length <= MAX_MESSAGE for _ in range(3)]


# The narrow one is narrower than any path, so that there are as many fragments as are ever sent.
@pytest.mark.parametrize(("mtu", "counts"), [(1397, (1, 2, 3, 46)), (259, (2, 5, 126, 253, 254))])
async def test_any_number_of_fragments(
    mtu: int, counts: tuple[int, ...], crypto: CCrypto | None, monkeypatch: pytest.MonkeyPatch
) -> None:

    def smallest(*_: object) -> int:
        return mtu

    monkeypatch.setattr(DataMtus, "smallest", smallest)
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=crypto)) as pair:
            widest = 1500 if mtu > 1000 else 576
            await pair.c.set_mtu(widest)
            theirs = await pair.c.wait_data_mtu(lambda found: widest / 2 < found < widest)
            assert pair.ours.handle.data_mtu == mtu
            for fragments in counts:
                datas = [os.urandom(length) for length in lengths_about(fragments, mtu)]
                await pair.ours.channel.send_many(datas)
                assert await pair.c.receive_count(len(datas)) == datas
                datas = [os.urandom(length) for length in lengths_about(fragments, theirs)]
                await pair.c.send_many(datas)
                assert await pair.ours.receive_count(len(datas)) == datas
            assert not pair.ours.handle.statistics().drops[DropCause.BAD_FRAGMENT]


async def test_fragments_of_several_messages_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the clear all but the last ones of several go first, as these are shorter."""

    def smallest(*_: object) -> int:
        return 1397

    monkeypatch.setattr(DataMtus, "smallest", smallest)
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback()) as pair:
            for length in (1399, 2795, 8192, 21 * 1397 + 1):
                datas = [os.urandom(length) for _ in range(40)]
                await pair.ours.channel.send_many(datas)
                assert await pair.c.receive_count(len(datas)) == datas


async def change_crypto(pair: Pair, config: CCrypto, slot: int) -> None:
    """Have both sides use that in the slot, and forget the other slot."""
    handle, c, other = pair.ours.handle, pair.c, 3 - slot
    handle.set_crypto(CryptoConfig(config.key, config.cipher, config.hash, config.model), slot)
    await c.set_crypto(config.model, config.cipher, config.hash, config.key, slot)
    handle.use_crypto(slot)
    await c.use_crypto(slot)
    # What the other slot could open must not pass for what this one opened.
    handle.set_crypto(None, other)
    await c.set_crypto("none", "none", "none", config.key, other)


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_openssl_with_every_hash(cipher: str) -> None:
    configs = [CCrypto(key=os.urandom(1024), cipher=cipher, hash=hash) for hash in HASHES]
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=configs[0])) as pair:
            for i, config in enumerate(configs):
                if i:
                    await change_crypto(pair, config, slot=1 + i % 2)
                pair.ours.handle.clear_statistics()
                await exchange(pair, messages())
                statistics = pair.ours.handle.statistics()
                assert statistics.tx_crypt_packets >= len(SIZES)
                assert statistics.rx_crypt_packets >= len(SIZES)


async def test_nss(c_key: bytes) -> None:
    crypto = CCrypto(key=c_key, cipher="aes256", hash="sha384", model="nss")
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=crypto)) as pair:
            await exchange(pair, messages())


@pytest.mark.parametrize("size", [128, 4096])
async def test_keys_of_the_smallest_and_the_largest_size(size: int) -> None:
    with trio.fail_after(LIMIT):
        async with open_pair(on_loopback(crypto=CCrypto(key=os.urandom(size)))) as pair:
            await exchange(pair, messages())


# At an MTU of 1500, by IP version and whether there is crypto.
DATA_MTUS: Final = {
    ("v4", False): 1446,
    ("v4", True): 1397,
    ("v6", False): 1426,
    ("v6", True): 1365,
}


@pytest.mark.parametrize("family", ["v4", "v6"])
async def test_path_mtu(
    namespaces: NamespacePair, family: str, crypto: CCrypto | None, segmentation: Segmentation
) -> None:
    address = namespaces.v4 if family == "v4" else namespaces.v6
    expected = DATA_MTUS[family, crypto is not None]
    with trio.fail_after(LIMIT):
        async with open_pair(in_namespaces(namespaces, address=address, crypto=crypto)) as pair:
            # Both before the MTUs are known and after.
            await exchange(pair, messages())
            await pair.ours.wait_data_mtu(expected)
            await pair.c.wait_data_mtu(expected)
            await exchange(pair, messages())
            ours = pair.ours.host.links[0].status
            theirs = await pair.c.link_status(OURS, 0)
            assert ours.mtu == theirs["mtu"] == expected
            assert ours.proto_overhead == theirs["proto_overhead"]
            # The first probe is refused for its size: that is neither an error nor a probe sent.
            probes = ours.stats.tx_pmtu_packets
            assert ours.stats.tx_pmtu_errors == 0
            assert 0 < ours.stats.tx_pmtu_bytes <= 1500 * probes
    assert (segmentation.longest > 1) is segmentation.offloaded


async def test_link_local(namespaces: NamespacePair, crypto: CCrypto | None) -> None:
    setup = in_namespaces(namespaces, address=namespaces.link_local, crypto=crypto)
    with trio.fail_after(LIMIT):
        async with open_theirs(setup) as c:
            # Interface names mean something in their own namespace only.
            with namespaces.inside(0):
                async with open_ours(setup) as ours:
                    await connect(ours, c)
                    await exchange(Pair(setup, ours, c), messages())
