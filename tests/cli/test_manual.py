"""The manual pages say what the commands say of themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from knet_trio.cli.commands import knet_trio
from knet_trio.cli.manual import make_pages, write_pages
from tests.cluster import PATIENCE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "man"
CONTEXT = click.Context(knet_trio, info_name="knet-trio")
COMMANDS = knet_trio.list_commands(CONTEXT)

every_page = pytest.mark.parametrize("name", sorted(make_pages()))
every_command = pytest.mark.parametrize("name", COMMANDS)


def test_each_command_has_a_page() -> None:
    assert set(make_pages()) == {"knet-trio.1", *(f"knet-trio-{name}.1" for name in COMMANDS)}


def test_the_pages_are_in_step_with_the_commands() -> None:
    written = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert written == make_pages(), "`nox -s manual` writes them"


def test_old_pages_are_removed(tmp_path: Path) -> None:
    (tmp_path / "knet-trio-nothing.1").write_text("")
    write_pages(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(make_pages())


def test_the_pages_are_installed_where_man_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {"docs/man": "share/man/man1"}


@every_command
def test_a_help_text_has_its_examples_line_by_line(name: str) -> None:
    command = knet_trio.get_command(CONTEXT, name)
    assert command is not None
    help = command.get_help(click.Context(command, info_name=name, parent=CONTEXT))
    assert "\\b" not in help
    assert "\b" not in help
    assert re.search(r"^ +Examples?:\n +(\$ )?knet-trio ", help, re.MULTILINE), help


def formatted(name: str, page: str) -> str:
    """The page as `man` shows it; none of groff's warnings is let through."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("it takes: apt-get install man-db groff")
    done = subprocess.run(
        ["man", "--warnings", "--local-file", "-"],
        input=page,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert (done.returncode, done.stderr) == (0, ""), name
    return done.stdout


@every_page
def test_man_shows_a_page_without_a_warning(name: str) -> None:
    shown = formatted(name, make_pages()[name])
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"):
        assert f"\n{title}\n" in shown
    assert re.search(r"-h, +--help", shown)


@every_page
def test_mandoc_finds_nothing(name: str, tmp_path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("it takes: apt-get install mandoc")
    path = tmp_path / name
    path.write_text(make_pages()[name])
    command = ["mandoc", "-T", "lint", "-W", "warning", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    # That a page has no date is on purpose: it changes when its text does.
    said = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert said == []


def test_a_page_has_all_parts_of_a_help_text() -> None:
    # Lines are spread to the margin.
    shown = re.sub(" +", " ", formatted("ping", make_pages()["knet-trio-ping.1"]))
    assert "EXAMPLES\n knet-trio ping beta\n knet-trio ping 2 --link 1 --count 20" in shown
    assert "EXIT STATUS\n 0 if the host answered at least once" in shown
    assert "--count INTEGER\n Pings to send over each link. It is 1 or more. [default: 5]" in shown
    assert "knet-trio ping [OPTIONS] HOST" in shown
