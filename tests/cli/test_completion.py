"""Completion in a real bash: commands, options, files, and hosts of the file that stands there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from knet_trio.cli.check import check
from knet_trio.cli.commands import knet_trio
from knet_trio.cli.completion import complete_hosts
from tests.cli.commands import environment
from tests.cluster.files import LAB, write_file
from tests.interop.conftest import need

# Bash runs the function that the command hands out, as it does for the Tab key. Each line of the
# input has words to complete the last of.
PROGRAM = r"""
eval "$(_KNET_TRIO_COMPLETE=bash_source knet-trio)"
function=$(complete -p knet-trio | sed 's/.*-F \([^ ]*\).*/\1/')
compopt() { echo "$@"; }
while IFS=, read -ra COMP_WORDS; do
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    "$function" knet-trio
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """A directory with the command, and a cluster file."""
    need(None if shutil.which("bash") else "bash is missing")
    command = tmp_path / "knet-trio"
    # As in an installation; the module would be called otherwise.
    command.write_text(f"#!{sys.executable}\nfrom knet_trio.cli import main\nmain()\n")
    command.chmod(0o755)
    write_file(tmp_path, LAB)
    return tmp_path


def test_words_are_completed(complete: Path) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", PROGRAM],
        cwd=complete,
        input="knet-trio,ru\nknet-trio,run,lab.toml,--host,al\nknet-trio,run,lab.to\n",
        capture_output=True,
        text=True,
        env=environment({"PATH": f"{complete}:{environment()['PATH']}"}),
        timeout=60,
        check=True,
    )
    # To have it look for files is bash's own option.
    assert (done.stdout, done.stderr) == ("run\nalpha\n-o default\n\n", "")


def test_hosts_are_those_of_the_file(complete: Path) -> None:
    command = click.Context(check)

    def hosts(file: str, begin: str = "") -> list[str]:
        command.args = [str(complete / file)]
        return [item.value for item in complete_hosts(command, check.params[1], begin)]

    assert hosts("lab.toml") == ["alpha", "beta"]
    assert hosts("lab.toml", "b") == ["beta"]
    assert hosts("no.toml") == hosts("lab.key") == []
    (complete / "wrong.toml").write_text("hosts = 3")
    assert hosts("wrong.toml") == []
    command.args = []
    assert complete_hosts(command, check.params[1], "") == []


def test_there_is_one_for_other_shells() -> None:
    for shell in ("zsh", "fish"):
        kind = get_completion_class(shell)
        assert kind is not None
        source = kind(knet_trio, {}, "knet-trio", "_KNET_TRIO_COMPLETE").source()
        assert "_KNET_TRIO_COMPLETE=" in source
