"""What there is to choose from."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import pytest

from knet_trio import (
    CompressConfig,
    CryptoConfig,
    InvalidArgumentError,
    _compress,
    get_cipher_list,
    get_compress_list,
    get_crypto_list,
    get_hash_list,
    get_transport_id,
    get_transport_list,
    get_transport_name,
    open_handle,
)
from tests.cluster import KEY, LOCALHOST
from tests.kernel import kernel_has_sctp


def test_transports_are_listed_in_the_order_of_their_ids() -> None:
    names = get_transport_list()
    assert names[:2] == ["loopback", "udp"]
    ids = [get_transport_id(name) for name in names]
    assert ids == sorted(ids)
    assert [get_transport_name(number) for number in ids] == names


def test_transports_have_libknets_ids_however_the_name_is_written() -> None:
    assert get_transport_id("loopback") == get_transport_id("LOOPBACK") == 0
    assert get_transport_id("udp") == get_transport_id("UDP") == 1


@pytest.mark.parametrize("name", ["", "tcp", "carrier pigeon", 5, None])
def test_a_name_that_no_transport_has(name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"loopback \(0\), udp \(1\)"):
        get_transport_id(name)


@pytest.mark.parametrize("number", [-1, 3, 255, True, "udp", None])
def test_an_id_that_no_transport_has(number: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"loopback \(0\), udp \(1\)"):
        get_transport_name(number)


async def test_every_transport_can_be_asked_for() -> None:
    async with open_handle(1) as handle:
        hosts = {"loopback": 1, "udp": 2, "sctp": 3}
        assert list(hosts) == get_transport_list()
        for name, host_id in hosts.items():
            host = handle.add_host(host_id)
            if name == "sctp" and not kernel_has_sctp():
                continue
            link = await host.add_link(
                0, (LOCALHOST, 0), (LOCALHOST, 1), transport=name, enabled=False
            )
            assert link.config.transport == name


@pytest.mark.parametrize("model", get_crypto_list())
@pytest.mark.parametrize("hash_name", get_hash_list())
async def test_every_model_and_hash_can_be_used(model: str, hash_name: str) -> None:
    config = CryptoConfig(KEY, model=model, hash=hash_name)
    if (model, hash_name) == ("nss", "sha224"):
        with pytest.raises(InvalidArgumentError, match="nss"):
            async with open_handle(1, crypto=config):
                pytest.fail("the NSS library has no such hash")
        return
    async with open_handle(1, crypto=config) as handle:
        assert handle.data_mtu > 0


@pytest.mark.parametrize("cipher", get_cipher_list())
async def test_every_cipher_can_be_used(cipher: str) -> None:
    async with open_handle(1, crypto=CryptoConfig(KEY, cipher=cipher)) as handle:
        assert handle.data_mtu > 0


@pytest.mark.parametrize("cipher", get_cipher_list("aead"))
async def test_every_cipher_of_the_model_that_libknet_lacks(cipher: str) -> None:
    (hash_name,) = get_hash_list("aead")
    config = CryptoConfig(KEY, cipher, hash_name, "aead")
    async with open_handle(1, crypto=config) as handle:
        # Of 1500 bytes 94 are for headers, the envelope's 40 among them.
        handle.mtu = 1500
        assert handle.data_mtu > 0


def test_the_names_of_crypto_are_libknets() -> None:
    assert set(get_crypto_list()) >= {"openssl", "nss"}
    assert set(get_cipher_list()) == {
        f"aes{dash}{bits}{mode}"
        for dash in ("", "-")
        for bits in (128, 192, 256)
        for mode in ("", "-cbc", "-ctr")
    }
    assert set(get_hash_list()) >= {"md5", "sha1", "sha256", "sha384", "sha512"}


@pytest.mark.parametrize("model", get_compress_list())
async def test_every_compression_that_is_listed_can_be_used(model: str) -> None:
    async with open_handle(1, compress=CompressConfig(model)) as handle:
        handle.set_compress(CompressConfig(model))


def test_compression_whose_library_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = ["zlib", "lz4", "lz4hc", "lzma", "bzip2"]
    assert [model for model in get_compress_list() if model in everywhere] == everywhere
    for module, library in (("lzo2", "lzo"), ("zstd", "backports"), ("zstd", "compression")):
        monkeypatch.delitem(sys.modules, f"knet_trio._compress.{module}", raising=False)
        monkeypatch.setitem(sys.modules, library, None)
    # As in a new process: what was tried before is remembered.
    monkeypatch.setattr("knet_trio._compress._load", cache(_compress._load.__wrapped__))  # pyright: ignore[reportPrivateUsage]
    assert get_compress_list() == everywhere


def test_a_list_is_the_callers_own() -> None:
    for get in (
        get_transport_list,
        get_crypto_list,
        get_cipher_list,
        get_hash_list,
        get_compress_list,
    ):
        before = get()
        get().clear()
        assert get() == before
