"""The operations of the chunk IR as kernels see them: which of them have kernels, and where these have to wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Instruction, Program
from maskdsl.schedule.unsupported import Unsupported

IN_MEMORY: Mapping[type[Operation], tuple[int, ...]] = {
    ops.Scan: (0,),
    ops.SolvedScan: (0, 1),
    ops.Tree: (0, 1),
    ops.TreeAdjoint: (0, 1),
    ops.WalkAdjoint: (1, 2),
    ops.BandAdjoint: (1,),
    ops.Keep: (),
    ops.KeepAdjoint: (0,),
    ops.DecayDot: (0,),
    ops.DecayDots: (0,),
    ops.DecayDotAdjoint: (0, 1, 2),
}
"""Operations between chunks, and which of their results, beside memories, are made for all chunks at once.

So are pairs of positions with a decay a channel between them: a kernel of their own takes fewer channels at a time.

The adjoint of a band makes its one of what the kernel over chunks leaves in memory beside the other results.
"""

BETWEEN = (
    *(ops.Walk, ops.WalkAdjoint, ops.Band, ops.BandAdjoint, ops.Resume),
    *(ops.LeftAdjoint, ops.KeepAdjoint),
)
"""Operations whose other results a kernel makes chunk by chunk, of blocks or of other chunks: never done twice."""

ADJOINT = (ops.WalkAdjoint, ops.BandAdjoint)
"""Those of the backward pass."""

LOOKING = (ops.Band, ops.BandAdjoint, ops.KeepAdjoint, ops.Shift)
"""Operations of one chunk that read values of others: what is much work to make waits for them in memory."""

BY_MATRICES = (ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint)
"""Operations between chunks that may have matrices as operators."""

PAIRS = (ops.DecayDot, ops.DecayDots, ops.DecayDotAdjoint)
"""Operations that a kernel does for a block of key channels at a time."""

HEAVY = (*BETWEEN, ops.Dot)
"""Operations that a kernel does for its own chunk only."""

SUPPORTED = (
    *(ops.Load, ops.Constant, ops.Align, ops.Expand, ops.Repeat, ops.GroupSum, ops.Chunk, ops.Unchunk, ops.Shift),
    *(ops.Cast, ops.Identity, ops.Inverse),
    *(ops.Transpose, ops.Map, ops.Sum, ops.Dot, ops.Cumsum, ops.Spans, ops.SpansAdjoint, *PAIRS),
    *(ops.Tril, ops.Near, ops.Select, ops.SelectAdjoint, ops.Scan, ops.Tree, ops.TreeAdjoint),
    *(ops.SolvedScan, ops.Keep),
    *BETWEEN,
)
"""What kernels are printed for."""


def in_memory(instruction: Instruction) -> tuple[str, ...]:
    """The results of an instruction that are made for all chunks at once."""
    made = made_at_once(instruction)
    return tuple(x for n, x in enumerate(instruction.results) if n in made)


def made_at_once(instruction: Instruction) -> frozenset[int]:
    """Which of its results these are: those of IN_MEMORY, and the memories of sequences and their gradients."""
    if type(instruction.op) not in IN_MEMORY:
        return frozenset()
    memories = (n for n, axes in enumerate(instruction.types) if "S" in axes)
    return frozenset((*IN_MEMORY[type(instruction.op)], *memories))


def takes_matrices(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an operation between chunks multiplies by matrices."""
    between = isinstance(instruction.op, BETWEEN) or type(instruction.op) in IN_MEMORY
    return between and ops.matrices([types[x] for x in instruction.operands])


def solves_back(instruction: Instruction) -> bool:
    """Whether an instruction is a scan from the end whose chunks solve systems."""
    return isinstance(instruction.op, ops.SolvedScan) and instruction.op.reverse


def is_pairs(axes: Axes) -> bool:
    """Whether a value has a number for every pair of positions of a chunk."""
    return [axis[0] for axis in axes[-2:]] == ["C", "C"]


def small(axes: Axes) -> bool:
    """Whether a value has nothing to do with positions or sequences."""
    return not any(axis[0] in "TNECS" for axis in axes)


def owed_together(program: Program) -> tuple[Instruction, ...]:
    """The sums of gradients handed in for one memory that goes out under several names: the host adds them up."""
    loads = {r for i in program.instructions if isinstance(i.op, ops.Load) for r in i.results}
    return tuple(
        i
        for i in program.instructions
        if isinstance(i.op, ops.Map) and "S" in i.types[0] and loads.issuperset(i.operands)
    )


def crosses(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction adds up over all positions.

    A sum over batch rows alone, of a value that still has positions, is left for the sum over these: what follows is
    linear in it.
    """
    if not isinstance(instruction.op, ops.Sum):
        return False
    axes = types[instruction.operands[0]]
    if "H" in {axes[dim] for dim in instruction.op.dims}:
        raise Unsupported("A gradient is summed over heads.")
    return small(instruction.types[0]) and not small(axes)


def summed_over_values(program: Program) -> frozenset[str]:
    """What is a sum over the columns of V, of which a program may have some only, and what is made of such sums."""
    types, found = program.types, set[str]()
    for instruction in program.instructions:
        op, x = instruction.op, instruction.operands
        over = isinstance(op, ops.WalkAdjoint | ops.BandAdjoint | ops.LeftAdjoint) or bool(found & set(x))
        if isinstance(op, ops.Dot):
            over |= types[x[0]][-2 if op.transpose_x else -1] == "V"
        elif isinstance(op, ops.Sum):
            over |= "V" in {types[x[0]][dim] for dim in op.dims}
        if over:
            found |= set(instruction.results)
    return frozenset(found)


def linear(program: Program, gradients: Collection[str]) -> frozenset[str]:
    """The values that are linear in the gradients of outputs, so that rounding them costs no digits elsewhere."""
    return behind(program, lambda i: isinstance(i.op, ops.Load) and i.op.name in gradients)


def behind(program: Program, starts: Callable[[Instruction], bool]) -> frozenset[str]:
    """The results of some instructions, and all that follows from them."""
    found: set[str] = set()
    for instruction in program.instructions:
        if starts(instruction) or found & set(instruction.operands):
            found |= set(instruction.results)
    return frozenset(found)
