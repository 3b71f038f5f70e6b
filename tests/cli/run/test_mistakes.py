"""Mistakes of whoever runs a host: each is one line, and a status that means something."""

from __future__ import annotations

import socket
from pathlib import Path

from knet_trio import open_handle
from knet_trio.control import serve_control
from tests.cli.commands import run
from tests.cli.run.supervising import make_lab


def error_in(text: str) -> str:
    """The one line with an error."""
    lines = [line for line in text.splitlines() if "  error    " in line]
    assert len(lines) == 1, text
    return lines[0]


async def test_what_stands_in_the_way(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    alpha = ("run", lab.path, "--host", "alpha")

    async def status_of(*arguments: object, said: str, status: int) -> None:
        done = await run(*arguments)
        assert said in error_in(done.errors)
        assert (done.status, done.output) == (status, "")

    assert (await run("run", "--hots", "alpha", lab.path)).status == 2
    await status_of("run", tmp_path / "no.toml", said="cannot be read: No such file", status=2)
    said = "there is no host 'gamma' in it; there are alpha (1), beta (2)"
    await status_of("run", lab.path, "--host", "gamma", said=said, status=2)
    said = "has the addresses of several hosts"
    await status_of("run", lab.path, said=said, status=2)
    async with open_handle(1) as handle, serve_control(handle, lab.control(1)):
        said = f"serves {lab.control(1)}: is this host running already?"
        await status_of(*alpha, said=said, status=3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        port = int(lab.text.partition("port = ")[2].partition("\n")[0])
        taken.bind(("127.0.0.1", port))
        said = f"127.0.0.1:{port}: Address already in use"
        await status_of(*alpha, said=said, status=3)
