"""Who gets in: root and the program's own user, by what the system says of the other end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest
import trio

from knet_trio.control import connect_control
from tests.cluster import PATIENCE
from tests.control.serving import open_served

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

NOBODY: Final = 65534

# What a client of any kind gets. It becomes another user once it runs: that one may not be able to
# read the interpreter.
CONNECT: Final = """
import os, socket, sys
uid = int(sys.argv[2])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
    except OSError as error:
        print("refused", error.errno)
    else:
        lines = sock.makefile("rw")
        said = lines.readline()
        if "methods" in said:
            print('{"id": 1, "method": "status"}', file=lines, flush=True)
            said += lines.readline()
        print(said)
"""

SERVE: Final = f"""
import os, sys, trio
from knet_trio import open_handle
from knet_trio.control import serve_control

async def main():
    async with open_handle(1) as handle, serve_control(handle, sys.argv[1]):
        print("serving", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

os.setgid({NOBODY})
os.setuid({NOBODY})
trio.run(main)
"""


@pytest.fixture
def directory() -> Generator[Path]:
    """One that everybody may look into, and only its owner write to."""
    with tempfile.TemporaryDirectory(prefix="knet-trio-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


async def ask_as(uid: int, path: Path) -> str:
    """What somebody gets who connects and asks for the status."""
    done = await trio.run_process(
        [sys.executable, "-c", CONNECT, str(path), str(uid)], capture_stdout=True
    )
    return done.stdout.decode()


async def test_the_mode_keeps_others_out(directory: Path) -> None:
    async with open_served(directory) as served:
        assert await ask_as(NOBODY, served.path) == "refused 13\n"
        assert '"result":' in await ask_as(0, served.path)


async def test_where_the_mode_does_not_the_server_does(directory: Path) -> None:
    async with open_served(directory) as served:
        served.path.chmod(0o666)
        said = await ask_as(NOBODY, served.path)
        assert '"code":"not_allowed"' in said
        assert "user 65534 may not connect to this program: run this as root or as user 0" in said
        # Neither what it is, nor any answer.
        assert "knet_trio_control" not in said
        assert "result" not in said


async def test_its_own_user_and_root_get_in(directory: Path) -> None:
    os.chown(directory, NOBODY, NOBODY)
    path = directory / "node.sock"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "error", "-c", SERVE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some(7) == b"serving"
            assert path.stat().st_uid == NOBODY
            assert '"result":' in await ask_as(NOBODY, path)
            async with connect_control(path) as client:
                assert (await client.status()).host_id == 1
            path.chmod(0o666)
            assert "user 65533 may not connect" in await ask_as(65533, path)
            await process.stdin.aclose()
            assert await process.wait() == 0
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


async def test_another_user_s_client_is_told_what_to_be(directory: Path) -> None:
    program = (
        "import os, sys, trio\n"
        "from knet_trio.control import ControlSocketError, connect_control\n"
        f"os.setuid({NOBODY})\n"
        "async def main():\n"
        "    async with connect_control(sys.argv[1]):\n"
        "        pass\n"
        "try:\n"
        "    trio.run(main)\n"
        "except ControlSocketError as error:\n"
        "    print(error)\n"
    )
    async with open_served(directory) as served:
        done = await trio.run_process(
            [sys.executable, "-c", program, str(served.path)], capture_stdout=True
        )
        assert b"it belongs to another user: run this as that user or as root" in done.stdout
