"""The settings that can be changed while a handle runs.

Values are passed to the library unchanged, and its errors are reported unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

import attrs

from knet_trio import (
    CompressConfig,
    DefragBuffers,
    Handle,
    Host,
    InvalidArgumentError,
    Link,
    LinkPolicy,
)
from knet_trio.control.codec import Json

Target: TypeAlias = Handle | Host | Link
"""An object that has settings."""


@attrs.frozen
class Setting:
    """A setting.

    Attributes:
        of: The type of the object that has the setting.
        values: The valid values, for the documentation.
        change: Changes the setting and returns its new value.
    """

    of: type[Target]
    values: str
    change: Callable[[Any, Any], Awaitable[Json]]


def _attribute(name: str) -> Callable[[Any, Any], Awaitable[Json]]:
    """Return a function that changes an attribute whose values are the same in JSON."""

    async def change(target: Any, value: Any) -> Json:
        setattr(target, name, value)
        changed: Json = getattr(target, name)
        return changed

    return change


async def _set_forwarding(handle: Handle, value: Any) -> Json:
    await handle.set_forwarding(value)
    return handle.forwarding


async def _set_compress(handle: Handle, value: Any) -> Json:
    config = None if value is None else _make(CompressConfig, "compress", value, "model")
    handle.set_compress(config)
    return None if config is None else attrs.asdict(config)


async def _set_defrag_buffers(handle: Handle, value: Any) -> Json:
    handle.defrag_buffers = _make(DefragBuffers, "defrag_buffers", value, "maximum")
    return attrs.asdict(handle.defrag_buffers)


async def _set_log_level(handle: Handle, value: Any) -> Json:
    parts = _members(value)
    if set(parts) != {"subsystem", "level"}:
        raise InvalidArgumentError("log_level is an object with the members subsystem and level")
    handle.set_log_level(parts["subsystem"], parts["level"])
    return parts


async def _set_policy(host: Host, value: Any) -> Json:
    known = {policy.value: policy for policy in LinkPolicy}
    if not isinstance(value, str) or value not in known:
        raise InvalidArgumentError(f"the policy is not valid: give one of {', '.join(known)}")
    host.policy = known[value]
    return host.policy.value


def _timer(name: str) -> Callable[[Link, Any], Awaitable[Json]]:
    """Return a function that changes one of the three numbers that are set together."""

    async def change(link: Link, value: Any) -> Json:
        config = link.config
        timers = {
            "ping_interval": config.ping_interval,
            "pong_timeout": config.pong_timeout,
            "latency_samples": config.latency_samples,
        }
        timers[name] = value
        interval, timeout, samples = timers.values()
        link.set_ping_timers(interval, timeout, samples)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        changed: Json = getattr(link.config, name)
        return changed

    return change


def _members(value: Any) -> dict[str, Any]:
    """Return the members of an object, none if the value is not an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _make(kind: Any, what: str, value: Any, needed: str) -> Any:
    """Return a record of the library made from an object."""
    names = [field.name for field in attrs.fields(kind)]
    members = _members(value)
    if needed not in members or not set(members) <= set(names):
        raise InvalidArgumentError(
            f"{what} is an object with the members {', '.join(names)}; {needed} is required"
        )
    return kind(**members)


SETTINGS: Final[dict[str, Setting]] = {
    "forwarding": Setting(Handle, "true or false", _set_forwarding),
    "access_lists": Setting(Handle, "true or false", _attribute("access_lists")),
    "allow_clear_traffic": Setting(
        Handle,
        "true, false, or null for true while no key is in use",
        _attribute("allow_clear_traffic"),
    ),
    "hedge": Setting(Handle, "true or false", _attribute("hedge")),
    "dscp": Setting(Handle, "0 to 63", _attribute("dscp")),
    "mtu": Setting(Handle, "576 to 65535, or null for path MTU discovery", _attribute("mtu")),
    "pmtud_interval": Setting(Handle, "1 to 86400 seconds", _attribute("pmtud_interval")),
    "reconnect_interval": Setting(
        Handle, "0.001 to 86400 seconds", _attribute("reconnect_interval")
    ),
    "timer_resolution": Setting(
        Handle, "0.001 to 86400 seconds; without effect", _attribute("timer_resolution")
    ),
    "defrag_buffers": Setting(
        Handle, "an object with `maximum`, and `minimum` if wanted", _set_defrag_buffers
    ),
    "compress": Setting(
        Handle,
        "an object with `model`, and `level` and `threshold` if wanted; null for none",
        _set_compress,
    ),
    "log_level": Setting(Handle, "an object with `subsystem` and `level`", _set_log_level),
    "name": Setting(Host, "text of 1 to 255 bytes", _attribute("name")),
    "policy": Setting(Host, "`passive`, `active` or `round-robin`", _set_policy),
    "enabled": Setting(Link, "true or false", _attribute("enabled")),
    "priority": Setting(Link, "0 to 255", _attribute("priority")),
    "pong_count": Setting(Link, "1 to 255", _attribute("pong_count")),
    "ping_interval": Setting(Link, "0.001 to 86400 seconds", _timer("ping_interval")),
    "pong_timeout": Setting(Link, "0.001 to 86400 seconds", _timer("pong_timeout")),
    "latency_samples": Setting(Link, "1 to 4294967295", _timer("latency_samples")),
}
