"""The keys of a cluster file, with their checks and defaults.

``docs/cluster-file.md`` describes the keys; a test compares the page with the tables here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import attrs

from knet_trio._catalogue import get_transport_list
from knet_trio._core.acl import AclEntry
from knet_trio._core.liveness import (
    DEFAULT_LATENCY_SAMPLES,
    DEFAULT_PING_INTERVAL,
    DEFAULT_PONG_COUNT,
    DEFAULT_PONG_TIMEOUT,
)
from knet_trio._core.onwire import MAX_CHANNELS
from knet_trio._core.pmtud import DEFAULT_INTERVAL
from knet_trio._core.policy import LinkPolicy
from knet_trio._devices import check_device_name
from knet_trio._logs.names import LogLevel
from knet_trio._settings import (
    check_accept_compression,
    check_dscp,
    check_mtu,
    check_pmtud_interval,
    check_reconnect_interval,
)
from knet_trio._transport import LOOPBACK
from knet_trio.address import Address, parse_address_like
from knet_trio.cluster.records import DEFAULT_PORT, DEFAULT_SOCKET_MODE, PLACES, fill_in
from knet_trio.config import (
    DEFAULT_COMPRESS_THRESHOLD,
    DEFAULT_RECEIVE_BUFFER,
    DEFAULT_RECONNECT_INTERVAL,
    MAX_LATENCY_SAMPLES,
    MAX_NAME_SIZE,
    MAX_PONG_COUNT,
    MAX_PRIORITY,
    MAX_SECONDS,
    MIN_SECONDS,
    check_boolean,
    check_host_id,
    check_integer,
    check_pong_timeout,
    check_seconds,
)
from knet_trio.errors import InvalidArgumentError, shown

Check: TypeAlias = Callable[[object], Any]
"""A function that converts a value for the records, or raises InvalidArgumentError."""

# The longest path of a Unix socket in bytes, without the zero byte at its end.
MAX_SOCKET_PATH: Final = 107
_MAX_FD: Final = 2**31 - 1


@attrs.frozen
class Key:
    """A key of a table.

    Attributes:
        name: The name of the key.
        check: Checks and converts the value.
        default: The value if the key is missing, as in the records.
        required: True if the key must be present.
    """

    name: str
    check: Check
    default: object = None
    required: bool = False


def suggest(word: str, known: Sequence[str]) -> str:
    """Return the advice for an unknown word: the nearest known one, or all of them."""
    if not known:
        return "there are none"
    close = get_close_matches(word.lower(), known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"use one of {', '.join(known)}" if len(known) > 1 else f"use {known[0]}"


def check_text(value: object) -> str:
    """Return ``value`` if it is text that is not empty."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{shown(value)} is not text: write it in quotation marks")
    if not value:
        raise InvalidArgumentError("the text is empty: fill it in, or leave the key out")
    if "\0" in value:
        raise InvalidArgumentError(f"{shown(value)} has a zero byte: remove it")
    return value


def check_any(value: object) -> object:
    """Return ``value``, which is checked elsewhere."""
    return value


def check_name(value: object) -> str:
    """Return ``value`` if it can be the name of a host."""
    name = check_text(value)
    size = len(name.encode())
    if size > MAX_NAME_SIZE:
        raise InvalidArgumentError(f"the name has {size} bytes: use 1 to {MAX_NAME_SIZE}")
    if not name.isprintable():
        # Names appear in logs and on terminals, which such characters could break or control.
        raise InvalidArgumentError(f"{name!r} has characters that cannot be printed: remove them")
    return name


def check_socket(value: object) -> Path:
    """Return ``value`` as the path of a Unix socket on any host."""
    text = check_template(value)
    size = measure_socket(text)
    if size > MAX_SOCKET_PATH:
        raise InvalidArgumentError(
            f"the path of the socket has {size} bytes: use at most {MAX_SOCKET_PATH}"
        )
    return Path(text)


def measure_socket(path: str | Path) -> int:
    """Return the length of a socket's path in bytes, on the host where it is the longest."""
    return len(os.fsencode(fill_in(str(path), 0xFFFF)))


