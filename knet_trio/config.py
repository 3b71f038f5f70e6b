"""Settings: immutable, and checked when they are made."""

from __future__ import annotations

from collections.abc import Callable
from traceback import clear_frames
from typing import Any, Final

import attrs

from knet_trio._core.defrag import DEFAULT_BUFFERS
from knet_trio._core.liveness import (
    DEFAULT_LATENCY_SAMPLES,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_COUNT,
    DEFAULT_PONG_TIMEOUT,
)
from knet_trio._core.onwire import MAX_HOST_ID, MAX_LINKS, MAX_MESSAGE
from knet_trio.address import Address, AddressLike, to_address
from knet_trio.errors import InvalidArgumentError, NotImplementedByKnetError, is_integer, shown

MIN_KEY_SIZE: Final = 128
MAX_KEY_SIZE: Final = 4096
MAX_NAME_SIZE: Final = 255
MAX_PRIORITY: Final = 255
MAX_PONG_COUNT: Final = 255
MAX_LATENCY_SAMPLES: Final = 2**32 - 1
MIN_SECONDS: Final = 0.001
MAX_SECONDS: Final = 86400.0
LIKELY_MILLISECONDS: Final = 100.0
DEFAULT_COMPRESS_THRESHOLD: Final = 100
DEFAULT_RECEIVE_BUFFER: Final = 1024
DEFAULT_RECONNECT_INTERVAL: Final = 1.0
MIN_DEFRAG_BUFFERS: Final = 4
MAX_DEFRAG_BUFFERS: Final = 1024


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Return ``value`` if it is an integer from ``low`` to ``high``.

    Args:
        name: The name of the argument, for the error.
        value: The value.
        low: The smallest allowed value.
        high: The largest allowed value.

    Raises:
        InvalidArgumentError: It is not.
    """
    if is_integer(value) and low <= value <= high:
        return value
    raise InvalidArgumentError(f"{name} {shown(value)} is not an integer from {low} to {high}")


def check_boolean(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False.

    Args:
        name: The name of the argument, for the error.
        value: The value.

    Raises:
        InvalidArgumentError: It is not.
    """
    if isinstance(value, bool):
        return value
    raise InvalidArgumentError(f"{name} {shown(value)} is neither True nor False")


