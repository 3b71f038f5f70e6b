from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import attrs
import pytest
import trio
from rich.console import Console

from knet_trio.cli.status import describe, print_status
from knet_trio.control import serve_control
from knet_trio.control.records import HandleReport, HostReport, LinkReport
from knet_trio.streams import open_streams
from tests.cli.commands import COMMAND, environment, run, socket_of
from tests.cli.reports import down, handle, host, link
from tests.cluster import PATIENCE, open_pair, wait_for
from tests.control.serving import open_served


async def test_all_is_up(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair(links=2) as pair, serve_control(pair.a, path):
        pair.a.hosts[2].name = "beta"
        await wait_for(lambda: pair.a.data_mtu == 65481)
        done = await run("status", *socket_of(path))
        assert (done.status, done.errors) == (0, "")
        assert "\x1b" not in done.output
        lines = done.output.splitlines()
        assert lines[0] == "host 1: 1 of 1 host reachable, 2 of 2 links up; data MTU 65481"
        assert lines[2].split()[:4] == ["HOST", "LINK", "STATE", "SINCE"]
        assert re.match(r"beta \(2\) +0\*  up +\d+s +\d.* ms +\d+%  65481 ", lines[3])
        assert re.match(r"beta \(2\) +1   up ", lines[4])
        assert lines[3].endswith("  the peer answers pings")
        assert done.output.endswith("dropped: nothing\n")


async def test_something_is_down(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        served.link.enabled = False
        done = await run("status", "--interval", 0, *socket_of(served.path))
        assert (done.status, done.errors) == (1, "")
        assert "host 1: 0 of 1 host reachable, 0 of 1 link up, 1 off" in done.output
        assert "it was disabled here" in done.output


async def test_a_host_without_hosts_has_nothing_down(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.handle.hosts[1].remove()
        done = await run("status", "--interval", 0, *socket_of(served.path))
        assert done.status == 0
        assert done.output == (
            "host 1: 0 of 0 hosts reachable, 0 of 0 links up; data MTU 482\n\ndropped: nothing\n"
        )


async def test_json_is_the_report_with_rates(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        done = await run("status", "--json", "--interval", 0.05, *socket_of(served.path))
        assert done.status == 0
        said = json.loads(done.output)
        assert said["ok"] is True
        assert set(said) == {"ok", *names(HandleReport)}
        (report,) = said["hosts"]
        assert set(report) == names(HostReport)
        (only,) = report["links"]
        assert set(only) == {"tx_data_rate", "rx_data_rate", *names(LinkReport)}
        assert (only["tx_data_rate"], only["rx_data_rate"]) == (0, 0)


def names(kind: type[attrs.AttrsInstance]) -> set[str]:
    return {field.name for field in attrs.fields(kind)}


def test_without_an_interval_there_are_no_rates() -> None:
    said = describe(handle(host(2, link())), None)
    assert said["hosts"][0]["links"][0]["tx_data_rate"] is None


def read_screen(process: subprocess.Popen[bytes], ours: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            # This is how a terminal ends on Linux.
            break
        parts.append(part)
    process.wait(PATIENCE)
    return b"".join(parts).decode()


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
async def test_a_terminal_gets_colours_unless_it_wants_none(
    tmp_path: Path, no_color: str, colours: bool
) -> None:
    async with open_served(tmp_path) as served:
        served.link.enabled = False
        ours, theirs = pty.openpty()
        variables = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        if no_color:
            variables["NO_COLOR"] = no_color
        process = await trio.to_thread.run_sync(
            lambda: subprocess.Popen(
                [*COMMAND, "status", *socket_of(served.path)],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                env=environment(variables),
            )
        )
        os.close(theirs)
        try:
            screen = await trio.to_thread.run_sync(read_screen, process, ours)
        finally:
            os.close(ours)
        assert process.returncode == 1
        # 31 is red: the host cannot be reached.
        assert (re.search(r"\x1b\[[0-9;]*31m", screen) is not None) is colours
        plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
        lines = plain.splitlines()
        assert max(map(len, lines)) <= 80
        # There is no room for the reason beside the figures.
        assert "  it was disabled here" in lines


def screen_of(width: int, height: int, *, everything: bool) -> list[str]:
    """What a terminal of that size shows of 500 links, some of which are down."""
    report = handle(
        *(
            host(
                number,
                *(down(0, reason="no pong for 2.000 s") if number % 40 == 0 else link(0), link(1)),
                name=f"node-{number:03}.rack{number % 7}.example",
            )
            for number in range(2, 252)
        ),
        drops={"not_authentic": 12, "duplicate": 3},
    )
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=True, color_system=None, width=width, height=height
    )
    print_status(console, report, None, everything=everything)
    return output.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_many_links_are_put_on_one_screen(width: int, height: int) -> None:
    lines = screen_of(width, height, everything=False)
    # One line is for the prompt.
    assert height - 3 <= len(lines) <= height - 1
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("host 1: 250 of 250 hosts reachable, 494 of 500 links up")
    assert lines[3].startswith("node-040")
    (left,) = (line for line in lines if line.startswith("… "))
    assert re.fullmatch(
        r"… \d+ more links(, 1 not up)?: --all shows all, knet-trio top scrolls", left
    )
    assert lines[-1] == "dropped: not_authentic 12, duplicate 3"


def test_all_links_are_shown_if_that_is_asked_for() -> None:
    lines = screen_of(80, 24, everything=True)
    # Six reasons, and what is above and below the links.
    assert len(lines) == 500 + 6 + 6
    assert lines[3].startswith("node-002")


async def test_streams_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with (
        open_pair() as pair,
        serve_control(pair.a, path),
        open_streams(pair.a, channel=7) as streams,
        open_streams(pair.b, channel=7) as others,
        others.listener(),
        await streams.connect(2),
    ):
        done = await run("status", "--interval", "0", *socket_of(path))
        *_, line, last = done.output.splitlines()
        assert last.startswith("dropped: ")
        assert re.fullmatch(
            r"streams with 2, channel 7: 1 open, round trip [\d.]+ m?s, window [\d.]+ kB,"
            r" up to [\d.]+ .?B/s, \d+ packets? sent again",
            line,
        )
