"""The pictures of the documentation can be drawn again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.pictures.states import PICTURES, TABLES, edges_of, read_edges, states_of

DRAWING = Path(__file__).parents[1] / "docs" / "pictures" / "demo.py"


def words_of(picture: Path) -> str:
    """Return all text of an SVG picture."""
    return " ".join("".join(ElementTree.parse(picture).getroot().itertext()).split())


def test_the_picture_of_the_demo(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    command = [sys.executable, str(DRAWING), "--seconds", "3", "--output", str(picture)]
    subprocess.run(command, check=True, timeout=50, capture_output=True)
    drawn = words_of(picture)
    for text in ("$ knet-trio demo", "link 0 is mended", "link 1 is cut", "link 1, cut"):
        assert text in drawn
    # The end of the demo is not on it.
    assert "link 1 is mended" not in drawn
    assert "$ knet-trio demo" in words_of(DRAWING.with_suffix(".svg"))


@pytest.mark.parametrize("name", TABLES)
def test_a_state_machine_is_drawn_as_its_table_has_it(name: str) -> None:
    picture, table = PICTURES / f"states-{name}.svg", TABLES[name]
    drawn = {edge: " ".join(cues) for edge, cues in edges_of(table).items()}
    assert read_edges(picture) == drawn, "python docs/pictures/states.py draws it again"
    words = words_of(picture)
    for state, meaning in states_of(table).items():
        assert f"{state} {meaning}" in words


@pytest.mark.parametrize("picture", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_fetches_nothing(picture: Path) -> None:
    assert "url(http" not in picture.read_text()
    assert "href=" not in picture.read_text()
