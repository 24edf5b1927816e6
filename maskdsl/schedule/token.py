"""How the kernel of one token divides its work: a program for each head of a sequence, or for some of its columns."""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Program
from maskdsl.lowering.step import lower_step
from maskdsl.schedule.configuration import padded
from maskdsl.spec import Spec

APART = 4096
"""Entries of a state that a program holds where several share a head: enough to load for two to keep a
multiprocessor's memory busy, and few enough for many heads and few to fill a GPU alike."""

TOGETHER = 8192
"""The same where one program does a head: it then sees its logs and keys as they were until it has used them."""

PER_WARP = 1024
"""Entries for each warp: 32 registers a thread, and as many for a sum of states, so that two programs of TOGETHER
entries fit on a multiprocessor: one loads while the other computes."""


@dataclass(frozen=True)
class StepConfiguration:
    """All that the kernel of a step depends on besides the spec.

    `ratios`, `K`, `V` and `levels` are as in `Configuration`; with `slots` the batch is some sequences of a state.
    """

    ratios: tuple[tuple[str, int], ...]
    K: int
    V: int
    levels: int
    slots: bool


@dataclass(frozen=True)
class StepPlan:
    """The program of a token, and how its kernel goes through it.

    A program holds `columns` of V at a time, of the `parts` that there are: its own where they are `apart`, else all
    one after the other. It reads `slots` tokens of a ring at a time.
    """

    program: Program
    columns: int
    parts: int
    apart: bool
    slots: int
    warps: int


def step_plan(spec: Spec, configuration: StepConfiguration) -> StepPlan:
    """Divide the step of a spec."""
    program = lower_step(spec, dict(configuration.ratios))
    kept = [program.types[value] for _, value in program.outputs[1:]]
    # what has no columns of V is read by every program of a head, so none of them may be the one that changes it
    apart = all("V" in axes for axes in kept)
    key, value = padded(configuration.K, 1) or 1, padded(configuration.V, 1) or 1
    fit = max(1, (APART if apart else TOGETHER) // key)
    columns = value if _sums_columns(program) else min(value, fit)
    widest = max(key, columns)
    return StepPlan(
        program,
        columns,
        -(-configuration.V // columns) if configuration.V else 1,
        apart,
        min(_slots(kept), max(1, APART // widest)),
        min(8, max(1, key * columns // PER_WARP)) if any("K" in axes and "V" in axes for axes in kept) else 4,
    )


def _sums_columns(program: Program) -> bool:
    """Whether all columns of V are needed at once, as for the norm of an output."""
    sums = [(i.op.dims, program.types[i.operands[0]]) for i in program.instructions if isinstance(i.op, ops.Sum)]
    return any(axes[dim] == "V" for dims, axes in sums for dim in dims)


def _slots(kept: list[Axes]) -> int:
    """The extent of a tile that holds the longest ring; 1 where there is none."""
    return padded(max((ax.extent(axis, {}) for axes in kept for axis in axes if axis[0] == "R"), default=1), 1)