def check_mode(value: object) -> str:
    """Return ``value`` if it is the mode of a file, in octal digits."""
    text = check_text(value)
    if not re.fullmatch("0?[0-7]{3}", text):
        raise InvalidArgumentError(
            f"{shown(text)} is not the mode of a file: write three octal digits, such as '0660'"
        )
    return text


def check_entry(value: object) -> AclEntry:
    """Return the entry of an access list that ``value`` describes.

    The value is an address, a network or ``first-last``; ``!`` before it makes it a refusal.
    """
    text = check_text(value)
    accept = not text.startswith("!")
    text = text.removeprefix("!").strip()
    first, dash, last = text.partition("-")
    if dash:
        return AclEntry.range(first.strip(), last.strip(), accept=accept)
    if "/" in text:
        return AclEntry.network(text, accept=accept)
    return AclEntry.address(text, accept=accept)


def check_listen(value: object) -> Address:
    """Return the address and port that ``value`` describes."""
    address = parse_address_like(check_text(value))
    if not address.port:
        raise InvalidArgumentError(
            f"{shown(value)} has no port to listen at: add one, such as ':9905'"
        )
    return address


def check_template(value: object) -> str:
    """Return ``value`` if it is a valid template of an address or a path for any host."""
    text = check_text(value)
    rest = PLACES.sub("", text)
    if "{" in rest or "}" in rest:
        raise InvalidArgumentError(
            f"{shown(value)} is not valid: only {{id}}, {{high}} and {{low}} may be in braces;"
            " write {id} for the host's id"
        )
    return text


def check_transport(value: object) -> str:
    """Return ``value`` in lower case if links between hosts can use that transport."""
    text = check_text(value)
    known = [name for name in get_transport_list() if name != LOOPBACK]
    if text.lower() == LOOPBACK:
        raise InvalidArgumentError(
            "loopback only leads to this host itself: write loopback = true in [cluster] instead"
        )
    if text.lower() not in known:
        raise InvalidArgumentError(f"{shown(text)} is not a transport: {suggest(text, known)}")
    return text.lower()


_POLICIES: Final = {
    "passive": LinkPolicy.PASSIVE,
    "active": LinkPolicy.ACTIVE,
    "round_robin": LinkPolicy.ROUND_ROBIN,
    "round-robin": LinkPolicy.ROUND_ROBIN,
}


def check_policy(value: object) -> LinkPolicy:
    """Return the policy of that name."""
    text = check_text(value)
    policy = _POLICIES.get(text.lower())
    if policy is None:
        known = ("passive", "active", "round_robin")
        raise InvalidArgumentError(f"{shown(text)} is not a policy: {suggest(text, known)}")
    return policy


def check_level(value: object) -> str:
    """Return the name of that log level."""
    text = check_text(value)
    known = [level.name.lower() for level in LogLevel]
    if text.lower() not in known:
        raise InvalidArgumentError(f"{shown(text)} is not a log level: {suggest(text, known)}")
    return text.lower()


def check_function(value: object) -> str:
    """Return ``value`` if it names a function as ``module:function``."""
    text = check_text(value)
    module, _, function = text.partition(":")
    if all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        return text
    raise InvalidArgumentError(
        f"{shown(value)} does not name a function: write 'package.module:function'"
    )


def check_models(value: object) -> tuple[str, ...]:
    """Return ``value`` if it is a list of names of compressors."""
    if not isinstance(value, list):
        raise InvalidArgumentError(
            f"{shown(value)} is not a list: write one, such as ['zlib', 'lz4']"
        )
    names = tuple(cast("list[str]", value))
    check_accept_compression(names)
    return names


def _integer(name: str, low: int, high: int) -> Check:
    return lambda value: check_integer(name, value, low, high)


def _boolean(name: str) -> Check:
    return lambda value: check_boolean(name, value)


def _mtu(value: object) -> int | None:
    return check_mtu(cast("int | None", value))


def _dscp(value: object) -> int:
    return check_dscp(cast("int", value))


def _pmtud_interval(value: object) -> float:
    return check_pmtud_interval(cast("float", value))


def _reconnect_interval(value: object) -> float:
    return check_reconnect_interval(cast("float", value))


def _seconds(name: str) -> Check:
    return lambda value: check_seconds(name, value, MIN_SECONDS, MAX_SECONDS)


def _samples(value: object) -> int:
    return check_integer("latency_samples", value, 1, MAX_LATENCY_SAMPLES)


