from __future__ import annotations

import json
import re
from pathlib import Path

from knet_trio.control import serve_control
from tests.cli.commands import run, socket_of
from tests.cluster import open_pair
from tests.control.serving import open_served

QUICK = ("--interval", "0.01")


async def test_every_link_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair(links=2) as pair, serve_control(pair.a, path):
        pair.a.hosts[2].name = "beta"
        done = await run("ping", "beta", "--count", 3, *QUICK, *socket_of(path))
        assert (done.status, done.errors) == (0, "")
        lines = done.output.splitlines()
        assert len(lines) == 9
        for number in range(3):
            first, second = lines[2 * number : 2 * number + 2]
            assert re.fullmatch(rf"   {number + 1}  link 0 +[\d.]+ m?s  carries data", first)
            assert re.fullmatch(rf"   {number + 1}  link 1 +[\d.]+ m?s", second)
        summary = r"link 0: 3 of 3 pings answered, .* to .*, mean .*; messages go over it"
        assert re.fullmatch(summary, lines[7])
        assert re.fullmatch(r"link 1: 3 of 3 pings answered, .* ms", lines[8])


async def test_one_link_is_down(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair(links=2) as pair, serve_control(pair.a, path):
        pair.a.hosts[2].links[0].enabled = False
        # A number is the id, if no host is called so.
        pair.a.hosts[2].name = "beta"
        done = await run("ping", "2", "--count", 2, "--json", *QUICK, *socket_of(path))
        assert done.status == 1
        said = json.loads(done.output)
        assert (said["host_id"], said["name"], said["ok"]) == (2, "beta", False)
        off, up = said["links"]
        assert (off["link_id"], off["sent"], off["answered"]) == (0, 0, 0)
        assert (off["connected"], off["in_use"], off["mean"]) == (False, False, None)
        assert off["reason"] == "it was disabled here"
        assert (up["link_id"], up["sent"], up["answered"], up["in_use"]) == (1, 2, 2, True)
        assert 0 < up["min"] <= up["mean"] <= up["max"]
        assert len(up["seconds"]) == 2
        done = await run("ping", "beta", "--link", 1, "--count", 1, *socket_of(path))
        assert done.status == 0
        assert "link 0" not in done.output
        done = await run("ping", "beta", "--link", 0, "--count", 1, *socket_of(path))
        assert done.status == 1
        assert (
            done.output == "   1  link 0  down: it was disabled here\n\nlink 0: down, not pinged\n"
        )


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        for arguments, reason in (
            (
                ("nobody",),
                "there is no host 'nobody': the running host has 1 (me);",
            ),
            (("77",), "there is no host '77': the running host has 1 (me);"),
            (("me", "--link", "3"), "host 1 has no link 3; of those it has: 0"),
        ):
            done = await run("ping", *arguments, *socket_of(served.path))
            assert (done.status, done.output) == (2, "")
            assert reason in done.errors
            assert "add_host" not in done.errors
        await served.link.remove()
        done = await run("ping", "me", "--count", 1, *socket_of(served.path))
        assert (done.status, done.output) == (1, "\nme has no links\n")
