"""Times and errors of library definitions at two shapes, of packed sequences, of states and of steps, as Markdown.

On a GPU the whole takes minutes; name definitions to time only those. Flash-linear-attention, where it is installed, is
timed beside them, and softmax attention beside steps. The float64 references are computed by other processes meanwhile.
"""

from __future__ import annotations

import multiprocessing
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import click
import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.benchmark import Bench, Effort, Entry, Problem, Row, compare, open_bench, probe, relative
from maskdsl.runtime.benchmark.decoding import Decoding, StepRow
from maskdsl.runtime.benchmark.fresh import fresh_caches
from maskdsl.runtime.benchmark.handing import handed_rows
from maskdsl.runtime.benchmark.packing import packed_rows, spread
from maskdsl.runtime.benchmark.report import environment, error, markdown, notes, number

SHAPES = {
    "A": {"heads": 48, "key": 128, "value": 64, "key_heads": 1},
    "B": {"heads": 16, "key": 128, "value": 128, "key_heads": 16},
}
CASES = (
    # the longest first: its reference takes longest
    ("log_linear_mamba2", "A", 1, 65536),
    ("log_linear_mamba2", "A", 2, 16384),
    ("log_linear_mamba2", "A", 2, 4096),
    ("mamba2", "A", 2, 16384),
    ("linear_attention", "B", 4, 8192),
    ("retention", "B", 4, 8192),
    ("simple_gla", "B", 4, 8192),
    ("gla", "B", 4, 8192),
    ("log_linear_gla", "B", 4, 8192),
    ("deltanet", "B", 4, 8192),
    ("gated_deltanet", "B", 4, 8192),
    ("gated_deltanet", "B", 1, 32768),
    ("kda", "B", 4, 8192),
    ("log_linear_gated_deltanet", "B", 4, 8192),
    ("log_linear_gated_deltanet", "B", 1, 32768),
    ("log_linear_gated_deltanet", "B", 2, 16384),
    ("log_linear_gated_deltanet", "B", 2, 4096),
    ("log_linear_kda", "B", 4, 8192),
)
STEPS = (
    ("log_linear_mamba2", "A", (1, 128), (2**14 - 1, 2**14)),
    ("mamba2", "A", (1, 128), (2**14,)),
    ("gated_deltanet", "B", (1, 32, 256), (2**14,)),
    ("kda", "B", (1, 32, 256), (2**14,)),
    ("log_linear_gated_deltanet", "B", (1, 32), (2**14 - 1, 2**14)),
)
"""Steps of one token: batches, and how many tokens come before it."""

PACKED = (("log_linear_mamba2", "A"), ("mamba2", "A"), ("gated_deltanet", "B"))
BATCH, SEQUENCES, LONGEST = 8, 32, 8192
"""A batch, and how many sequences of 1 to `LONGEST` tokens have as many together."""

STATES = (
    ("log_linear_mamba2", "A"),
    ("log_linear_gated_deltanet", "B"),
    ("gated_deltanet", "B"),
    ("windowed_decay", "B"),
)
"""Calls of one sequence of `LONGEST` tokens that go on from a state and end in one."""

PARTS = ("calls", "packed", "states", "steps")
NAMES = tuple(dict.fromkeys(name for name, *_ in (*CASES, *PACKED, *STATES, *STEPS)))
STEP_HEADER = (
    "attention",
    "shape",
    "B",
    "tokens before",
    "system",
    "step, us",
    "in a graph, us",
    "of roof",
    "host, us",
)
PACKED_HEADER = ("attention", "shape", "tokens as", "fwd, ms", "fwd+bwd, ms", "peak, MB", "to the batch's fwd+bwd")
STATES_HEADER = (
    "attention",
    "shape",
    "T",
    "call",
    "fwd, ms",
    "fwd+bwd, ms",
    "peak, MB",
    "host, ms",
    "to fwd+bwd alone",
)
HEADER = ("attention", "shape", "B", "T", "system", "fwd, ms", "fwd+bwd, ms", "peak, MB", "error of o", "of gradients")


