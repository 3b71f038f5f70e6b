"""No key gets into a log, whatever happens and however much is told."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import logging
import urllib.parse
from collections.abc import Iterator

import pytest
import trio

from knet_trio import (
    BusyError,
    CompressConfig,
    CryptoConfig,
    DropCause,
    FilterPacket,
    FilterResult,
    Handle,
    InvalidArgumentError,
    LogLevel,
    open_handle,
)
from knet_trio.address import Address
from tests.cluster import PATIENCE, connect, receive, wait_dropped
from tests.logs.reading import LogPipe

# So much of a key in a row, in whatever form, is found.
WINDOW = 12


def make_key(seed: str) -> bytes:
    """Bytes that come up nowhere else."""
    return b"".join(hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(8))


PLAIN = {str, int, float, Address, DropCause}
KEYS = [make_key(seed) for seed in ("first", "second", "wrong")]


def forms(piece: bytes) -> Iterator[str]:
    """How the bytes may be written."""
    yield piece.decode("latin-1")
    yield repr(piece)[2:-1]
    yield repr(bytearray(piece))[12:-2]
    yield piece.hex()
    yield piece.hex().upper()
    yield piece.hex(":")
    yield piece.hex(" ")
    yield ", ".join(str(byte) for byte in piece)
    yield urllib.parse.quote(piece)
    yield base64.b64encode(piece).decode()
    yield base64.urlsafe_b64encode(piece).decode()
    yield base64.b32encode(piece[: WINDOW - WINDOW % 5]).decode()


def find_keys(text: str) -> set[str]:
    """Every piece of a key in ``text``."""
    return {
        form
        for key in KEYS
        for start in range(len(key) - WINDOW + 1)
        for form in forms(key[start : start + WINDOW])
        if form in text
    }


@pytest.mark.parametrize(
    "leak",
    [
        KEYS[0].decode("latin-1"),
        f"the key is {KEYS[1]!r}",
        f"{bytearray(KEYS[1])!r}",
        f"{list(KEYS[0])}",
        KEYS[2][3:40].hex(),
        KEYS[2][3:40].hex().upper(),
        KEYS[0][:16].hex(":"),
        urllib.parse.quote(KEYS[0]),
        base64.b64encode(KEYS[0][1:]).decode(),
        base64.urlsafe_b64encode(KEYS[0]).decode(),
        base64.b32encode(KEYS[0]).decode(),
    ],
)
def test_a_key_would_be_found(leak: str) -> None:
    assert find_keys(f"[host 1] oops {leak}")


def everything(records: list[logging.LogRecord]) -> str:
    """The records as text with tracebacks, and what was in them before it became text."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    return "\n".join(
        f"{formatter.format(record)}\n{record.__dict__!r}\n{record.args!s}" for record in records
    )


async def turn_everything(a: Handle, b: Handle) -> None:
    """Change all that has to do with keys, rightly and wrongly, while messages go both ways."""
    first, second, wrong = (CryptoConfig(key=key) for key in KEYS)
    channel, inbox = a.open_channel(0), b.open_channel(0)
    await connect(a, b)
    for handle in (a, b):
        handle.set_crypto(second, 2)
    a.set_compress(CompressConfig("zlib"))
    for slot in (2, 1):
        for handle in (a, b):
            handle.use_crypto(slot)
        await channel.send(b"hello " * 100)
        assert await receive(inbox, 1) == [b"hello " * 100]
    with pytest.raises(BusyError):
        a.set_crypto(second, 1)
    for names in ({"cipher": "rot13"}, {"hash": "crc"}, {"model": "none such"}, {"hash": "none"}):
        with pytest.raises(InvalidArgumentError):
            a.set_crypto(CryptoConfig(key=KEYS[1], **names), 2)

    def quote(packet: FilterPacket) -> FilterResult:
        raise ValueError(repr(first), wrong, packet.channel)

    a.set_filter(quote)
    await channel.send(b"the filter fails")
    await wait_dropped(a, DropCause.FILTER_ERROR)
    a.set_filter(None)
    a.set_crypto(None, 2)
    # From here on they do not understand each other.
    b.set_crypto(None, 2)
    b.replace_crypto(wrong)
    await wait_dropped(a, DropCause.NOT_AUTHENTIC, 2)
    await wait_dropped(b, DropCause.NOT_AUTHENTIC, 2)
    b.allow_clear_traffic = False
    b.use_crypto(0)
    await wait_dropped(b, DropCause.NOT_AUTHENTIC, 4)
    b.replace_crypto(None)


async def test_a_key_gets_into_no_log(caplog: pytest.LogCaptureFixture, pipe: LogPipe) -> None:
    caplog.set_level(1)
    # Room for all of it, however much it becomes on a slow machine.
    fcntl.fcntl(pipe.writer, fcntl.F_SETPIPE_SZ, 2**20)
    crypto = CryptoConfig(key=KEYS[0])
    with trio.fail_after(PATIENCE):
        async with (
            open_handle(1, crypto=crypto, log_fd=pipe.writer, log_level="debug") as a,
            open_handle(2, crypto=crypto, log_fd=pipe.writer, log_level=LogLevel.DEBUG) as b,
        ):
            await turn_everything(a, b)
            assert a.log_lost == b.log_lost == 0
    raw = pipe.read_raw()
    said = everything(caplog.records)
    # It is worth searching.
    for subsystem in ("handle", "host", "link", "crypto", "compress", "filter", "rx", "pmtud"):
        assert f"knet_trio.{subsystem} " in said
    assert "crypto slot 1 is set" in said
    assert b"crypto slot 1 is set" in raw
    assert "in quote" in said
    assert find_keys(said) == set()
    # Whoever collects records keeps no part of the handle with them.
    assert {type(arg) for record in caplog.records for arg in record.args or ()} <= PLAIN
    assert find_keys(raw.decode("latin-1")) == set()
