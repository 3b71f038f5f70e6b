"""The picture: for each kind of case and network a panel of bars."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from knet_trio.cli.bench.bed import BARE, ENVELOPED, LIBKNET, MESSAGES, OURS, PLAIN, STREAMING
from knet_trio.cli.bench.result import CaseResult

_WIDTH: Final = 10.0
_BAR_HEIGHT: Final = 0.16
_PANEL_EXTRA: Final = 0.9
# The ratio of the longest bar to the shortest above which the axis is logarithmic.
_WIDE: Final = 20.0
_COLOURS: Final = dict(
    zip(
        (OURS, LIBKNET, *PLAIN, BARE, MESSAGES, *STREAMING, ENVELOPED),
        ("C0", "C1", "C2", "C4", "C7", "C5", "C9", "C8", "C6", "C3"),
        strict=True,
    )
)


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Draw the first metric of each case into a file: medians, with least and greatest values.

    Needs matplotlib.
    """
    # Imported here, since the command has to work without it; its types are not complete.
    figure_module = import_module("matplotlib.figure")
    patches = import_module("matplotlib.patches")
    panels: dict[str, list[CaseResult]] = {}
    for result in results:
        if result.rounds:
            title = f"{result.case.kind}, {result.case.network}"
            panels.setdefault(title, []).append(result)
    if not panels:
        return
    heights = [
        _PANEL_EXTRA + _BAR_HEIGHT * sum(len(result.contenders) + 1 for result in panel)
        for panel in panels.values()
    ]
    figure = figure_module.Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for row, (title, panel) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[row, 0])
        axes.set_title(title, loc="left")
        _draw_panel(axes, panel)
    figure.legend(
        handles=[
            patches.Patch(color=colour, label=name)
            for name, colour in _COLOURS.items()
            if any(name in result.contenders for result in results)
        ],
        loc="outside upper right",
        ncols=len(_COLOURS),
        fontsize="small",
    )
    figure.savefig(path, dpi=120)


def _draw_panel(axes: Any, results: Sequence[CaseResult]) -> None:
    metric = results[0].case.metrics[0]
    place = 0
    ticks: list[float] = []
    labels: list[str] = []
    medians: list[float] = []
    for result in results:
        ticks.append(place + (len(result.contenders) - 1) / 2)
        labels.append(result.case.name.removeprefix(f"{result.case.kind}/"))
        for contender in result.contenders:
            spread = result.spread(contender, metric)
            medians.append(spread.median)
            axes.barh(
                place,
                spread.median,
                xerr=[[spread.median - spread.least], [spread.greatest - spread.median]],
                color=_COLOURS[contender],
                height=0.9,
                error_kw={"elinewidth": 1, "ecolor": "0.25"},
            )
            place += 1
        place += 1
    if min(medians) > 0 and max(medians) > _WIDE * min(medians):
        axes.set_xscale("log")
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"{metric.title} [{metric.unit}]" if metric.unit else metric.title)
    axes.grid(axis="x", alpha=0.3)
