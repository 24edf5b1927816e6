"""`maskdsl bench`: a spec timed over sequence lengths, or one token at a time, beside published operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maskdsl.cli.specs import chosen, located, spec_argument

if TYPE_CHECKING:
    from maskdsl.runtime.benchmark.decoding import Decoding
    from maskdsl.runtime.benchmark.sweep import Sweep
    from maskdsl.runtime.compiled import Attention

PEERS = ("flash", "cudnn", "fla", "mamba_ssm")
STEP_PEERS = ("softmax", "fla")
DTYPES = ("bf16", "fp16", "fp32")
LENGTHS = {"cuda": tuple(1 << power for power in range(10, 17)), "cpu": (1024, 2048, 4096)}
POSITIONS = {"cuda": (1023, 1024, 16383, 16384, 65535), "cpu": (1023, 1024)}
BATCHES = {"cuda": (1, 32, 256), "cpu": (1, 4)}


@click.command()
@spec_argument
@click.option("--step", is_flag=True, help="Time single tokens that go on from a state.")
@click.option("--length", "lengths", type=click.IntRange(0), multiple=True, help="T; give it several times.")
@click.option("--batch", "batches", type=click.IntRange(1), multiple=True, help="B, the sequences.  [default: 1]")
@click.option("--heads", type=click.IntRange(1), default=16, show_default=True, help="H.")
@click.option("--key", type=click.IntRange(1), default=128, show_default=True, help="K, the size of a key.")
@click.option("--value", type=click.IntRange(1), default=128, show_default=True, help="V, the size of a value.")
@click.option("--key-heads", type=click.IntRange(1), help="Hk, heads of every key input; H by default.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of keys, values and channels; bf16, or fp32 on a CPU.")
@click.option("--backend", default="auto", show_default=True, help="What runs the spec.")
@click.option(
    "--against",
    type=click.Choice(dict.fromkeys((*PEERS, *STEP_PEERS, "all"))),
    multiple=True,
    help="Time this too, on the same inputs.",
)
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

    With --step it times the token after T others, in batches of B, as a call and replayed from a CUDA graph. 'moved' is
    what a step cannot do without: the states that it reads and writes, its inputs and its output.

    The softmax peers have as many heads, of the value size. The others compute the recurrence of SPEC; gates and
    feature maps that they have no argument for are computed beforehand, untimed. --check looks at one sequence and up
    to two heads of the timed call.

    \b
    Examples:
      maskdsl bench gla
      maskdsl bench gated_deltanet --length 4096 --length 16384 --against fla --csv times.csv --plot times.png
      maskdsl bench gated_deltanet --step --batch 1 --batch 32 --against fla --against softmax
    \b
    Many value heads on one key head, as in Mamba-2:
      maskdsl bench log_linear_mamba2 --heads 48 --key 128 --value 64 --key-heads 1 --batch 2
    \b
    A key head for each value head, as in GLA:
      maskdsl bench gla --heads 16 --key 128 --value 128 --batch 4
    """
    from maskdsl.runtime.benchmark import report

    attention, task = _task(*located(spec, name), options)
    picture, target = options["picture"], options["table"]
    if picture is not None and find_spec("matplotlib") is None:
        raise click.ClickException('Plots need matplotlib, which is not installed: pip install "maskdsl[plot]"')
    rows, environment = _measured(attention, task)
    shown = report.step_table if options["step"] else report.table
    Console().print(shown(f"{attention.spec.name}, {task.sizes}", rows))
    for line in (*report.notes(rows), environment):
        click.echo(line)
    if target is not None:
        target.write_text(report.to_csv(rows), encoding="utf-8")
        click.echo(f"wrote {target}")
    if picture is not None:
        _draw(attention.spec.name, rows, picture, options["step"])


def _task(spec: str, name: str | None, options: dict[str, Any]) -> tuple[Attention, Sweep | Decoding]:
    """The compiled spec, and what to measure of it."""
    import torch

    import maskdsl
    from maskdsl.runtime.benchmark import DTYPES, Effort
    from maskdsl.runtime.benchmark.decoding import Decoding
    from maskdsl.runtime.benchmark.sweep import Sweep

    chosen(spec, name)
    _check(options)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        attention = maskdsl.compile(spec, options["backend"], name=name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    peers = STEP_PEERS if options["step"] else PEERS
    shared = {
        **{each: options[each] for each in ("heads", "key", "value")},
        "key_heads": options["key_heads"] or options["heads"],
        "dtype": DTYPES[options["dtype"] or ("fp32" if device == "cpu" else "bf16")],
        "device": device,
        "peers": peers if "all" in options["against"] else tuple(dict.fromkeys(options["against"])),
        "effort": Effort(options["warmup"], options["repeats"]),
    }
    if options["step"]:
        positions, batches = options["lengths"] or POSITIONS[device], options["batches"] or BATCHES[device]
        return attention, Decoding(positions=positions, batches=batches, **shared)
    lengths, (batch,) = options["lengths"] or LENGTHS[device], options["batches"] or (1,)
    return attention, Sweep(lengths=lengths, batch=batch, check=options["check"], **shared)


def _check(options: dict[str, Any]) -> None:
    """Raises UsageError for options that do not go together."""
    if options["key_heads"] and options["heads"] % options["key_heads"]:
        raise click.UsageError("The key heads have to divide the heads.")
    peers = (*(STEP_PEERS if options["step"] else PEERS), "all")
    wrong = [each for each in options["against"] if each not in peers]
    if wrong:
        what = "a step" if options["step"] else "whole sequences"
        raise click.UsageError(f"'{wrong[0]}' is not timed against {what}: choose from {', '.join(peers)}.")
    if options["step"] and options["check"]:
        raise click.UsageError("--check compares whole sequences; for steps run: maskdsl verify SPEC")
    if not options["step"] and len(options["batches"]) > 1:
        raise click.UsageError("Several batches go with --step; give --batch once.")
    if not options["step"] and 0 in options["lengths"]:
        raise click.UsageError("A sequence has at least one token: give --length 1 or more.")


def _measured(attention: Attention, task: Sweep | Decoding) -> tuple[list[Any], str]:
    """All rows of the task's kind, with progress on standard error, and a line on where and when."""
    from maskdsl.runtime.benchmark import open_bench
    from maskdsl.runtime.benchmark.fresh import fresh_caches
    from maskdsl.runtime.benchmark.report import environment

    with fresh_caches(), _progress(task.count) as (say, advance):
        say("what the device can do")
        opened = open_bench(task.device, task.dtype, task.effort)
        rows: list[Any] = []
        for row in task.rows(attention, opened, say):
            rows.append(row)
            advance()
        return rows, environment(task.device, opened.ceilings)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """What tells the work at hand, and what counts it as done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda what: progress.update(task, description=what), lambda: progress.advance(task)


def _draw(title: str, rows: list[Any], target: Path, step: bool) -> None:
    from maskdsl.runtime.benchmark.picture import draw, draw_steps

    try:
        (draw_steps if step else draw)(title, rows, target)
    except ValueError as error:  # a suffix that matplotlib does not know
        raise click.UsageError(str(error)) from error
    click.echo(f"wrote {target}")
