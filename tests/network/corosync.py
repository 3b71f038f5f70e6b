"""A real corosync on both sides of a pair of namespaces."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Final

import trio

from tests.interop.namespaces import NamespacePair

_CONFIG: Final = """
totem {{
    version: 2
    cluster_name: captured
    transport: knet
    crypto_cipher: {cipher}
    crypto_hash: {hash}
    keyfile: {key}
}}
nodelist {{
    node {{
        ring0_addr: {first}
        nodeid: 1
        name: node1
    }}
    node {{
        ring0_addr: {second}
        nodeid: 2
        name: node2
    }}
}}
system {{
    state_dir: {state}
}}
logging {{
    to_stderr: yes
    to_syslog: no
}}
"""
# Two on one machine would share their lock, and what is in shared memory.
_START: Final = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm && exec corosync -f -c "$0"
"""
# So says a host when both are members.
_JOINED: Final = b"Sync members[2]: 1 2"


def corosync_missing() -> str | None:
    """None when there is corosync, else what to do."""
    return None if shutil.which("corosync") else "this needs: apt-get install corosync"


@asynccontextmanager
async def open_corosync(
    namespaces: NamespacePair, place: Path, key: Path, *, cipher: str, hash: str
) -> AsyncGenerator[None, None]:
    """Two hosts that are members of one cluster; they are gone when the block ends."""
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(
                _open_host(namespaces, place / f"host{side + 1}", key, side, cipher, hash)
            )
            for side in (0, 1)
        ]
        for process in processes:
            await _wait_joined(process)
        yield


@asynccontextmanager
async def _open_host(
    namespaces: NamespacePair, place: Path, key: Path, side: int, cipher: str, hash: str
) -> AsyncGenerator[trio.Process, None]:
    place.mkdir()  # noqa: ASYNC240  # a moment
    first, second = (namespaces.v4(each, 0) for each in (0, 1))
    file = place / "corosync.conf"
    file.write_text(
        _CONFIG.format(cipher=cipher, hash=hash, key=key, first=first, second=second, state=place)
    )
    # That gives it mounts of its own, too.
    command = namespaces.within(side, "sh", "-c", _START, str(file))
    process = await trio.lowlevel.open_process(command, stdout=PIPE, stderr=STDOUT)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _wait_joined(process: trio.Process) -> None:
    assert process.stdout is not None
    said = b""
    while _JOINED not in said:
        chunk = await process.stdout.receive_some()
        assert chunk, said.decode()
        said += chunk
