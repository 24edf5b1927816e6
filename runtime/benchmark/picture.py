"""Times over sequence lengths, or over positions, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maskdsl.runtime.benchmark.decoding import StepRow
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


def draw_steps(title: str, rows: Sequence[StepRow], target: Path) -> None:
    """The same for steps: a panel for each batch, the shorter of both times over positions."""
    batches = list(dict.fromkeys(row.batch for row in rows))
    figure = Figure(figsize=(max(5.5, 4 * len(batches)), 4.5), dpi=110, layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        points = [(row.system, row.position, row.best) for row in rows if row.batch == batch]
        _plot(axes, points, "tokens before")
        axes.set_title(f"B = {batch}")
    panels[0].set_ylabel("us")
    panels[0].legend()
    figure.savefig(target)


def _lines(axes: Axes, rows: Sequence[Row], field: str) -> None:
    _plot(axes, [(row.system, row.length, getattr(row, field)) for row in rows], "T")


def _plot(axes: Axes, points: Sequence[tuple[str, int, float | None]], along: str) -> None:
    """A line for each system through its places and times."""
    for system in dict.fromkeys(name for name, _, _ in points):
        measured = [(place, time) for name, place, time in points if name == system and time is not None]
        axes.plot(*zip(*measured, strict=True) if measured else ([], []), marker="o", label=system)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(along)
    axes.grid(alpha=0.3)