def _channel(name: str) -> Check:
    return _integer(name, 0, MAX_CHANNELS - 1)


CRYPTO_KEYS: Final = (
    Key("key_file", check_text),
    Key("cipher", check_text, "aes256"),
    Key("hash", check_text, "sha256"),
    Key("model", check_text, "openssl"),
)

CLUSTER_KEYS: Final = (
    Key("name", check_name, ""),
    *CRYPTO_KEYS,
    Key("accept_crypto", check_any),
    Key("allow_clear_traffic", _boolean("allow_clear_traffic")),
    Key("policy", check_policy, LinkPolicy.PASSIVE),
    Key("port", _integer("port", 1, 0xFFFF), DEFAULT_PORT),
    Key("links", check_any),
    Key("link", check_any),
    Key("loopback", _boolean("loopback"), default=False),
    Key("service_channel", _channel("service_channel")),
    Key("compress", check_any),
    Key("accept_compression", check_models),
    Key("filter", check_function),
    Key("forwarding", _boolean("forwarding"), default=True),
    Key("access_lists", _boolean("access_lists"), default=True),
    Key("privileged", _boolean("privileged"), default=False),
    Key("mtu", _mtu),
    Key("pmtud_interval", _pmtud_interval, DEFAULT_INTERVAL),
    Key("reconnect_interval", _reconnect_interval, DEFAULT_RECONNECT_INTERVAL),
    Key("hedge", _boolean("hedge"), default=True),
    Key("dscp", _dscp, 0),
    Key("log_fd", _integer("log_fd", 0, _MAX_FD)),
    Key("log_level", check_level),
)

# `[cluster.links]` and `[cluster.link.N]`.
LINK_KEYS: Final = (
    Key("port", _integer("port", 1, 0xFFFF)),
    Key("transport", check_transport, "udp"),
    Key("priority", _integer("priority", 0, MAX_PRIORITY), 0),
    Key("ping_interval", _seconds("ping_interval"), DEFAULT_PING_INTERVAL),
    Key("pong_timeout", check_pong_timeout, DEFAULT_PONG_TIMEOUT),
    Key("latency_samples", _samples, DEFAULT_LATENCY_SAMPLES),
    Key("pong_count", _integer("pong_count", 1, MAX_PONG_COUNT), DEFAULT_PONG_COUNT),
    Key("high_priority", _boolean("high_priority"), default=False),
    Key("enabled", _boolean("enabled"), default=True),
)  # fmt: skip

COMPRESS_KEYS: Final = (
    Key("model", check_text, required=True),
    Key("level", _integer("level", -(2**31), 2**31 - 1)),
    Key("threshold", _integer("threshold", 0, 65536), DEFAULT_COMPRESS_THRESHOLD),
)

HOST_KEYS: Final = (
    Key("id", check_host_id, required=True),
    Key("name", check_name),
    Key("links", check_any, required=True),
    Key("allow", check_any),
)

TAP_KEYS: Final = (
    Key("name", check_device_name, required=True),
    Key("channel", _channel("channel"), required=True),
    Key("address", check_template),
    Key("mac", check_template),
)

CHANNEL_KEYS: Final = (
    Key("channel", _channel("channel"), required=True),
    Key("socket", check_socket, required=True),
    Key("receive_buffer", _integer("receive_buffer", 1, 2**31 - 1), DEFAULT_RECEIVE_BUFFER),
    Key("mode", check_mode, DEFAULT_SOCKET_MODE),
    Key("group", check_text),
)

CONTROL_KEYS: Final = (Key("socket", check_socket),)

METRICS_KEYS: Final = (Key("listen", check_listen, required=True),)

TABLES: Final = ("cluster", "hosts", "tap", "channels", "control", "metrics")

DOCUMENTED: Final[dict[str, tuple[Key, ...]]] = {
    "[cluster]": CLUSTER_KEYS,
    "[cluster.links]": LINK_KEYS,
    "compress": COMPRESS_KEYS,
    "[[hosts]]": HOST_KEYS,
    "[tap]": TAP_KEYS,
    "[[channels]]": CHANNEL_KEYS,
    "[control]": CONTROL_KEYS,
    "[metrics]": METRICS_KEYS,
}
"""The tables by their headings in the documentation."""
