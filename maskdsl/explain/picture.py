"""A spec's masks as a picture: every mask M[t, s] as a whole, its levels, and every factor of every term."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from maskdsl.explain import numeric
from maskdsl.explain.numeric import Array, Values
from maskdsl.explain.report import normal_forms
from maskdsl.mask.nodes import Kind
from maskdsl.mask.normal import Decay, NormalForm, RankOne, Step, Term
from maskdsl.spec import Spec

COLUMNS = 5
PANEL = 3.4


@dataclass(frozen=True)
class Panel:
    """One image [T, T]; `discrete` for level numbers."""

    title: str
    image: Array
    discrete: bool = False


def draw(spec: Spec, target: Path, length: int) -> None:
    """Write the picture of `spec` over `length` positions to `target`, in the format that its suffix names.

    Raises ValueError for a suffix that matplotlib does not know.
    """
    forms = normal_forms(spec)
    values = numeric.sample(spec, forms, length)
    panels = [panel for name, form in forms.items() for panel in _panels(values, form, name if len(forms) > 1 else "")]
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(PANEL * columns + 0.4, PANEL * rows + 0.6), dpi=110, layout="constrained")
    figure.suptitle(spec.name, fontsize=14, fontweight="bold")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, axis in zip(panels, axes, strict=False):
        _show(figure, axis, panel)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(target)


def _panels(values: Values, form: NormalForm, name: str) -> Iterator[Panel]:
    prefix = f"{name}\n" if name else ""
    whole = numeric.mask(values, form)
    yield Panel(f"{prefix}mask, {'size of ' if _matrix(form) else ''}M[t, s]", _image(whole, _matrix(form)))
    for number, term in enumerate(form.terms, start=1):
        of_term = f"{prefix}term {number}\n" if len(form.terms) > 1 else prefix
        yield from (Panel(of_term + panel.title, panel.image, panel.discrete) for panel in _factors(values, term))


def _factors(values: Values, term: Term) -> Iterator[Panel]:
    for step in term.path:
        yield Panel(_step_title(step), numeric.gain(numeric.path(values, (step,))))
    if term.hierarchy:
        yield Panel("level weight lam[t, level(t, s)]", numeric.level_weights(values, term.hierarchy))
        yield Panel("level(t, s)", numeric.level_numbers(values.length, term.hierarchy), discrete=True)
    if term.window is not None:
        yield Panel(f"window({term.window})", numeric.band(values.length, term.window))


def _step_title(step: Step) -> str:
    match step:
        case Decay(g) if g.kind in (Kind.CHANNEL, Kind.HEAD_CHANNEL):
            return "channel decays, root mean square"
        case Decay():
            return "decay exp(g[s+1] + … + g[t])"
        case RankOne(a, b, _) if a == b:
            return "delta steps, root mean square"
        case RankOne():
            return "rank-one steps, root mean square"


def _matrix(form: NormalForm) -> bool:
    return any(
        isinstance(step, RankOne) or step.g.kind in (Kind.CHANNEL, Kind.HEAD_CHANNEL)
        for term in form.terms
        for step in term.path
    )


def _image(operators: Array, matrix: bool) -> Array:
    return numeric.gain(operators) if matrix else operators[..., 0, 0]


def _show(figure: Figure, axis: Axes, panel: Panel) -> None:
    length = len(panel.image)
    visible = np.ma.masked_where(np.tri(length) == 0, panel.image)
    if panel.discrete:
        count = int(panel.image.max()) + 1
        norm = BoundaryNorm(np.arange(count + 1) - 0.5, 256)
        shown = axis.imshow(visible, cmap="viridis", norm=norm, interpolation="nearest")
        figure.colorbar(shown, ax=axis, shrink=0.8, ticks=range(count))
    else:
        largest = float(np.abs(visible).max())
        signed = bool(visible.min() < 0)
        low, colours = (-largest, "RdBu_r") if signed else (0.0, "magma_r")
        shown = axis.imshow(visible, cmap=colours, vmin=low, vmax=largest, interpolation="nearest")
        figure.colorbar(shown, ax=axis, shrink=0.8)
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel("key position s", fontsize=8)
    axis.set_ylabel("query position t", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
