"""Our names, numbers and records of the log against those of the library that is running."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from knet_trio import (
    InvalidArgumentError,
    LogLevel,
    LogSubsystem,
    get_log_level_id,
    get_log_level_name,
    get_log_subsystem_id,
    get_log_subsystem_name,
    open_handle,
)
from tests.interop import libknet

IDS: Final = range(256)
NAMES: Final = [
    "",
    "nobody",
    "hand",
    "handles",
    " handle",
    "gcrypt",
    "Handle",
    "LINK",
    "err",
    "Error",
    "warn",
    "warning ",
    "WARNING",
    "Info",
    "DEBUG",
    "trace",
    "3",
]


def library() -> ctypes.CDLL:
    return ctypes.CDLL(libknet.SONAME)


def c_name(function: str) -> Callable[[int], str]:
    call = library()[function]
    call.argtypes, call.restype = [ctypes.c_uint8], ctypes.c_char_p
    return lambda number: bytes(call(number)).decode()


def c_number(function: str) -> Callable[[str], int]:
    call = library()[function]
    call.argtypes, call.restype = [ctypes.c_char_p], ctypes.c_uint8
    return lambda name: int(call(name.encode()))


def test_every_number_has_the_librarys_name() -> None:
    subsystem = c_name("knet_log_get_subsystem_name")
    assert {id: get_log_subsystem_name(id) for id in IDS} == {id: subsystem(id) for id in IDS}
    level = c_name("knet_log_get_loglevel_name")
    assert {id: get_log_level_name(id) for id in IDS} == {id: level(id) for id in IDS}


def test_every_name_has_the_librarys_number() -> None:
    names = [*NAMES, *map(get_log_subsystem_name, IDS), *map(get_log_level_name, IDS)]
    names += [name.swapcase() for name in names]
    subsystem = c_number("knet_log_get_subsystem_id")
    assert {name: int(get_log_subsystem_id(name)) for name in names} == {
        name: subsystem(name) for name in names
    }
    level = c_number("knet_log_get_loglevel_id")
    assert {name: int(get_log_level_id(name)) for name in names} == {
        name: level(name) for name in names
    }


@pytest.fixture
def c_handle() -> Iterator[libknet.Handle]:
    handle = libknet.Handle(1)
    yield handle
    handle.free()


def accepted(call: Callable[[int], object]) -> list[int]:
    """The numbers that a call does not refuse, in C or here."""
    good: list[int] = []
    for number in IDS:
        try:
            call(number)
        except (OSError, InvalidArgumentError):
            continue
        good.append(number)
    return good


async def test_levels_can_be_set_where_the_library_lets_them(c_handle: libknet.Handle) -> None:
    async with open_handle(1) as handle:
        theirs = accepted(lambda id: c_handle.call("knet_log_set_loglevel", id, LogLevel.INFO))
        assert accepted(lambda id: handle.set_log_level(id, LogLevel.INFO)) == theirs
        assert theirs == [int(subsystem) for subsystem in LogSubsystem]
        theirs = accepted(
            lambda id: c_handle.call("knet_log_set_loglevel", LogSubsystem.LINK, id)
        )  # fmt: skip
        assert accepted(lambda id: handle.set_log_level(LogSubsystem.LINK, id)) == theirs
        assert theirs == [int(level) for level in LogLevel]


async def test_a_reader_of_the_librarys_records_reads_ours(c_handle: libknet.Handle) -> None:
    reader, writer = os.pipe()
    try:
        async with open_handle(1, log_fd=writer, log_level="debug") as handle:
            handle.add_host(2, name="beta")
        os.set_blocking(reader, False)
        raw = os.read(reader, 65536)
    finally:
        os.close(reader)
        os.close(writer)
    size = ctypes.sizeof(libknet.LogMsg)
    assert len(raw) % size == 0
    records = [c_handle.log_record(raw[at : at + size]) for at in range(0, len(raw), size)]
    assert records[0] == ("handle", libknet.LOG_LEVELS["info"], "the handle is open")
    assert ("host", libknet.LOG_LEVELS["debug"], "host 2 (beta) is added") in records
