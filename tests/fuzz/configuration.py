"""Any setting is taken as it is and is within its limits, or an error says so; keys are not told.

The bytes choose what is set, and make values for it: of the right kind and of wrong ones, within
the limits, at their edges and far off.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, Final

from knet_trio._compress import make_compressor
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, MODELS, make_cipher
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._logs.names import (
    LogLevel,
    LogSubsystem,
    find_level,
    find_subsystem,
    get_log_level_id,
    get_log_level_name,
    get_log_subsystem_id,
    get_log_subsystem_name,
)
from knet_trio._settings import (
    check_dscp,
    check_mtu,
    check_pmtud_interval,
    check_reconnect_interval,
    make_compression,
)
from knet_trio.abc import Cipher
from knet_trio.address import Address, format_address, parse_address, socket_address
from knet_trio.config import (
    CompressConfig,
    CryptoConfig,
    DefragBuffers,
    LinkConfig,
    check_host_id,
)
from knet_trio.errors import BusyError, InvalidArgumentError, NotImplementedByKnetError
from tests.fuzz.script import Script

VALUES: Final = 24
# Numbers about which something is decided somewhere.
EDGES: Final = (
    *range(-1, 25),
    *(63, 64, 99, 100, 101, 127, 128, 255, 256),
    *(576, 575, 999, 1024, 1025, 4096, 4097, 65535, 65536, 65537, 86400, 86401),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**64, -(2**63), 10**30),
)
NAMES: Final = (
    *(*CIPHER_NAMES, *HASH_NAMES, *MODELS, "none", "udp", "sctp"),
    *("zlib", "lz4", "lz4hc", "lzo2", "lzma", "bzip2", "zstd"),
    *(member.name for member in (*LogSubsystem, *LogLevel)),
    *("127.0.0.1", "::1", "fe80::1%lo", "fe80::1", "5405", "65535", "65536", "", "localhost"),
)
FLOATS: Final = (0.0, -0.0, 0.001, 0.0009, 0.5, 1.0, 86400.0, 86400.5, math.inf, math.nan)
SAMPLE: Final = b"a message, a message, and the same message again " * 4

REFUSALS: Final = (InvalidArgumentError, NotImplementedByKnetError)


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    script = Script(data)
    for _ in range(VALUES):
        if not script:
            return
        try:
            script.choose(SETTERS)(script)
        except REFUSALS as error:
            # It says something, beside the name of the errno.
            assert error.args[0]
            assert str(error)


def value(script: Script) -> Any:
    """A value of any kind."""
    kind = script.number()
    match kind % 8:
        case 0 | 1:
            return script.choose(EDGES)
        case 2 | 3:
            return script.choose(NAMES)
        case 4:
            return script.choose(FLOATS) if kind < 128 else unpack(script)
        case 5:
            return script.chunk().decode("utf-8", "surrogateescape")
        case 6:
            return script.choose((None, True, False, b"", b"bytes", [], (), 1j, object))
        case _:
            return int.from_bytes(script.take(3), "big", signed=True)


def unpack(script: Script) -> float:
    """Any floating point number."""
    number: float = struct.unpack(">d", script.take(8).ljust(8, b"\0"))[0]
    return number


def is_integer(number: object, low: int, high: int) -> bool:
    """Whether it is an integer, and no bool, from ``low`` to ``high``."""
    return type(number) is int and low <= number <= high


def set_address(script: Script) -> None:
    address = parse_address(value(script), value(script))
    assert type(address.port) is int
    assert 0 <= address.port <= 65535
    assert parse_address(*address) == address
    text, _, port = format_address(address).rpartition(":")
    assert parse_address(text.strip("[]"), port) == address
    assert socket_address(address)[1] == address.port


def set_crypto(script: Script) -> None:
    key: Any = script.take(8) * (script.number() * 3)
    if script.number() % 8 == 0:
        key = value(script)
    names = {
        "cipher": value(script) if script.flag() else script.choose((*CIPHER_NAMES, "none")),
        "hash": value(script) if script.flag() else script.choose((*HASH_NAMES, "none")),
        "model": value(script) if script.flag() else script.choose(MODELS),
    }
    try:
        cipher = make_cipher(CryptoConfig(key, **names))
    except REFUSALS as error:
        if isinstance(key, bytes):
            check_says_nothing_of(key, names, error)
        raise
    assert isinstance(key, bytes)
    assert 128 <= len(key) <= 4096
    assert repr(CryptoConfig(key, **names)) == repr(CryptoConfig(bytes(128), **names))
    check_opens(cipher)
    check_slots(script, CryptoConfig(key, **names))


def check_says_nothing_of(key: bytes, names: dict[str, Any], error: Exception) -> None:
    """Another key of that size gets the same words."""
    try:
        make_cipher(CryptoConfig(bytes(len(key)), **names))
    except REFUSALS as other:
        assert str(other) == str(error)
    else:
        raise AssertionError(f"whether it is taken depends on the bytes of the key: {error}")


def check_opens(cipher: Cipher) -> None:
    packets = [SAMPLE, b"x"]
    assert cipher.open_many_untrusted(cipher.seal(packets)) == packets


def check_slots(script: Script, config: CryptoConfig) -> None:
    """Slots take it, refuse it, and stay able to work."""
    slots = CryptoSlots(allow_clear_traffic=False)
    slot, used = value(script), value(script)
    try:
        slots.set(config, slot)
        assert slot in (1, 2)
        slots.use(used)
        assert used in (0, slot)
        slots.set(config, slot)
    except BusyError:
        assert slots.in_use == slot == used
        assert slots.open_many_untrusted(slots.seal([SAMPLE])) == [SAMPLE]
    except InvalidArgumentError:
        assert slots.in_use == 0
    else:
        assert slots.in_use == 0
    slots.replace(config)
    assert slots.in_use == 1


def set_compression(script: Script) -> None:
    config = CompressConfig(value(script), value(script), value(script))
    assert is_integer(config.threshold, 0, 65536)
    # What the encoder needs there is out of all proportion to what is tested by it.
    if config.model.lower() == "lzma" and config.level in (7, 8, 9):
        return
    compressor = make_compressor(config)
    packed = compressor.compress(SAMPLE)
    assert compressor.decompress_untrusted(packed, len(SAMPLE)) == SAMPLE
    compression = make_compression(config)
    assert compression is not None


def set_link(script: Script) -> None:
    there = Address("127.0.0.1", 1)
    config = LinkConfig(
        value(script),
        there,
        there if script.flag() else None,
        priority=value(script),
        ping_interval=value(script),
        pong_timeout=value(script),
        latency_samples=value(script),
        pong_count=value(script),
    )
    assert is_integer(config.link_id, 0, 7)
    assert is_integer(config.priority, 0, 255)
    assert is_integer(config.latency_samples, 1, 2**32 - 1)
    assert is_integer(config.pong_count, 1, 255)
    assert 0.001 <= config.ping_interval <= 86400
    assert 0.001 <= config.pong_timeout <= 86400


def set_buffers(script: Script) -> None:
    buffers = DefragBuffers(value(script), value(script))
    assert is_integer(buffers.minimum, 4, 1024)
    assert is_integer(buffers.maximum, buffers.minimum, 1024)


def set_number(script: Script) -> None:
    checks: tuple[tuple[Callable[[Any], object], int, int], ...] = (
        (check_host_id, 0, 65535),
        (check_dscp, 0, 63),
        (check_mtu, 576, 65535),
    )
    taken, low, high = script.choose(checks)
    given = value(script)
    answer = taken(given)
    if answer is None:
        # Which means that the MTU is to be discovered.
        assert taken is check_mtu
        assert not given
    else:
        assert answer == given
        assert is_integer(answer, low, high)


def set_seconds(script: Script) -> None:
    given = value(script)
    if script.flag():
        assert 1 <= check_pmtud_interval(given) == given <= 86400
    else:
        assert 0.001 <= check_reconnect_interval(given) == given <= 86400


def set_log(script: Script) -> None:
    given = value(script)
    if script.flag():
        subsystem = find_subsystem(given)
        assert given in (subsystem, subsystem.value) or given.lower() == subsystem.name.lower()
        assert find_subsystem(get_log_subsystem_name(subsystem)) is subsystem
    else:
        level = find_level(given)
        assert given in (level, level.value) or given.lower() == level.name.lower()
        assert find_level(get_log_level_name(level)) is level


def ask_log(script: Script) -> None:
    """They answer for all names and numbers there can be."""
    given = value(script)
    if isinstance(given, str):
        assert get_log_subsystem_id(given) in LogSubsystem
        assert get_log_level_id(given) in LogLevel
    else:
        assert get_log_subsystem_name(given)
        assert get_log_level_name(given)
        assert is_integer(given, 0, 255)


SETTERS: Final = (
    set_address,
    set_crypto,
    set_compression,
    set_link,
    set_buffers,
    set_number,
    set_seconds,
    set_log,
    ask_log,
)