def check_seconds(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` if it is a number of seconds from ``low`` to ``high``.

    Args:
        name: The name of the argument, for the error.
        value: The value.
        low: The smallest allowed value.
        high: The largest allowed value.

    Raises:
        InvalidArgumentError: It is not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    raise InvalidArgumentError(f"{name} {shown(value)} is not {low:g} to {high:g} seconds")


def check_host_id(value: object) -> int:
    """Return ``value`` if it is a host id, else raise InvalidArgumentError."""
    return check_integer("host id", value, 0, MAX_HOST_ID)


def check_pong_timeout(value: object) -> float:
    """Return ``value`` if it is a pong timeout in seconds.

    Raises:
        InvalidArgumentError: It is not.
        NotImplementedByKnetError: It is 0, which libknet reserves for a calculated timeout.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        raise NotImplementedByKnetError(
            "a pong timeout of 0, calculated from the latency, is reserved: give it in seconds"
        )
    return check_seconds("pong_timeout", value, MIN_SECONDS, MAX_SECONDS)


_Validate = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _integer(low: int, high: int) -> _Validate:
    def validate(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
        check_integer(attribute.name, value, low, high)

    return validate


def _check_boolean(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    check_boolean(attribute.name, value)


def _check_text(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        # The value is not shown: it may be a key given as the wrong argument.
        raise InvalidArgumentError(f"{attribute.name} is {type(value).__name__}, not text")


def _to_destination(dst: AddressLike | None) -> Address | None:
    return None if dst is None else to_address(dst)


def _check_interval(_: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    check_seconds(attribute.name, value, MIN_SECONDS, MAX_SECONDS)


def _check_timeout(_: Any, __: attrs.Attribute[Any], value: object) -> None:
    check_pong_timeout(value)


def _check_key(_: Any, __: attrs.Attribute[Any], key: object) -> None:
    # Neither the key nor anything derived from it may be in the message.
    if not isinstance(key, bytes):
        raise InvalidArgumentError(f"the key is {type(key).__name__}, not bytes")
    if not MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE:
        raise InvalidArgumentError(
            f"the key has {len(key)} bytes; it takes {MIN_KEY_SIZE} to {MAX_KEY_SIZE},"
            f" the same on every host (os.urandom({MIN_KEY_SIZE}) makes one)"
        )


# The default cipher and hash.
_USUAL: Final = ("aes256", "sha256")
_USUAL_AEAD: Final = ("aes256-gcm", "none")
_BY_MODEL: Final = "by model"


def is_aead(model: object) -> bool:
    """Return whether ``model`` is ``aead``, which only knet_trio has."""
    return isinstance(model, str) and model.lower() == "aead"


@attrs.frozen
class CryptoConfig:
    """How packets are encrypted and authenticated; the same on every host.

    The names are checked by the handle that uses them. See knet_handle_crypto_set_config(3).

    Attributes:
        key: The shared key, 128 to 4096 bytes; never shown.
        cipher: ``aes128``, ``aes192`` or ``aes256``, in CBC mode; ``-ctr`` appended for CTR mode.
            ``none`` to authenticate only. With model ``aead``: ``aes256-gcm``,
            ``chacha20-poly1305`` or ``aes256-gcm-siv``. Default: ``aes256``, or ``aes256-gcm``.
        hash: ``md5``, ``sha1``, ``sha224`` (not with model ``nss``), ``sha256``, ``sha384`` or
            ``sha512``. With model ``aead``: ``none``. Default: ``sha256``, or ``none``.
        model: ``openssl``, ``nss`` or ``gcrypt``, which are the same on the wire, or ``aead``,
            which only knet_trio has: see ``docs/aead.md``.

    Raises:
        InvalidArgumentError: The key has a wrong size, or a name is not text.
    """

    key: bytes = attrs.field(repr=False, validator=_check_key)
    cipher: str = attrs.field(default="aes256", validator=_check_text)
    hash: str = attrs.field(default="sha256", validator=_check_text)
    model: str = attrs.field(default="openssl", validator=_check_text)

    def __init__(
        self,
        key: bytes,
        cipher: str = _BY_MODEL,
        hash: str = _BY_MODEL,
        model: str = "openssl",
    ) -> None:
        usual = _USUAL_AEAD if is_aead(model) else _USUAL
        cipher = usual[0] if cipher == _BY_MODEL else cipher
        hash = usual[1] if hash == _BY_MODEL else hash
        try:
            # Made by attrs for classes with an __init__ of their own.
            self.__attrs_init__(key, cipher, hash, model)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        except InvalidArgumentError as error:
            # The error keeps the frames it passed through, and so their variables: the key, which
            # may also have been given as another argument.
            clear_frames(error.__traceback__)
            del self, key, cipher, hash, model
            raise


@attrs.frozen
class CompressConfig:
    """How messages are compressed. See knet_handle_compress(3).

    The model and the level are checked by the handle that uses them.

    Attributes:
        model: ``zlib``, ``lz4``, ``lz4hc``, ``lzma``, ``bzip2``, ``zstd`` or ``lzo2``.
        level: The level, in the range of the algorithm. None: its default.
        threshold: Messages of up to this many bytes are not compressed. 0: the default, 100.

    Raises:
        InvalidArgumentError: The model is not text, or the threshold is out of range.
    """

    model: str = attrs.field(validator=_check_text)
    level: int | None = None
    threshold: int = attrs.field(
        default=DEFAULT_COMPRESS_THRESHOLD, validator=_integer(0, MAX_MESSAGE)
    )


@attrs.frozen
class LinkConfig:
    """The settings of a link. See knet_link_set_config(3) and the other knet_link_set pages.

    Attributes:
        link_id: The id of the link, 0 to 7, the same on both sides.
        src: The local address.
        dst: The address of the peer, None for a dynamic link.
        transport: The transport: ``udp``, ``sctp`` or ``loopback``.
        priority: The priority, 0 to 255. The passive policy uses the link with the highest.
        ping_interval: Seconds between pings.
        pong_timeout: Seconds without a pong after which the link is down.
        latency_samples: The number of round trips that the average latency is calculated from.
        pong_count: The link comes up with the pong after this many.
        high_priority: True if its packets are marked with a DSCP.
    """

    link_id: int = attrs.field(validator=_integer(0, MAX_LINKS - 1))
    src: Address = attrs.field(converter=to_address)
    dst: Address | None = attrs.field(converter=_to_destination)
    transport: str = attrs.field(default="udp", validator=_check_text)
    priority: int = attrs.field(default=0, validator=_integer(0, MAX_PRIORITY))
    ping_interval: float = attrs.field(default=DEFAULT_PING_INTERVAL, validator=_check_interval)
    pong_timeout: float = attrs.field(default=DEFAULT_PONG_TIMEOUT, validator=_check_timeout)
    latency_samples: int = attrs.field(
        default=DEFAULT_LATENCY_SAMPLES, validator=_integer(1, MAX_LATENCY_SAMPLES)
    )
    pong_count: int = attrs.field(default=DEFAULT_PONG_COUNT, validator=_integer(1, MAX_PONG_COUNT))
    high_priority: bool = attrs.field(default=False, validator=_check_boolean)

    def find_fault(self) -> str | None:
        """Return a probable mistake in the settings, each of them valid; None if there is none."""
        for name, seconds in (
            ("ping_interval", self.ping_interval),
            ("pong_timeout", self.pong_timeout),
        ):
            if seconds >= LIKELY_MILLISECONDS:
                return (
                    f"{name} is {seconds:g} s: give seconds, not milliseconds as in corosync.conf"
                )
        if self.pong_timeout >= self.ping_interval:
            return None
        return (
            f"pong_timeout ({self.pong_timeout:g} s) is shorter than ping_interval"
            f" ({self.ping_interval:g} s), so the link goes down between two pings, or never comes"
            " up: change them with set_ping_timers"
        )


@attrs.frozen
class DefragBuffers:
    """The number of messages of one host that may be incomplete at once.

    Memory is allocated when a fragment arrives and freed when its message is complete. If
    ``maximum`` messages are incomplete when another one begins, the one whose latest fragment is
    oldest is dropped and counted. See knet_handle_set_host_defrag_bufs(3).

    Attributes:
        minimum: 4 to 1024; without effect, as memory is allocated when needed. libknet has it.
        maximum: The limit, 4 to 1024.

    Raises:
        InvalidArgumentError: A number is out of range, or ``minimum`` is greater than ``maximum``.
    """

    minimum: int = attrs.field(
        default=DEFAULT_BUFFERS, validator=_integer(MIN_DEFRAG_BUFFERS, MAX_DEFRAG_BUFFERS)
    )
    maximum: int = attrs.field(
        default=DEFAULT_BUFFERS, validator=_integer(MIN_DEFRAG_BUFFERS, MAX_DEFRAG_BUFFERS)
    )

    def __attrs_post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise InvalidArgumentError(
                f"minimum {self.minimum} is greater than maximum {self.maximum}: exchange them"
            )
