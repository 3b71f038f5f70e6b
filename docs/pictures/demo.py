"""Run the demo, and draw its terminal while a link is cut: ``python docs/pictures/demo.py``.

The picture is ``demo.svg``.
"""

from __future__ import annotations

import argparse
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Final

import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from knet_trio import LinkPolicy
from knet_trio.cli.demo import run_demo
from knet_trio.cli.report import Kind, LiveReport, live_view
from knet_trio.cli.result import Result, Settings, View, default_rate

PICTURE: Final = Path(__file__).with_name("demo.svg")
WIDTH: Final = 118
NODES: Final = 3
# rich has them fetched from elsewhere. Every system has a font of fixed width.
FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class PictureReport(LiveReport):
    """A live report that keeps the terminal as it was last while a link was cut.

    Attributes:
        picture: That terminal, as SVG; empty before the first cut.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, Live(console=console, auto_refresh=False))
        self.picture = ""
        self._recorder = console
        self._during_cut: View | None = None

    def show(self, view: View) -> None:
        """Keep the state while a link is cut."""
        if view.cut:
            self._during_cut = view

    def say(self, at: float, what: str, kind: Kind = "plain") -> None:
        """Print the event; before a mending, draw the terminal with the table below the events."""
        if self._during_cut is not None and what.endswith("is mended"):
            until_now = self._recorder.export_text(clear=False, styles=True)
            self._recorder.print(live_view(self._during_cut))
            svg = self._recorder.export_svg(title="knet-trio demo", unique_id="demo")
            self.picture = FONTS.sub("", svg)
            # The table is not part of what is printed above it.
            self._recorder.print(Text.from_ansi(until_now.rstrip("\n")))
            self._during_cut = None
        super().say(at, what, kind)


def draw(settings: Settings) -> tuple[str, Result]:
    """Run the demo; return the picture, and the result."""
    console = Console(
        record=True, file=StringIO(), width=WIDTH, force_terminal=True, highlight=False
    )
    console.print(Text("$ ", "dim").append("knet-trio demo", "bold not dim"))
    report = PictureReport(console)
    report.introduce(settings)
    result = trio.run(run_demo, settings, report)
    return report.picture, result


def main() -> None:
    """Draw the picture; exit with 1 if the demo failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long the demo streams")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the file to write")
    arguments = parser.parse_args()
    settings = Settings(
        NODES, LinkPolicy.ACTIVE, arguments.seconds, default_rate(NODES), hedge=True
    )
    picture, result = draw(settings)
    arguments.output.write_text(picture)
    sys.exit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