@dataclass(frozen=True)
class Timed:
    """A case that was timed; its reference may not be done."""

    name: str
    shape: str
    batch: int
    entries: tuple[Entry, ...]
    exact: Future[dict[str, Tensor]]

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Its lines of the table, as soon as the reference is there."""
        for entry in self.entries:
            row = entry.row
            errors = relative(entry.found, self.exact.result()) if entry.found else {}
            worst = max((value for name, value in errors.items() if name != "o"), default=None)
            measured = (number(row.forward), number(row.training), number(row.peak))
            where = (f"`{self.name}`", self.shape, str(self.batch), str(row.length), row.system)
            yield (*where, *measured, error(errors.get("o")), error(worst))

    def notes(self) -> Iterator[str]:
        """What its rows have to say, as a Markdown list."""
        for note in notes(entry.row for entry in self.entries):
            yield f"- `{self.name}`, B = {self.batch}: {note}"


@dataclass(frozen=True)
class Session:
    """What all cases share."""

    device: str
    dtype: torch.dtype
    bench: Bench
    peers: tuple[str, ...]
    pool: ProcessPoolExecutor

    def time(self, name: str, shape: str, batch: int, length: int) -> Timed:
        """Time a case, and have its reference started."""
        attention = maskdsl.compile(name)
        sizes = SHAPES[shape]
        problem = Problem.of(attention.spec, batch=batch, length=length, dtype=self.dtype, device=self.device, **sizes)
        inputs = problem.inputs()
        asked = probe(attention, problem, inputs)
        exact = self.pool.submit(asked.exact)

        def started(system: str) -> None:
            click.echo(f"{name}, B = {batch}, T = {length}: {system}", err=True)

        entries = []
        for entry in compare(attention, problem, inputs, self.bench, self.peers, asked, started):
            times = f"{number(entry.row.forward)} and {number(entry.row.training)} ms"
            click.echo(f"  {entry.row.system}: {times}, {number(entry.row.peak)} MB", err=True)
            entries.append(entry)
        return Timed(name, shape, batch, tuple(entries), exact)

    def packed(self, name: str, shape: str, longest: int) -> list[Row]:
        """Time a batch, on a CPU a small one, and sequences of as many tokens in one row."""
        attention = maskdsl.compile(name)
        batch = 2 if self.device == "cpu" else BATCH
        problem = Problem.of(
            attention.spec, batch=batch, length=longest, dtype=self.dtype, device=self.device, **SHAPES[shape]
        )
        lengths = spread(SEQUENCES * batch // BATCH, batch * longest, longest)
        rows = []
        for row in packed_rows(attention, problem, lengths, self.bench):
            click.echo(f"{name}, {row.system}: {number(row.forward)} and {number(row.training)} ms", err=True)
            rows.append(row)
        return rows

    def states(self, name: str, shape: str, length: int) -> list[Row]:
        """Time calls of one sequence without states, and from a state to a state."""
        attention = maskdsl.compile(name)
        problem = Problem.of(
            attention.spec, batch=1, length=length, dtype=self.dtype, device=self.device, **SHAPES[shape]
        )
        rows = []
        for row in handed_rows(attention, problem, self.bench):
            click.echo(f"{name}, {row.system}: {number(row.forward)} and {number(row.training)} ms", err=True)
            rows.append(row)
        return rows

    def steps(self, name: str, shape: str, batches: tuple[int, ...], positions: tuple[int, ...]) -> list[StepRow]:
        """Time single tokens; on a CPU, of one sequence."""
        task = Decoding(
            positions=positions,
            batches=batches[:1] if self.device == "cpu" else batches,
            dtype=self.dtype,
            device=self.device,
            peers=("softmax", *self.peers),
            effort=self.bench.effort,
            **SHAPES[shape],
        )
        rows = []
        for row in task.rows(maskdsl.compile(name), self.bench, lambda what: click.echo(f"{name}: {what}", err=True)):
            click.echo(f"  {number(row.step)} us, {number(row.graph)} us in a graph", err=True)
            rows.append(row)
        return rows


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Time flash-linear-attention too.")
@click.option("--repeats", type=click.IntRange(1), default=20, show_default=True, help="Passes behind a median.")
@click.option("--limit", type=click.IntRange(1), default=1 << 16, help="Cut T to this, for a quick look.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="All by default.")
def main(names: tuple[str, ...], peers: bool, repeats: int, limit: int, parts: tuple[str, ...]) -> None:
    """Time the definitions NAME (all by default) and print Markdown tables."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    cases = [case for case in CASES if case[0] in (names or NAMES) and "calls" in parts]
    rowed = [case for case in PACKED if case[0] in (names or NAMES) and "packed" in parts]
    stated = [case for case in STATES if case[0] in (names or NAMES) and "states" in parts]
    steps = [case for case in STEPS if case[0] in (names or NAMES) and "steps" in parts]
    spawn = multiprocessing.get_context("spawn")  # a process with a CUDA context cannot fork
    with fresh_caches(), ProcessPoolExecutor(mp_context=spawn, initializer=_one_thread) as pool:
        bench = open_bench(device, dtype, Effort(warmup=3, repeats=repeats))
        session = Session(device, dtype, bench, ("fla",) if peers else (), pool)
        timed = [session.time(name, shape, batch, min(length, limit)) for name, shape, batch, length in cases]
        packed = {(name, shape): session.packed(name, shape, min(LONGEST, limit)) for name, shape in rowed}
        handed = {(name, shape): session.states(name, shape, min(LONGEST, limit)) for name, shape in stated}
        decoded = {
            (name, shape): session.steps(name, shape, batches, tuple(min(each, limit) for each in positions))
            for name, shape, batches, positions in steps
        }
        if timed:
            click.echo(markdown(HEADER, [line for case in timed for line in case.lines()]))
    if packed:
        click.echo(markdown(PACKED_HEADER, [line for case, rows in packed.items() for line in _packed(*case, rows)]))
    if handed:
        click.echo(markdown(STATES_HEADER, [line for case, rows in handed.items() for line in _handed(*case, rows)]))
    if decoded:
        click.echo(markdown(STEP_HEADER, [_step_line(*case, row) for case, rows in decoded.items() for row in rows]))
    for note in (note for case in timed for note in case.notes()):
        click.echo(note)
    for (name, _), rows in decoded.items():
        for note in notes(rows):
            click.echo(f"- `{name}`: {note}")
    click.echo(f"\n{environment(device, bench.ceilings)}: `{shlex.join(['python', *sys.argv])}`")


def _packed(name: str, shape: str, rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        times = number(row.forward), number(row.training), number(row.peak)
        yield f"`{name}`", shape, row.system, *times, _to_first(row, rows)


def _handed(name: str, shape: str, rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        times = number(row.forward), number(row.training), number(row.peak), number(row.host)
        yield f"`{name}`", shape, str(row.length), row.system, *times, _to_first(row, rows)


def _to_first(row: Row, rows: list[Row]) -> str:
    """The time of a forward and backward pass to that of the first row."""
    against = rows[0].training
    return f"{row.training / against:.2f}" if row.training and against else "-"


def _step_line(name: str, shape: str, row: StepRow) -> tuple[str, ...]:
    share = "-" if row.share is None else f"{row.share:.0%}"
    times = number(row.step), number(row.graph), share, number(row.host)
    return f"`{name}`", shape, str(row.batch), str(row.position), row.system, *times


def _one_thread() -> None:
    torch.set_num_threads(1)


if __name__ == "__main__":
    main()
