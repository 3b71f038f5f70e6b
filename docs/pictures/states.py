"""Draw the state machines of the package from their tables: ``python docs/pictures/states.py``.

Each picture is ``states-NAME.svg``. It takes Graphviz (``apt-get install graphviz``); to compare a
picture with its table does not.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from textwrap import wrap
from typing import Final, TypeVar
from xml.etree import ElementTree

from knet_trio._core import confirmation, connection, inquiry
from knet_trio.streams._core import connection_stages, receiving_half, sending_half

PICTURES: Final = Path(__file__).parent
Table = Sequence[tuple[Enum, Enum, Enum]]
State = TypeVar("State", bound=Enum)
Cue = TypeVar("Cue", bound=Enum)


def rows_of(transitions: Mapping[tuple[State, Cue], State]) -> Table:
    """Return the rows of a table: a state, what takes it further, and the state that follows."""
    return [(state, cue, following) for (state, cue), following in transitions.items()]


TABLES: Final[Mapping[str, Table]] = {
    "connection": rows_of(connection.TRANSITIONS),
    "inquiry": rows_of(inquiry.TRANSITIONS),
    "life": rows_of(confirmation.LIFE_TRANSITIONS),
    "stream-connection": rows_of(connection_stages.CONNECTION_TRANSITIONS),
    "sending-half": rows_of(sending_half.SENDING_TRANSITIONS),
    "receiving-half": rows_of(receiving_half.RECEIVING_TRANSITIONS),
}
# Characters of a line, of a state and of what leads to another.
STATE_WIDTH: Final = 20
CUE_WIDTH: Final = 24
BULLET: Final = "• "
# Paper, boxes, words, lines; and the same where the reader prefers a dark page.
LIGHT: Final = ("#fffffe", "#eef3f8", "#1f2329", "#5a6572")
DARK: Final = ("#131416", "#232a33", "#e3e7ec", "#9aa5b1")
SVG: Final = "{http://www.w3.org/2000/svg}"


def edges_of(table: Table) -> dict[tuple[str, str], list[str]]:
    """Return the arrows of a table: from one state to another, and what leads there."""
    edges: dict[tuple[str, str], list[str]] = {}
    for state, cue, following in table:
        edges.setdefault((state.name, following.name), []).append(str(cue.value))
    for cues in edges.values():
        if len(cues) > 1:
            cues[:] = [BULLET + cue for cue in cues]
    return edges


def states_of(table: Table) -> dict[str, str]:
    """Return the states and what they mean."""
    (kind,) = {type(following) for _, _, following in table}
    return {state.name: str(state.value) for state in kind}


def describe(table: Table) -> str:
    """Return a table in Graphviz' language."""
    paper, box, ink, line = LIGHT
    words = f'fontname="Helvetica,Arial,sans-serif" fontcolor="{ink}" color="{line}"'
    lines = [
        "digraph states {",
        f'bgcolor="{paper}" rankdir=LR nodesep=0.35 ranksep=0.25 pad=0.15',
        f'node [shape=box style="rounded,filled" fillcolor="{box}" margin="0.12,0.08"]',
        f"node [fontsize=11 {words}]",
        f"edge [fontsize=10 arrowsize=0.7 {words}]",
    ]
    for name, meaning in states_of(table).items():
        rows = "<br/>".join(map(escape, wrap(meaning, STATE_WIDTH)))
        lines.append(f"{name} [label=<<b>{name}</b><br/>{rows}>]")
    for (state, following), cues in edges_of(table).items():
        label = "".join(rf"{row}\l" for cue in cues for row in wrap(cue, CUE_WIDTH))
        lines.append(f'{state} -> {following} [label="{label}"]')
    return "\n".join([*lines, "}"])


def escape(words: str) -> str:
    """Return words as they stand in a label with tags."""
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def draw(table: Table) -> str:
    """Return the picture of a table, as SVG."""
    command = ["dot", "-Tsvg"]
    done = subprocess.run(
        command, input=describe(table), capture_output=True, text=True, check=True, timeout=60
    )
    rules = [
        f'[{attribute}="{light}"] {{ {attribute}: {dark} }}'
        for light, dark in zip(LIGHT, DARK, strict=True)
        for attribute in ("fill", "stroke")
    ]
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>\n"
    picture = re.sub(r"<!--.*?-->\n?", "", done.stdout, flags=re.DOTALL)
    picture = re.sub(r"<!DOCTYPE.*?>\n?", "", picture, flags=re.DOTALL)
    return picture.replace('<g id="graph0"', f'{style}<g id="graph0"')


def read_edges(picture: Path) -> dict[tuple[str, str], str]:
    """Return the arrows of a picture, each with all its words."""
    edges: dict[tuple[str, str], str] = {}
    for group in ElementTree.parse(picture).getroot().iter(f"{SVG}g"):
        if group.get("class") == "edge":
            state, _, following = (group.findtext(f"{SVG}title") or "").partition("->")
            words = [text.text or "" for text in group.iter(f"{SVG}text")]
            edges[state, following] = " ".join(words)
    return edges


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURES, help="the directory")
    arguments = parser.parse_args()
    for name, table in TABLES.items():
        (arguments.output / f"states-{name}.svg").write_text(draw(table))


if __name__ == "__main__":
    main()
