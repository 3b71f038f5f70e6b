"""Three hosts by the commands that the README has for the first of them."""

from __future__ import annotations

import re
import shlex
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from tests.cli.commands import run, started
from tests.cluster import PATIENCE
from tests.interop.conftest import need
from tests.interop.namespaces import namespace_pair, namespaces_missing

ROOT = Path(__file__).parents[3]


async def test_three_hosts_take_a_key_and_a_command_each(tmp_path: Path) -> None:
    need(namespaces_missing())
    text = (ROOT / "README.md").read_text()
    printed = re.findall(r"`knet-trio ((?:keygen|run) [^`]+)`", text)
    keygen, first = map(shlex.split, printed)
    assert first[-1] == "alpha"
    hosts = [[*first[:-1], name] for name in ("alpha", "beta", "gamma")]
    shutil.copy(ROOT / "examples" / "lab.toml", tmp_path)
    # The ports are those of the file, which others may have here.
    with namespace_pair(1) as pair:
        place = ["env", "-C", str(tmp_path), f"XDG_RUNTIME_DIR={tmp_path}"]
        within = pair.within(0, *place)
        assert (await run(*keygen, within=within)).status == 0
        async with AsyncExitStack() as stack:
            for host in hosts:
                await stack.enter_async_context(started(*host, within=within))
            socket = tmp_path / "knet-trio" / "lab-1.sock"
            with trio.fail_after(PATIENCE):
                while True:
                    seen = await run("status", "--socket", socket, within=within)
                    if seen.status == 0:
                        break
                    await trio.sleep(0.2)
            assert "beta" in seen.output
            assert "gamma" in seen.output
