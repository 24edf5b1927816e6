"""Times over sequence lengths as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskdsl.runtime.benchmark.measure import Row

PASSES = {"forward": "forward", "training": "forward and backward"}
"""Fields of a row, and how they are called."""


def draw(title: str, rows: Sequence[Row], target: Path) -> None:
    """Write a picture with a line for each system, in the format that the suffix of `target` names.

    Raises ValueError for a suffix that matplotlib does not know.
    """
    figure = Figure(figsize=(11, 4.5), dpi=110, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(PASSES), sharey=True)
    for axes, (field, name) in zip(panels, PASSES.items(), strict=True):
        _lines(axes, rows, field)
        axes.set_title(name)
    panels[0].set_ylabel("ms")
    panels[0].legend()
    figure.savefig(target)


def _lines(axes: Axes, rows: Sequence[Row], field: str) -> None:
    for system in dict.fromkeys(row.system for row in rows):
        points = [(row.length, getattr(row, field)) for row in rows if row.system == system]
        measured = [(length, time) for length, time in points if time is not None]
        axes.plot(*zip(*measured, strict=True) if measured else ([], []), marker="o", label=system)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("T")
    axes.grid(alpha=0.3)
