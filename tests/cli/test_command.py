"""The command as a user runs it: a process with arguments, output and an exit status."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import knet_trio
from tests.cli.processes import ended
from tests.cluster.files import LAB, write_file

COMMAND = [sys.executable, "-W", "error", "-m", "knet_trio"]
# Far more than any of it takes, so that a hang is a failure and not a wait for ever.
PATIENCE = 120


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def run_demo(*arguments: str) -> dict[str, Any]:
    """The JSON object of a demo that has to succeed."""
    done = run("demo", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    # One object and nothing else.
    result: dict[str, Any] = json.loads(done.stdout)
    assert "link 0 is cut" in done.stderr
    return result


def test_the_help_says_of_each_command_all_that_it_does() -> None:
    done = run("-h")
    assert done.returncode == 0
    _, commands = done.stdout.split("Commands:")
    assert "..." not in commands
    assert " ".join(commands.split()).endswith("of a running host live, with rates.")


def test_active_loses_nothing() -> None:
    result = run_demo("--seconds", "6")
    assert result["ok"] is True
    assert (result["nodes"], result["links"], result["policy"]) == (3, 2, "active")
    assert (result["cipher"], result["hash"]) == ("aes256", "sha256")
    assert result["messages"] > 0
    assert result["sent"] == result["delivered"] == 2 * result["messages"]
    assert result["lost"] == result["lost_unexplained"] == 0
    assert result["duplicates"] == result["corrupted"] == 0
    assert result["failover_seconds"] >= 0
    assert 0 < result["latency_seconds"]["median"] <= result["latency_seconds"]["p99"]
    assert result["latency_seconds"]["p99"] <= result["latency_seconds"]["max"]
    # An MTU of 1500, and a cipher that works in blocks of 16.
    assert 1500 - 16 < result["mtu"] + result["overhead"] <= 1500
    assert [cut["link"] for cut in result["cuts"]] == [0, 1]
    assert all(check["ok"] for check in result["checks"])


def test_passive_shows_the_gap_until_the_cut_is_known() -> None:
    result = run_demo("--seconds", "3", "--hosts", "2", "--policy", "passive", "--no-hedge")
    assert result["hedge"] is False
    first, second = result["cuts"]
    # Link 0 carries all while it is up, so only its cut can lose anything, and must.
    assert first["lost"] == result["lost"] > 0
    assert second["lost"] == 0
    assert result["failover_seconds"] == first["failover_seconds"] > 0
    assert result["lost_unexplained"] == result["duplicates"] == result["corrupted"] == 0
    assert result["sent"] == result["delivered"] + result["lost"]


def test_hedging_is_as_sound() -> None:
    result = run_demo("--seconds", "3", "--nodes", "2", "--policy", "passive")
    assert result["hedge"] is True
    assert result["lost_unexplained"] == result["duplicates"] == result["corrupted"] == 0


def test_round_robin_loses_some_in_both_cuts_as_plain_lines() -> None:
    options = ("--seconds", "3", "--nodes", "2", "--rate", "50", "--no-hedge")
    done = run("demo", "--policy", "round-robin", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    for what in ("link 0 is cut", "link 0 is mended", "link 1 is cut", "link 1 is mended"):
        assert re.search(rf"^\[ *[\d.]+\] {what}", done.stdout, re.MULTILINE), done.stdout
    lost = re.findall(r"cut of link \d .* (\d+) lost", done.stdout)
    assert len(lost) == 2
    assert all(map(int, lost))
    assert "FAILED" not in done.stdout
    assert done.stdout.endswith("All expectations held.\n")


def test_a_terminal_gets_a_live_table() -> None:
    ours, theirs = pty.openpty()
    with ended(
        subprocess.Popen(
            [*COMMAND, "demo", "--seconds", "3", "--nodes", "2"],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        )
    ) as process:
        os.close(theirs)
        screen = _read_terminal(ours)
        status = process.wait(PATIENCE)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen)
    assert status == 0, text
    assert "\x1b[" in screen
    assert re.search(r"host +link 0, cut +link 1 +sent +received +lost +latency +MTU", text)
    # Which of them it shows when depends on how busy the machine is.
    assert re.search(r"1 +(up|down)\b.* (up|down)\b", text)
    assert "All expectations held." in text
    # The cursor, hidden while the table is live, is back.
    assert screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l") >= 0


@pytest.mark.parametrize("arguments", [["check", "lab.toml"], ["-h"]])
def test_output_without_room_is_said_in_a_line(tmp_path: Path, arguments: list[str]) -> None:
    write_file(tmp_path, LAB)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=tmp_path,
        )
    assert done.stderr == "knet-trio: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_characters_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    write_file(tmp_path, '[[hosts]]\nid = 1\nname = "\u03b1"\nlinks = ["10.0.0.1"]\n')
    done = subprocess.run(
        [*COMMAND, "check", "lab.toml"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\n\\u03b1 (id 1)\n" in done.stdout


def test_standard_streams_that_are_closed_are_nothing_else(tmp_path: Path) -> None:
    """Else the first socket would be taken for the log."""
    code = (
        "import os, sys; os.closerange(0, 3)\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "from knet_trio.cli.output import fill_descriptors\n"
        "fill_descriptors(); print('lost'); print('lost', file=sys.stderr)\n"
        "opened = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        f"open({str(tmp_path / 'said')!r}, 'w').write(repr(opened))\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=True)
    assert (tmp_path / "said").read_text() == repr(["/dev/null"] * 3)


def _read_terminal(descriptor: int) -> str:
    parts: list[bytes] = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError as error:
        # This is how a terminal ends on Linux.
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_ends_it_without_a_traceback(number: signal.Signals, status: int) -> None:
    with ended(
        subprocess.Popen(
            [*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            # From the first line with a time on, the nodes are running.
            if line.startswith("["):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert errors == f"ended by {number.name}\n"


def test_a_reader_that_goes_away_ends_it_without_a_traceback() -> None:
    with ended(
        subprocess.Popen(
            [*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert errors == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nodes", "1"),
        ("--nodes", "9"),
        ("--seconds", "0"),
        ("--seconds", "soon"),
        ("--rate", "0"),
        ("--policy", "lively"),
        ("--fast",),
        ("now",),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...]) -> None:
    done = run("demo", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_help_tells_the_options_and_what_is_measured() -> None:
    done = run("demo", "--help")
    assert done.returncode == 0
    for word in (
        "--policy",
        "--nodes",
        "--seconds",
        "--rate",
        "--no-hedge",
        "--json",
        "failover_seconds",
    ):
        assert word in done.stdout


def test_a_mistyped_command_gets_the_nearest_one() -> None:
    done = run("statsu")
    assert done.returncode == 2
    assert "No such command 'statsu': did you mean status?" in done.stderr
    done = run("xyzzy")
    assert done.returncode == 2
    assert "No such command 'xyzzy'." in done.stderr
    assert "did you mean" not in done.stderr


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert knet_trio.__version__ in done.stdout


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    program = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from knet_trio.cli import main\n"
        "sys.argv = ['knet-trio', 'demo']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'knet-trio[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_stands_in_the_way_is_said() -> None:
    program = (
        "import resource\n"
        "from knet_trio.cli import main\n"
        "import knet_trio.cli.commands, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "sys.argv = ['knet-trio', 'demo']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "the demo cannot go on" in done.stderr
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr
