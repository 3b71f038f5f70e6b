"""What the documentation shows runs as it is printed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import knet_trio
from knet_trio import CryptoConfig, DropCause, Handle, open_handle
from tests.cluster import KEY, PATIENCE
from tests.ports import free_udp_port

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_has_15_lines_and_prints_what_the_readme_says() -> None:
    (program,) = blocks("README.md", "python")
    assert len([line for line in program.splitlines() if line]) == 15
    (promised,) = re.findall(r"which prints `(.*)`", (ROOT / "README.md").read_text())
    assert run(program).strip() == promised


def test_the_site_begins_with_the_readmes_first_program() -> None:
    assert blocks("docs/index.md", "python") == blocks("README.md", "python")


def test_the_readme_names_what_there_is() -> None:
    named = re.findall(r"^\| \[`([^`]+)`\]", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).exists(), name


def test_ci_runs_the_readmes_test_command() -> None:
    commands = [block.strip() for block in blocks("README.md", "sh")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_the_testing_guide_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "testing_guide"}
    for number, block in enumerate(blocks("docs/testing.md", "python")):
        exec(compile(block, f"docs/testing.md block {number}", "exec"), names)  # noqa: S102  # ours
    assert "on a simulated network with seed=" in capsys.readouterr().out


async def answer(ports: Sequence[int], task_status: trio.TaskStatus[None]) -> None:
    """Host 2 of the guide: it greets whoever sends something."""
    async with open_handle(2, crypto=CryptoConfig(key=KEY)) as handle:
        host = handle.add_host(1)
        for link_id, port in enumerate(ports):
            await host.add_link(
                link_id, ("127.0.0.2", port), ("127.0.0.1", port), ping_interval=0.1
            )
        handle.set_crypto(CryptoConfig(key=KEY), 2)
        task_status.started()
        channel = handle.open_channel(0)
        await host.wait_reachable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_streams, handle)
            async for message in channel:
                await channel.send(b"thanks for " + message.data, to=[1])


async def serve_streams(handle: Handle) -> None:
    """Run the parts of the guide that answer its streams, requests and messages, and its HTTP."""
    names: dict[str, Any] = {"knet_trio": knet_trio, "trio": trio}
    exec("from knet_trio.streams import open_streams", names)  # noqa: S102  # ours
    async with trio.open_nursery() as nursery:
        for function in ("serve", "serve_pages"):
            parts = blocks("docs/guide.md", "python")
            (program,) = [part for part in parts if f"def {function}(" in part]
            exec(compile(program, function, "exec"), names)  # noqa: S102  # ours
            nursery.start_soon(names[function], handle)


@asynccontextmanager
async def open_answered(*ports: int) -> AsyncGenerator[Handle]:
    """Host 1, and host 2 that has a link to it on each of these ports."""
    async with trio.open_nursery() as nursery:
        await nursery.start(answer, ports)
        async with open_handle(1, crypto=CryptoConfig(key=KEY)) as handle:
            yield handle
        nursery.cancel_scope.cancel()


async def run_blocks(document: str, names: dict[str, object]) -> None:
    """Run a document's blocks from top to bottom, as parts of one async function."""
    with trio.fail_after(PATIENCE):
        for number, block in enumerate(blocks(document, "python")):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(block, f"{document} block {number}", "exec", flags)
            result = eval(code, names)  # noqa: S307  # our own documentation
            if inspect.isawaitable(result):
                await result


async def test_the_guide_runs_from_top_to_bottom(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # The guide asks for more than other tests want; so the level goes back to what it was.
    caplog.set_level(logging.DEBUG, "knet_trio.link")
    async with open_answered(5435, 5436) as handle:
        await run_blocks("docs/guide.md", {"key": KEY, "handle": handle})
    said = capsys.readouterr().out
    assert "is up" in said
    assert "thanks for" in said
    assert "b'late'" in said
    assert "as many bytes as you like" in said
    assert "b'this one has to arrive'" in said
    assert "a page of host 2" in said
    assert "nothing was done" not in said
    assert "LinkStatusChanged" in said


async def test_the_page_on_programs_runs_from_top_to_bottom(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_udp_port("127.0.0.1", "127.0.0.2")
    async with open_answered(port) as handle:
        host = handle.add_host(2)
        await host.add_link(0, ("127.0.0.1", port), ("127.0.0.2", port), ping_interval=0.1)
        names: dict[str, Any] = {"handle": handle, "channel": handle.open_channel(0)}
        with trio.fail_after(PATIENCE):
            await host.wait_reachable()
            await run_blocks("docs/programs.md", names)
            # It defines these two, but cannot call them where it is run.
            await end_by_signal(names["serve"])
            assert await trio.to_thread.run_sync(asyncio.run, names["asyncio_part"]()) == 7
    said = capsys.readouterr().out
    assert "b'thanks for from a thread'" in said
    assert "b'thanks for without an await'" in said
    assert "there is a page at http://127.0.0.1:" in said
    assert "cannot run: 'nowhere' is not an IP address" in said
    assert said.splitlines()[-1] == "0 Ethernet addresses are known"


async def test_the_answers_to_questions_run_from_top_to_bottom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # One of them sets the level of the log; so it goes back to what it was.
    caplog.set_level(logging.WARNING, "knet_trio")
    port = free_udp_port("127.0.0.1", "127.0.0.2")
    async with open_answered(port) as handle:
        host = handle.add_host(2)
        await host.add_link(0, ("127.0.0.1", port), ("127.0.0.2", port), ping_interval=0.1)
        await run_blocks(
            "docs/faq.md", {"handle": handle, "channel": handle.open_channel(0), "trio": trio}
        )


async def end_by_signal(serve: Callable[[], Awaitable[None]]) -> None:
    """Run it, and end it by SIGTERM."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        # From then on it does not end this process.
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGTERM)


def test_every_cause_of_a_drop_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "drops.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(cause.value for cause in DropCause)
