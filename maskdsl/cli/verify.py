"""`maskdsl verify`: a spec against its definition, on random shapes and values."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from maskdsl.cli.specs import chosen, spec_argument

if TYPE_CHECKING:
    from maskdsl.runtime.compiled import Backend
    from maskdsl.runtime.verification import Check, Report

BACKENDS = ("auto", "torch", "triton")


@click.command()
@spec_argument
@click.option("--examples", type=click.IntRange(1), default=50, show_default=True, help="Random calls to compare.")
@click.option("--device", default="cpu", show_default=True, help="Where the compiled programs run, such as cuda.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="What is verified.")
def verify(spec: str, name: str | None, examples: int, device: str, backend: Backend) -> None:
    """Compare the compiled SPEC, output and gradients, with its definition in float64 on random calls.

    Each call is computed at once; in pieces, each from the state of the one before; as packed sequences; and in steps
    of one token. What a backend has no kernels for is skipped, and the table says so.

    On failure the smallest call that fails is written as a script that runs on its own, NAME_counterexample.py.

    \b
    Examples:
      maskdsl verify log_linear_mamba2
      maskdsl verify my_attention.mask --examples 200
      maskdsl verify log_linear_mamba2 --backend triton --examples 5

    Without a GPU the backend triton runs in Triton's interpreter, slowly.
    """
    if backend == "triton" and device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    from maskdsl.runtime.verification import verify as verified

    checked = chosen(spec, name)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(checked.name, total=examples)
        report = verified(checked, examples, lambda: progress.advance(task), device=device, backend=backend)
    Console().print(_table(checked.name, report))
    if report.counterexample is not None:
        script = Path(f"{checked.name}_counterexample.py")
        script.write_text(report.counterexample, encoding="utf-8")
        click.echo(f"The smallest call that fails is in {script}; run it with: python {script}", err=True)
    else:
        missing = ", ".join(each.way for each in report.skipped)
        click.echo("ok: everything is within bounds" + (f"; not verified: {missing}." if missing else "."))
    sys.exit(not report.passed)


def _table(title: str, report: Report) -> Table:
    """A block for each way to compute a call: rows of what was compared, a column for each pair of sides.

    Cells are the worst relative errors.
    """
    sides = list(dict.fromkeys(check.what for check in report.checks))
    calls = {what: max(check.calls for check in report.checks if check.what == what) for what in sides}
    allowed = {what: min(check.allowed for check in report.checks if check.what == what) for what in sides}
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("worst error", footer="calls\nallowed")
    for what in sides:
        header = what.replace(", ", "\n").replace(" = ", "\n= ")
        table.add_column(header, footer=f"{calls[what]}\n{allowed[what]:.0e}", justify="right")
    for way in dict.fromkeys(check.way for check in report.checks):
        table.add_section()
        table.add_row(f"[bold]{way}[/]")
        for of in dict.fromkeys(check.of for check in report.checks if check.way == way):
            found = {check.what: check for check in report.checks if (check.way, check.of) == (way, of)}
            table.add_row(f"  {of}", *(_cell(found.get(what), allowed[what]) for what in sides))
    for skipped in report.skipped:
        table.add_section()
        table.add_row(f"[bold]{skipped.way}[/] [yellow]skipped[/]")
    if report.skipped:
        table.caption = "\n".join(dict.fromkeys(f"Skipped: {each.why}" for each in report.skipped))
        table.caption_justify = "left"
    return table


def _cell(check: Check | None, usual: float) -> str:
    """An error; what was allowed stands beside it where that is more than usual."""
    if check is None:
        return ""
    text = f"{check.worst:.1e}" + (f" of {check.allowed:.0e}" if check.allowed > usual else "")
    return text if check.passed else f"[bold red]{text} FAILED[/]"
