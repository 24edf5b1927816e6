"""`maskdsl verify`: a spec against its definition, on random shapes and values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from maskdsl.cli.specs import chosen, spec_argument

if TYPE_CHECKING:
    from maskdsl.runtime.verification import Report


@click.command()
@spec_argument
@click.option("--examples", type=click.IntRange(1), default=50, show_default=True, help="Random calls to compare.")
def verify(spec: str, name: str | None, examples: int) -> None:
    """Compare the compiled SPEC, output and gradients, with its definition in float64 on random calls.

    On failure the smallest call that fails is written as a script that runs on its own, NAME_counterexample.py.

    \b
    Examples:
      maskdsl verify log_linear_mamba2
      maskdsl verify my_attention.mask --examples 200
    """
    from maskdsl.runtime.verification import verify as verified

    checked = chosen(spec, name)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(checked.name, total=examples)
        report = verified(checked, examples, lambda: progress.advance(task))
    Console().print(_table(checked.name, report))
    if report.counterexample is not None:
        script = Path(f"{checked.name}_counterexample.py")
        script.write_text(report.counterexample, encoding="utf-8")
        click.echo(f"The smallest call that fails is in {script}; run it with: python {script}", err=True)
    sys.exit(not report.passed)


def _table(title: str, report: Report) -> Table:
    table = Table("compared", "calls", "worst error", "allowed", "", title=title, title_justify="left")
    for check in report.checks:
        verdict = "ok" if check.passed else "FAILED"
        table.add_row(check.name, str(check.calls), f"{check.worst:.1e}", f"{check.allowed:.1e}", verdict)
    return table
