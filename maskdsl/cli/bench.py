"""`maskdsl bench`: a spec timed over sequence lengths, beside published operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskdsl.cli.specs import chosen, located, spec_argument

if TYPE_CHECKING:
    from maskdsl.runtime.benchmark import Row
    from maskdsl.runtime.benchmark.sweep import Sweep
    from maskdsl.runtime.compiled import Attention

PEERS = ("flash", "cudnn", "fla", "mamba_ssm")
DTYPES = ("bf16", "fp16", "fp32")
LENGTHS = {"cuda": tuple(1 << power for power in range(10, 17)), "cpu": (1024, 2048, 4096)}


@click.command()
@spec_argument
@click.option("--length", "lengths", type=click.IntRange(1), multiple=True, help="T; give it several times.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="B, the sequences.")
@click.option("--heads", type=click.IntRange(1), default=16, show_default=True, help="H.")
@click.option("--key", type=click.IntRange(1), default=128, show_default=True, help="K, the size of a key.")
@click.option("--value", type=click.IntRange(1), default=128, show_default=True, help="V, the size of a value.")
@click.option("--key-heads", type=click.IntRange(1), help="Hk, heads of every key input; H by default.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of keys, values and channels; bf16, or fp32 on a CPU.")
@click.option("--backend", default="auto", show_default=True, help="What runs the spec.")
@click.option("--against", type=click.Choice((*PEERS, "all")), multiple=True, help="Time this too, on the same inputs.")
@click.option("--check", is_flag=True, help="Errors of output and gradients against the recurrence in float64.")
@click.option("--warmup", type=click.IntRange(0), default=3, show_default=True, help="Untimed passes.")
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True, help="Passes behind a median.")
@click.option("--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write all rows here.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw time over T here.")
def bench(spec: str, name: str | None, **options: Any) -> None:
    """Time SPEC, forward and backward, on random inputs: on the GPU where there is one.

    Times are medians on the device from cold caches; 'of roof' sets the least possible time, from what the device was
    measured to do, against them. 'peak' is memory above the inputs, 'host' the time until a forward call returns,
    'first' the first forward and backward pass, with nothing compiled before.

    The softmax peers have as many heads, of the value size. The others compute the recurrence of SPEC; gates and
    feature maps that they have no argument for are computed beforehand, untimed. --check looks at one sequence and up
    to two heads of the timed call.

    \b
    Examples:
      maskdsl bench gla
      maskdsl bench gated_deltanet --length 4096 --length 16384 --against fla --csv times.csv --plot times.png
    \b
    Many value heads on one key head, as in Mamba-2:
      maskdsl bench log_linear_mamba2 --heads 48 --key 128 --value 64 --key-heads 1 --batch 2
    \b
    A key head for each value head, as in GLA:
      maskdsl bench gla --heads 16 --key 128 --value 128 --batch 4
    """
    attention, sweep = _sweep(*located(spec, name), options)
    picture, table = options["picture"], options["table"]
    if picture is not None and find_spec("matplotlib") is None:
        raise click.ClickException('Plots need matplotlib, which is not installed: pip install "maskdsl[plot]"')
    rows, environment = _measured(attention, sweep)
    _show(f"{attention.spec.name}, {sweep.sizes}", rows, environment)
    if table is not None:
        from maskdsl.runtime.benchmark.report import to_csv

        table.write_text(to_csv(rows), encoding="utf-8")
        click.echo(f"wrote {table}")
    if picture is not None:
        _draw(attention.spec.name, rows, picture)


def _sweep(spec: str, name: str | None, options: dict[str, Any]) -> tuple[Attention, Sweep]:
    """The compiled spec, and what to measure of it."""
    import torch

    import maskdsl
    from maskdsl.runtime.benchmark import DTYPES, Effort
    from maskdsl.runtime.benchmark.sweep import Sweep

    chosen(spec, name)
    if options["key_heads"] and options["heads"] % options["key_heads"]:
        raise click.UsageError("The key heads have to divide the heads.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        attention = maskdsl.compile(spec, options["backend"], name=name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return attention, Sweep(
        lengths=options["lengths"] or LENGTHS[device],
        batch=options["batch"],
        heads=options["heads"],
        key=options["key"],
        value=options["value"],
        key_heads=options["key_heads"] or options["heads"],
        dtype=DTYPES[options["dtype"] or ("fp32" if device == "cpu" else "bf16")],
        device=device,
        peers=PEERS if "all" in options["against"] else tuple(dict.fromkeys(options["against"])),
        check=options["check"],
        effort=Effort(options["warmup"], options["repeats"]),
    )


def _measured(attention: Attention, sweep: Sweep) -> tuple[list[Row], str]:
    """All rows, with progress on standard error, and a line on where and when."""
    from maskdsl.runtime.benchmark import open_bench
    from maskdsl.runtime.benchmark.fresh import fresh_caches
    from maskdsl.runtime.benchmark.report import environment

    with fresh_caches(), _progress(len(sweep.lengths) * (1 + len(sweep.peers))) as progress:
        progress.update(progress.task_ids[0], description="what the device can do")
        opened = open_bench(sweep.device, sweep.dtype, sweep.effort)
        rows = []
        for row in sweep.rows(attention, opened, lambda what: progress.update(progress.task_ids[0], description=what)):
            rows.append(row)
            progress.advance(progress.task_ids[0])
        return rows, environment(sweep.device, opened.ceilings)


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task("", total=total)
        yield progress


def _show(title: str, rows: list[Row], environment: str) -> None:
    from maskdsl.runtime.benchmark.report import notes, table

    console = Console()
    console.print(table(title, rows))
    for line in (*notes(rows), environment):
        click.echo(line)


def _draw(title: str, rows: list[Row], target: Path) -> None:
    from maskdsl.runtime.benchmark.picture import draw

    try:
        draw(title, rows, target)
    except ValueError as error:  # a suffix that matplotlib does not know
        raise click.UsageError(str(error)) from error
    click.echo(f"wrote {target}")
