"""How the commands find a running host, and what they say if there is none."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import run, socket_of
from tests.cluster import PATIENCE
from tests.control.serving import open_served


async def test_it_finds_the_only_host_by_the_environment(tmp_path: Path) -> None:
    directory = tmp_path / "knet-trio"
    directory.mkdir()
    async with open_served(directory):
        done = await run("status", "--interval", 0, XDG_RUNTIME_DIR=str(tmp_path))
        assert (done.status, done.errors) == (0, "")
        done = await run("status", "--interval", 0, RUNTIME_DIRECTORY=str(directory))
        assert (done.status, done.errors) == (0, "")


async def test_the_environment_says_which_host(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run("status", "--interval", 0, KNET_TRIO_SOCKET=str(served.path))
        assert (done.status, done.errors) == (0, "")
        # What is said to the command goes over that.
        nobody = str(tmp_path / "no.sock")
        done = await run(
            "status", "--interval", 0, *socket_of(served.path), KNET_TRIO_SOCKET=nobody
        )
        assert (done.status, done.errors) == (0, "")


async def test_of_several_hosts_it_names_them(tmp_path: Path) -> None:
    other = tmp_path / "other.sock"
    async with open_served(tmp_path) as served:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(other))
            sock.listen()
            done = await run("status", RUNTIME_DIRECTORY=str(tmp_path))
    assert done.status == 2
    assert "several hosts run on this machine" in done.errors
    assert f"--socket {served.path}\n  --socket {other}\n" in done.errors
    assert "KNET_TRIO_SOCKET" in done.errors


@pytest.mark.parametrize("command", ["status", "doctor", "events", "ping", "top"])
async def test_without_a_running_host_it_says_what_to_do(tmp_path: Path, command: str) -> None:
    arguments = ["--json", *(["beta"] if command == "ping" else [])]
    done = await run(command, *arguments, *socket_of(tmp_path / "no.sock"))
    assert (done.status, done.output) == (3, "")
    assert done.errors.startswith(f"knet-trio: cannot connect to {tmp_path}/no.sock: there is no")
    assert len(done.errors.splitlines()) == 1
    assert "[E" not in done.errors


async def test_where_it_looked_is_said(tmp_path: Path) -> None:
    done = await run("status", RUNTIME_DIRECTORY=str(tmp_path))
    # A machine may have a host in root's own place, and then it is found there.
    if done.status == 3:
        assert f"no running host found in {tmp_path}" in done.errors
    assert done.status in (0, 1, 2, 3)


@pytest.mark.parametrize("command", ["status", "doctor", "events", "ping", "top"])
async def test_the_help_has_an_example_and_the_exit_statuses(command: str) -> None:
    done = await run(command, "-h")
    assert done.status == 0
    assert f"  knet-trio {command}" in done.output
    assert "Exit status: 0" in done.output
    for option in ("--socket", "--json"):
        assert option in done.output


async def test_all_commands_are_listed() -> None:
    done = await run("--help")
    for command in ("status", "events", "ping", "top", "demo", "bench"):
        assert f"\n  {command} " in done.output


def test_who_only_asks_does_not_import_what_serves() -> None:
    program = """
import sys
import knet_trio.cli.status
unwanted = {"knet_trio.control.server", "knet_trio.streams", "knet_trio.handle", "cryptography"}
print(sorted(unwanted & sys.modules.keys()))
from knet_trio.control import serve_control
print(serve_control.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\nknet_trio.control.server\n", "")
