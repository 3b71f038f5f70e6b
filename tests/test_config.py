from __future__ import annotations

import copy
import math
import traceback
from typing import Any

import attrs
import pytest

from knet_trio.address import Address
from knet_trio.config import (
    CompressConfig,
    CryptoConfig,
    LinkConfig,
    check_host_id,
    check_integer,
    check_seconds,
)
from knet_trio.errors import InvalidArgumentError, NotImplementedByKnetError

SRC = Address("10.0.0.1", 5405)
DST = Address("10.0.0.2", 5405)
# Nothing else in a message looks like it.
SECRET = "Zq7"


def link(**settings: Any) -> LinkConfig:
    defaults: dict[str, Any] = {"link_id": 0, "src": SRC, "dst": DST}
    return LinkConfig(**{**defaults, **settings})


KEY = SECRET.encode() * 100
Arguments = tuple[object, ...]


def held(error: BaseException) -> list[object]:
    """What is in the frames that ``error`` went through, but for the test's own."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    others = [frame for frame in frames if frame.f_code.co_filename != __file__]
    assert others
    values = [value for frame in others for value in frame.f_locals.values()]
    for other in (error.__cause__, error.__context__):
        if other is not None:
            values += held(other)
    return values


class TestCryptoConfig:
    @pytest.mark.parametrize(
        "arguments",
        [
            (KEY[:100],),
            (KEY * 100,),
            (KEY.decode(),),
            (KEY, None),
            (KEY, "aes256", 256),
            (KEY, "aes256", "sha256", b"openssl"),
            # In the wrong place.
            ("aes256", KEY),
            (KEY, KEY),
        ],
        ids=["short", "long", "text", "cipher", "hash", "model", "exchanged", "twice"],
    )
    def test_an_error_does_not_lead_to_the_key(self, arguments: Arguments) -> None:
        config: Any = CryptoConfig
        with pytest.raises(InvalidArgumentError) as caught:
            config(*arguments)
        assert not [value for value in held(caught.value) if SECRET in repr(value)]
        assert not [value for value in held(caught.value) if isinstance(value, CryptoConfig)]

    def test_nor_does_one_of_changing_it(self) -> None:
        config = CryptoConfig(KEY)
        with pytest.raises(InvalidArgumentError) as caught:
            attrs.evolve(config, key=KEY[:5])
        # What evolve() itself was called with is its caller's.
        ours = [value for value in held(caught.value) if value is not config]
        assert not [value for value in ours if value == KEY[:5]]

    def test_it_is_made_by_position_and_by_name(self) -> None:
        by_name = CryptoConfig(key=KEY, cipher="aes128", hash="md5", model="nss")
        assert CryptoConfig(KEY, "aes128", "md5", "nss") == by_name
        assert attrs.evolve(by_name, model="openssl").cipher == "aes128"
        assert copy.deepcopy(by_name) == by_name

    @pytest.mark.parametrize("size", [128, 129, 4095, 4096])
    def test_takes_a_key_of_the_right_size(self, size: int) -> None:
        assert len(CryptoConfig(b"k" * size).key) == size

    def test_defaults(self) -> None:
        config = CryptoConfig(b"k" * 128)
        assert (config.cipher, config.hash, config.model) == ("aes256", "sha256", "openssl")

    @pytest.mark.parametrize("size", [0, 1, 127, 4097])
    def test_refuses_another_size_and_says_what_to_do(self, size: int) -> None:
        with pytest.raises(
            InvalidArgumentError, match=rf"has {size} bytes.*128 to 4096.*os\.urandom\(128\)"
        ):
            CryptoConfig(b"k" * size)

    @pytest.mark.parametrize(
        "key", [SECRET * 50, bytearray(SECRET.encode() * 50), [SECRET] * 128, None, 128]
    )
    def test_refuses_another_type_by_its_name_alone(self, key: object) -> None:
        with pytest.raises(InvalidArgumentError, match="not bytes") as caught:
            CryptoConfig(key)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert type(key).__name__ in str(caught.value)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in repr(caught.value)

    @pytest.mark.parametrize("count", [1, 42, 1400])
    def test_a_key_of_the_wrong_size_is_not_shown(self, count: int) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            CryptoConfig(SECRET.encode() * count)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in repr(caught.value.args)

    def test_the_key_is_in_no_text(self) -> None:
        config = CryptoConfig(SECRET.encode() * 100)
        for text in (repr(config), str(config), f"{config}", f"{config!r}"):
            assert SECRET not in text
            assert "aes256" in text

    def test_is_frozen(self) -> None:
        config = CryptoConfig(SECRET.encode() * 100)
        with pytest.raises(attrs.exceptions.FrozenInstanceError) as caught:
            config.key = b"other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        assert SECRET not in repr(caught.value)

    @pytest.mark.parametrize("name", ["cipher", "hash", "model"])
    @pytest.mark.parametrize("value", [SECRET.encode() * 50, 256, None])
    def test_a_name_that_is_no_text_is_refused_and_not_shown(self, name: str, value: Any) -> None:
        with pytest.raises(InvalidArgumentError, match=f"{name} is .*, not text") as caught:
            CryptoConfig(b"k" * 128, **{name: value})
        assert SECRET not in str(caught.value)

    def test_evolving_it_checks_again(self) -> None:
        config = CryptoConfig(b"k" * 128)
        assert attrs.evolve(config, hash="sha1").key == config.key
        with pytest.raises(InvalidArgumentError):
            attrs.evolve(config, key=b"")


class TestCompressConfig:
    @pytest.mark.parametrize("threshold", [0, 1, 65536])
    def test_threshold(self, threshold: int) -> None:
        assert CompressConfig("zlib", threshold=threshold).threshold == threshold

    def test_defaults(self) -> None:
        assert CompressConfig("zlib") == CompressConfig("zlib", None, 100)

    @pytest.mark.parametrize("model", [1, None, b"zlib"])
    def test_a_model_that_is_no_text(self, model: Any) -> None:
        with pytest.raises(InvalidArgumentError, match=r"model is .*, not text"):
            CompressConfig(model)

    @pytest.mark.parametrize("threshold", [-1, 65537, 1.5, "100", True])
    def test_threshold_out_of_range(self, threshold: Any) -> None:
        with pytest.raises(InvalidArgumentError, match=r"threshold .* from 0 to 65536"):
            CompressConfig("zlib", threshold=threshold)


LIMITS = {
    "link_id": (0, 7),
    "priority": (0, 255),
    "latency_samples": (1, 2**32 - 1),
    "pong_count": (1, 255),
}


class TestLinkConfig:
    def test_defaults_are_those_of_libknet(self) -> None:
        config = link()
        assert config.transport == "udp"
        assert config.priority == 0
        assert config.ping_interval == 1.0
        assert config.pong_timeout == 2.0
        assert config.latency_samples == 2048
        assert config.pong_count == 5
        assert not config.high_priority

    @pytest.mark.parametrize("name", LIMITS)
    def test_integers_within_their_limits(self, name: str) -> None:
        for value in LIMITS[name]:
            assert getattr(link(**{name: value}), name) == value

    @pytest.mark.parametrize("name", LIMITS)
    def test_integers_past_their_limits(self, name: str) -> None:
        low, high = LIMITS[name]
        for value in (low - 1, high + 1, 1.0, "1", None, True):
            with pytest.raises(InvalidArgumentError) as caught:
                link(**{name: value})
            assert f"{name} {value!r} is not an integer from {low} to {high}" in str(caught.value)

    @pytest.mark.parametrize("name", ["ping_interval", "pong_timeout"])
    @pytest.mark.parametrize("value", [0.001, 1, 0.25, 86400])
    def test_seconds_within_their_limits(self, name: str, value: float) -> None:
        assert getattr(link(**{name: value}), name) == value

    @pytest.mark.parametrize("name", ["ping_interval", "pong_timeout"])
    @pytest.mark.parametrize(
        "value", [-1, 0.0009, 86400.1, math.inf, -math.inf, math.nan, "1", None, True]
    )
    def test_seconds_past_their_limits(self, name: str, value: object) -> None:
        with pytest.raises(InvalidArgumentError, match=rf"{name} .* not 0\.001 to 86400 seconds"):
            link(**{name: value})

    def test_a_transport_that_is_no_text(self) -> None:
        with pytest.raises(InvalidArgumentError, match="transport is int, not text"):
            link(transport=1)

    def test_an_interval_of_zero(self) -> None:
        with pytest.raises(InvalidArgumentError, match="ping_interval"):
            link(ping_interval=0)

    @pytest.mark.parametrize("value", [0, 0.0])
    def test_a_calculated_pong_timeout_is_reserved(self, value: float) -> None:
        with pytest.raises(NotImplementedByKnetError, match="reserved: give it in seconds"):
            link(pong_timeout=value)

    def test_is_frozen(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            link().priority = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


class TestChecks:
    def test_integer(self) -> None:
        assert check_integer("it", 5, 5, 5) == 5

    def test_seconds_become_a_float(self) -> None:
        assert isinstance(check_seconds("it", 1, 0, 1), float)

    @pytest.mark.parametrize("value", [0, 65535])
    def test_host_id(self, value: int) -> None:
        assert check_host_id(value) == value

    @pytest.mark.parametrize("value", [-1, 65536, "1", 1.0, True, None])
    def test_host_id_out_of_range(self, value: object) -> None:
        with pytest.raises(InvalidArgumentError, match=r"host id .* from 0 to 65535"):
            check_host_id(value)
