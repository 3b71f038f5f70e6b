"""What the files at the top level say of the project agrees with it, and with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from knet_trio import __version__

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    source = (ROOT / PROJECT["tool"]["hatch"]["version"]["path"]).read_text()
    assert re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE) == [__version__]


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
    assert len(versions) == len(set(versions))


def test_every_change_note_is_of_a_known_kind() -> None:
    kinds = [kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]]
    readme = (ROOT / "changes" / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE) == kinds
    name = re.compile(rf"\+[a-z0-9-]+\.({'|'.join(kinds)})\.md")
    notes = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    assert [path.name for path in notes if not name.fullmatch(path.name)] == []
    assert [path.name for path in notes if not path.read_text().strip()] == []


def test_the_licenses_are_there() -> None:
    names = PROJECT["project"]["license-files"]
    assert PROJECT["project"]["license"] == "MIT OR Apache-2.0"
    assert sorted(path.name for path in ROOT.glob("LICENSE*")) == sorted(names)
    assert (ROOT / "knet_trio" / "py.typed").exists()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    linked = re.findall(r"\]\(([^):#]+)\)", text)
    named = re.findall(r"`((?:knet_trio|tests|docs|changes)/[^`*]*)`", text)
    lacking = {name for name in {*linked, *named} if not (ROOT / name).exists()}
    assert lacking == set()
    assert linked


def test_contributing_is_short_and_its_sessions_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) < 120
    sessions = re.findall(
        r"^def (\w+)\(session: nox.Session\)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    named = {
        name
        for names in re.findall(r"nox -s ([a-z]+(?: [a-z]+)*)`", text)
        for name in names.split()
    }
    assert named
    assert named <= set(sessions)
