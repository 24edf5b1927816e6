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
"""Entries of a state that a program holds where several share a head: enough to load for a few to keep a
multiprocessor's memory busy, and few enough for many heads and few to fill a GPU alike."""

TOGETHER = 8192
"""Entries of a head that one program holds at once where it alone may do the head: it then sees its logs and keys as
they were until it has used them. Of larger heads it holds APART at a time."""

STAGES = 4
"""How many levels a program is at: one in use, the others on their way."""

AHEAD = 24576
"""Entries of levels that may be on their way to a program: what the GPUs with least have shared memory for."""

WARPS = 4
"""The warps of a program that has 1024 entries or more for each: 32 registers a thread, and as many for a sum of
states."""

PER_WARP = 2048
"""The most entries for each warp, beyond which there are more of these."""

PER_SUM = 256
"""Entries for each warp of what is summed over levels, before the keys are: as many as its threads load at once where
entries have 16 bits, so that rows that are summed are those of one thread."""

REGISTERS = 168
"""The most registers a thread, where it has no more than 32 entries of levels: for three programs of APART entries on a
multiprocessor, with the levels that are on their way to them."""


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
    one after the other. It reads `slots` tokens of a ring at a time. It goes through levels in a loop of so many
    `stages`, and of what it sums over them it keeps `folded` rows for all of K.
    """

    program: Program
    columns: int
    parts: int
    apart: bool
    slots: int
    stages: int
    folded: int
    warps: int
    registers: int | None


def step_plan(spec: Spec, configuration: StepConfiguration) -> StepPlan:
    """Divide the step of a spec."""
    program = lower_step(spec, dict(configuration.ratios))
    kept = [program.types[value] for _, value in program.outputs[1:]]
    # what has no columns of V is read by every program of a head, so none of them may be the one that changes it
    apart = all("V" in axes for axes in kept)
    key, value = padded(configuration.K, 1) or 1, padded(configuration.V, 1) or 1
    columns = value if _sums_columns(program) else min(value, _fitting(key, value, apart))
    widest, entries = max(key, columns), key * columns
    warps = min(8, max(1, min(WARPS, entries // 1024), entries // PER_WARP))
    if not any("K" in axes and "V" in axes for axes in kept):
        warps = WARPS
    by_level = any("M" in axes for axes in kept)
    return StepPlan(
        program,
        columns,
        -(-configuration.V // columns) if configuration.V else 1,
        apart,
        min(_slots(kept), max(1, APART // widest)),
        min(STAGES, 1 + AHEAD // (entries + 2 * sum(key for axes in kept if axes[-2:] == ("M", "K")))),
        min(key, max(1, warps * PER_SUM // columns)),
        warps,
        REGISTERS if by_level and entries <= 1024 * warps else None,
    )


def _fitting(key: int, value: int, apart: bool) -> int:
    """The columns that a program holds at a time, if there are so many."""
    return value if not apart and key * value <= TOGETHER else max(1, APART // key)


def _sums_columns(program: Program) -> bool:
    """Whether all columns of V are needed at once, as for the norm of an output."""
    sums = [(i.op.dims, program.types[i.operands[0]]) for i in program.instructions if isinstance(i.op, ops.Sum)]
    return any(axes[dim] == "V" for dims, axes in sums for dim in dims)


def _slots(kept: list[Axes]) -> int:
    """The extent of a tile that holds the longest ring; 1 where there is none."""
    return padded(max((ax.extent(axis, {}) for axes in kept for axis in axes if axis[0] == "R"), default=1), 1)
