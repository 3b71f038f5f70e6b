"""Captures by tcpdump of what crosses a device of a namespace."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Final

import trio

from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import POLL

# Nobody listens there.
_BUFFER: Final = "65536"  # KiB
_LARGEST: Final = "70000"
_MARKER_PORT: Final = 9
_MARKER: Final = b"this is the end of the capture"


def tcpdump_missing() -> str | None:
    """None when there is tcpdump, else what to do."""
    return None if shutil.which("tcpdump") else "captures need: apt-get install tcpdump"


async def wait_until(condition: Callable[[], bool]) -> None:
    """Until the condition, which has no event, is true."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(POLL)


@asynccontextmanager
async def captured(
    namespaces: NamespacePair,
    file: Path,
    *options: str,
    side: int = 0,
    device: str | None = None,
) -> AsyncGenerator[None, None]:
    """All UDP on that side's device, `None` for that of pair 0, is in the file after the block."""
    interface = namespaces.device(0) if device is None else device
    command = namespaces.within(side, "tcpdump")
    # Each packet is written at once, and by root: the file is where tcpdump's own user may not be.
    command += ["-i", interface, "-U", "--immediate-mode", "-Z", "root"]
    # A burst needs a place for each frame, as large as a frame may be.
    command += ["-B", _BUFFER, *(options or ("-s", _LARGEST)), "-w", str(file), "udp"]
    process = await trio.lowlevel.open_process(command, stderr=PIPE)
    assert process.stderr is not None
    try:
        said = b""
        while b"listening on" not in said:
            chunk = await process.stderr.receive_some()
            assert chunk, said.decode()
            said += chunk
        yield
        # What is sent after all else is written after it.
        with namespaces.inside(side), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(_MARKER, (namespaces.v4(1 - side, 0), _MARKER_PORT))
        await wait_until(lambda: _MARKER in file.read_bytes()[-1000:])
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            said = b"".join([chunk async for chunk in process.stderr])
            await process.wait()
    assert b"\n0 packets dropped by kernel" in said, said.decode()
