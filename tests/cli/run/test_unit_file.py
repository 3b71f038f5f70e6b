"""The unit in contrib/: systemd takes it, and it may little."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.interop.conftest import need

SYSTEMD: Final = Path(__file__).parents[3] / "contrib" / "systemd"
UNIT: Final = "knet-trio@.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy that names a program which is there."""
    missing = "systemd-analyze is missing: apt-get install systemd"
    need(None if shutil.which("systemd-analyze") else missing)
    text = (SYSTEMD / UNIT).read_text()
    assert "ExecStart=/opt/knet-trio/bin/knet-trio run " in text
    path = tmp_path / UNIT
    path.write_text(text.replace("/opt/knet-trio/bin/knet-trio", sys.executable))
    return path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


# In tenths: below 2 is what systemd calls OK, and the best but one of its words.
@pytest.mark.parametrize(("with_tap", "threshold"), [(False, 13), (True, 20)])
def test_it_is_right_and_may_little(unit: Path, with_tap: bool, threshold: int) -> None:
    if with_tap:
        shutil.copytree(SYSTEMD / f"{UNIT}.d", unit.with_name(f"{UNIT}.d"))
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout) == (0, "")
    done = analyze("security", "--offline=true", f"--threshold={threshold}", unit)
    assert done.returncode == 0, done.stdout


def test_it_says_what_the_command_does(unit: Path) -> None:
    text = unit.read_text()
    for line in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "RestartPreventExitStatus=2"):
        assert f"\n{line}\n" in text


def test_others_cannot_open_the_directory_of_the_sockets() -> None:
    """They may go through it to the socket of a channel. What they can open they can lock."""
    mode = re.search(r"^RuntimeDirectoryMode=(\d+)$", (SYSTEMD / UNIT).read_text(), re.MULTILINE)
    assert mode is not None
    assert int(mode[1], 8) & 0o077 == 0o011
