"""The site of the documentation has every page, and every public name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Final

import pytest

import knet_trio

DOCS: Final = Path(__file__).parents[1] / "docs"
DIRECTIVES: Final = re.compile(r"^\.\. (auto\w+|currentmodule):: (\S+)", re.MULTILINE)


def public_modules() -> list[str]:
    """Return the modules whose names are for programs; commands are not."""
    names = [
        module.name
        for module in walk_packages(knet_trio.__path__, "knet_trio.")
        if not re.search(r"\._|\.cli\b", module.name)
    ]
    return ["knet_trio", *(name for name in names if hasattr(import_module(name), "__all__"))]


def documented_names() -> set[str]:
    """Return the names in the reference, each with its module."""
    names = set[str]()
    for page in sorted((DOCS / "api").glob("*.md")):
        module = ""
        for directive, name in DIRECTIVES.findall(page.read_text()):
            if directive == "currentmodule":
                module = name
            else:
                names.add(f"{module}.{name.removesuffix('()')}")
    return names


def test_the_modules_are_found() -> None:
    assert {"knet_trio.abc", "knet_trio.streams", "knet_trio.cluster"} < set(public_modules())


@pytest.mark.parametrize("module", public_modules())
def test_the_reference_has_every_public_name(module: str) -> None:
    public = {f"{module}.{name}" for name in import_module(module).__all__}
    missing = public - documented_names()
    assert not missing


def test_the_site_has_every_page() -> None:
    shown = set[str]()
    for index in (DOCS / "index.md", DOCS / "api" / "index.md"):
        text = index.read_text()
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
            shown.update(str((index.parent / line).relative_to(DOCS)) for line in lines)
            # Who reads the Markdown alone has a link.
            assert all(f"({line}.md)" in text for line in lines)
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")}
    assert shown == pages - {"index"}
