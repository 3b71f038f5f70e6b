"""What somebody forgets to close, and what a finaliser runs into, fails the tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.cluster import PATIENCE

ROOT: Final = Path(__file__).parents[2]

SOCKET: Final = """
import socket

def test_forgets():
    socket.socket()
"""

# Nothing closes it until the garbage is collected, which may be after the test.
SOCKET_IN_A_CIRCLE: Final = """
import socket

class ChannelState:
    def __init__(self):
        self.me = self
        self.socket = socket.socket()

def test_forgets():
    ChannelState()
"""

ENDPOINT: Final = """
from knet_trio.address import Address
from knet_trio._transport.udp import UdpTransport

def test_forgets():
    local = Address("127.0.0.1", 0)
    UdpTransport().open_endpoint(local, privileged=False, high_priority=False, dscp=0)
"""

FINALISER: Final = """
class ChannelState:
    def __del__(self):
        raise ValueError("in a finaliser")

def test_forgets():
    ChannelState()
"""

COROUTINE: Final = """
import knet_trio

async def test_forgets():
    async with knet_trio.open_handle(1) as handle:
        handle.set_forwarding(False)
"""

CAREFUL: Final = """
import socket
import knet_trio

async def test_forgets():
    with socket.socket():
        async with knet_trio.open_handle(1) as handle:
            host = handle.add_host(2)
            await host.add_link(0, ("127.0.0.1", 0), ("127.0.0.1", 1))
            handle.add_datafd()
"""


def run_pytest(place: Path, programs: Mapping[str, str]) -> tuple[int, str]:
    """What pytest says of tests, with the settings that all tests here have."""
    for name, program in programs.items():
        (place / f"test_{name}.py").write_text(program)
    command = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *command, "--rootdir", str(place), str(place)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 2,
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_forgotten_fails_its_test(tmp_path: Path) -> None:
    wrong = {
        "socket": (SOCKET, "ResourceWarning: unclosed <socket"),
        "endpoint": (ENDPOINT, "ResourceWarning: unclosed <socket"),
        "finaliser": (FINALISER, "ValueError: in a finaliser"),
        "coroutine": (COROUTINE, "set_forwarding' was never awaited"),
    }
    programs = {name: program for name, (program, _) in wrong.items()}
    status, output = run_pytest(tmp_path, {**programs, "careful": CAREFUL})
    assert status == 1, output
    for name, (_, said) in wrong.items():
        assert re.search(rf"^FAILED \S*test_{name}\.py::test_forgets", output, re.MULTILINE), output
        assert said in output
    assert f"{len(wrong)} failed, 1 passed" in output


def test_what_is_found_after_the_last_test_fails_the_run(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, {"circle": SOCKET_IN_A_CIRCLE})
    assert status != 0, output
    assert "ResourceWarning: unclosed <socket" in output
