"""The records for `log_fd`: their form, and that nothing ever waits for their reader."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket
from pathlib import Path

import pytest
import trio

from knet_trio import (
    CompressConfig,
    CryptoConfig,
    InvalidArgumentError,
    LogLevel,
    LogSubsystem,
    open_handle,
)
from knet_trio._logs.descriptor import RECORD_SIZE, LogDescriptor, encode_record
from tests.cluster import KEY
from tests.logs.reading import LogPipe, Record, decode


def test_a_record_is_what_libknet_writes() -> None:
    record = encode_record(LogSubsystem.RX, LogLevel.INFO, "häh")
    assert len(record) == RECORD_SIZE == 256
    assert record == "häh".encode() + bytes(254 - 4) + bytes([24, 2])


def test_long_text_is_cut_between_characters() -> None:
    for letters in (252, 253, 254, 300):
        (record,) = decode(encode_record(LogSubsystem.RX, LogLevel.INFO, "x" * letters))
        assert record.text == "x" * min(letters, 253)
        (record,) = decode(encode_record(LogSubsystem.RX, LogLevel.INFO, "ü" * letters))
        assert record.text == "ü" * 126
    # Half a surrogate pair, as in file names, has no bytes.
    (record,) = decode(encode_record(LogSubsystem.RX, LogLevel.INFO, "\udc80!"))
    assert record.text == "?!"


def fill(fd: int) -> None:
    """Leave no room in it."""
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, bytes(256))
    os.set_blocking(fd, blocking)


def old_kernel(*_: object) -> int:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_full_pipe_loses_records_and_says_how_many(
    pipe: LogPipe, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "old":
        monkeypatch.setattr(os, "pwritev", old_kernel)
    flags = fcntl.fcntl(pipe.writer, fcntl.F_GETFL)
    descriptor = LogDescriptor(pipe.writer)
    assert os.get_blocking(pipe.writer)
    fill(pipe.writer)
    # With a blocking write this would never come back.
    for number in range(3):
        descriptor.write(LogSubsystem.TX, LogLevel.INFO, f"lost {number}")
    assert descriptor.lost == 3
    assert fcntl.fcntl(pipe.writer, fcntl.F_GETFL) == flags
    pipe.read_raw()
    descriptor.write(LogSubsystem.TX, LogLevel.INFO, "there is room")
    descriptor.write(LogSubsystem.TX, LogLevel.INFO, "and more")
    notice, *others = pipe.read()
    assert notice[1:] == (LogSubsystem.COMMON, LogLevel.WARNING)
    assert notice.text.startswith("3 records before this one were lost")
    assert [record.text for record in others] == ["there is room", "and more"]
    assert descriptor.lost == 3
    descriptor.close()


def test_a_socket_will_do() -> None:
    near, far = socket.socketpair()
    with near, far:
        descriptor = LogDescriptor(near.fileno())
        descriptor.write(LogSubsystem.TX, LogLevel.ERROR, "hello")
        assert decode(far.recv(4096)) == [Record("hello", 23, 0)]
        fill(near.fileno())
        descriptor.write(LogSubsystem.TX, LogLevel.ERROR, "hello")
        assert descriptor.lost == 1
        descriptor.close()


def test_a_file_will_do(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        descriptor = LogDescriptor(file.fileno())
        descriptor.write(LogSubsystem.TX, LogLevel.ERROR, "one")
        descriptor.write(LogSubsystem.TX, LogLevel.DEBUG, "two")
        descriptor.close()
    records = decode((tmp_path / "log").read_bytes())
    assert records == [Record("one", 23, 0), Record("two", 23, 3)]


def test_without_a_reader_records_are_lost() -> None:
    reader, writer = os.pipe()
    descriptor = LogDescriptor(writer)
    os.close(reader)
    descriptor.write(LogSubsystem.TX, LogLevel.ERROR, "nobody")
    assert descriptor.lost == 1
    descriptor.close()
    os.close(writer)


def test_a_number_that_was_closed_and_given_away_is_not_written_to(pipe: LogPipe) -> None:
    writer = os.dup(pipe.writer)
    descriptor = LogDescriptor(writer)
    reader, other = os.pipe()
    os.dup2(other, writer)
    descriptor.write(LogSubsystem.TX, LogLevel.ERROR, "hello")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    assert [record.text for record in pipe.read()] == ["hello"]
    descriptor.close()
    for fd in (reader, other, writer):
        os.close(fd)


async def refused(log_fd: int) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        await open_handle(1, log_fd=log_fd).__aenter__()
    return str(caught.value)


async def test_a_descriptor_that_cannot_be_written_to_is_refused(pipe: LogPipe) -> None:
    assert "writing end" in await refused(pipe.reader)
    closed = os.dup(pipe.writer)
    os.close(closed)
    assert os.strerror(errno.EBADF) in await refused(closed)
    assert "is not an integer" in await refused(-1)
    assert "is not an integer" in await refused("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def descriptors() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


async def test_the_handle_gives_back_what_it_took_and_leaves_the_users_open(
    pipe: LogPipe,
) -> None:
    before = descriptors()
    async with open_handle(1, log_fd=pipe.writer) as handle:
        assert handle.log_lost == 0
        fill(pipe.writer)
        await handle.set_forwarding(False)
        assert handle.log_lost == 1
    # What it told of its end is lost too, and can still be asked for.
    assert handle.log_lost == 2
    with pytest.raises(trio.ClosedResourceError):
        handle.set_crypto(CryptoConfig(key=KEY))
    assert descriptors() == before
    with pytest.raises(InvalidArgumentError):
        await open_handle(1, log_fd=pipe.writer, mtu=1).__aenter__()
    with pytest.raises(InvalidArgumentError):
        compress = CompressConfig("none such")
        await open_handle(1, log_fd=pipe.writer, compress=compress).__aenter__()
    assert descriptors() == before


async def test_zero_stands_for_none_as_in_c() -> None:
    async with open_handle(1, log_fd=0) as handle:
        assert handle.log_lost == 0
