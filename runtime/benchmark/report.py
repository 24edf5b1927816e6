"""Rows as text: where and when they were measured, a table, CSV and Markdown."""

from __future__ import annotations

import csv
import datetime
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from importlib import metadata

import torch
from rich.table import Table

from maskdsl.runtime.benchmark.decoding import StepRow
from maskdsl.runtime.benchmark.measure import Row
from maskdsl.runtime.benchmark.roofline import Ceilings

PACKAGES = ("maskdsl", "torch", "triton", "flash-linear-attention", "mamba-ssm")


def environment(device: str, limits: Ceilings) -> str:
    """The date, the device, what was measured of it, and the versions of the packages that are installed."""
    cpu = f"CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"
    name = cpu if device == "cpu" else torch.cuda.get_device_name()
    found = [f"{each} {version}" for each in PACKAGES if (version := _version(each))]
    measured = f"copy {limits.bandwidth / 1e12:.3g} TB/s, matrix product {limits.rate / 1e12:.3g} TFLOP/s"
    return f"{datetime.date.today()}, {name} ({measured}), {', '.join(found)}"


def table(title: str, rows: Sequence[Row]) -> Table:
    """A table of what was measured; a column for nothing is left out."""
    columns = [
        ("T", [str(row.length) for row in rows]),
        ("system", [row.system for row in rows]),
        ("fwd\nms", [number(row.forward) for row in rows]),
        ("of\nroof", [_percent(row.forward_share) for row in rows]),
        ("fwd+bwd\nms", [number(row.training) for row in rows]),
        ("of\nroof", [_percent(row.training_share) for row in rows]),
        ("peak\nMB", [number(row.peak) for row in rows]),
        ("host\nms", [number(row.host) for row in rows]),
        ("first\ns", [number(row.first) for row in rows]),
        ("error\nof o", [error(row.errors.get("o")) for row in rows]),
        ("worst\ngradient", [error(row.worst_gradient) for row in rows]),
    ]
    return _table(title, columns)


def step_table(title: str, rows: Sequence[StepRow]) -> Table:
    """The same for steps of one token, in microseconds."""
    columns = [
        ("B", [str(row.batch) for row in rows]),
        ("position", [str(row.position) for row in rows]),
        ("system", [row.system for row in rows]),
        ("step\nus", [number(row.step) for row in rows]),
        ("in a graph\nus", [number(row.graph) for row in rows]),
        ("of\nroof", [_percent(row.share) for row in rows]),
        ("host\nus", [number(row.host) for row in rows]),
        ("moved\nMB", [number(row.megabytes) for row in rows]),
    ]
    return _table(title, columns)


def _table(title: str, columns: Sequence[tuple[str, list[str]]]) -> Table:
    shown = Table(title=title, title_justify="left")
    kept = [(name, cells) for name, cells in columns if set(cells) != {"-"}]
    for name, _ in kept:
        shown.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
    for cells in zip(*(cells for _, cells in kept), strict=True):
        shown.add_row(*cells)
    return shown


def notes(rows: Iterable[Row | StepRow]) -> list[str]:
    """What rows have to say, each once, with the lengths or the positions and batches that it holds for."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.note:
            place = str(row.length) if isinstance(row, Row) else f"{row.position} (B = {row.batch})"
            said.setdefault((f"{row.system} at {'T =' if isinstance(row, Row) else 'position'}", row.note), []).append(
                place
            )
    return [f"{system} {', '.join(where)}: {note}" for (system, note), where in said.items()]


def to_csv(rows: Sequence[Row | StepRow]) -> str:
    """One line a row, with a column for every error."""
    measured = [each.name for each in fields(rows[0]) if each.name not in ("errors", "note")]
    errors = [row.errors if isinstance(row, Row) else {} for row in rows]
    of = list(dict.fromkeys(name for each in errors for name in each))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*measured, *(f"error_{name}" for name in of), "note"])
    for row, each in zip(rows, errors, strict=True):
        found = [getattr(row, name) for name in measured]
        writer.writerow([*found, *(each.get(name) for name in of), row.note])
    return text.getvalue()


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *lines))


def number(value: float | None) -> str:
    """Three digits; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def error(value: float | None) -> str:
    """A relative error; a dash for what was not measured."""
    return "-" if value is None else f"{value:.1e}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}%"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
