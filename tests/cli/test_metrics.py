"""``knet-trio metrics`` beside a host that runs in the test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from knet_trio.metrics import SERIES
from tests.cli.commands import environment, run, socket_of
from tests.cluster import PATIENCE
from tests.control.serving import open_served
from tests.metrics.scraping import promtool, samples, value


async def test_the_classic_text(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        served.handle.open_channel(0)
        done = await run("metrics", *socket_of(served.path))
        assert (done.status, done.errors) == (0, "")
        assert value(done.output, "knet_link_up", host="1", host_name="me", link="0") == 1
        names = {name for name, _ in samples(done.output)}
        # A link of a host to itself has no pings; model aead and streams are not in use.
        absent = ("knet_link_loss_ratio", "knet_host_confirmed", "knet_stream_")
        for one in SERIES:
            if not one.name.startswith(absent):
                assert any(name.startswith(one.name) for name in names), one.name


async def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        text = (await run("metrics", *socket_of(served.path))).output.encode()
    await trio.to_thread.run_sync(lambda: promtool("check", "metrics", text=text))


async def test_json_is_the_record(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run("metrics", "--json", *socket_of(served.path))
        assert (done.status, done.errors) == (0, "")
        said = json.loads(done.output)
        assert said["host_id"] == 1
        (host,) = said["hosts"]
        (link,) = host["links"]
        assert link["stats"]["transitions"]["enabled"] == 1
        assert len(link["stats"]["latency_buckets"]) == len(said["latency_bounds"]) + 1


async def test_nobody_is_there(tmp_path: Path) -> None:
    done = await run("metrics", *socket_of(tmp_path / "none.sock"))
    assert (done.status, done.output) == (3, "")
    assert "there is no such socket" in done.errors


@pytest.mark.parametrize("module", ["prometheus_client", "h11"])
async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, module: str) -> None:
    program = (
        f"import sys; sys.modules[{module!r}] = None\nfrom knet_trio.cli import main\nmain()\n"
    )
    async with open_served(tmp_path) as served:
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                [sys.executable, "-c", program, "metrics", *socket_of(served.path)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment(),
            )
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{module} is missing: pip install 'knet-trio[metrics]'".encode() in done.stderr
