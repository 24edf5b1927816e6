"""The operations of the chunk IR as kernels see them: which of them have kernels, and where these have to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    ops.DecayDot: (0,),
    ops.DecayDotAdjoint: (0, 1, 2),
}
"""Operations between chunks, and which of their results are made for all chunks at once.

So are pairs of positions with a decay a channel between them: a kernel of their own takes fewer channels at a time.

The adjoint of a band makes its one of what the kernel over chunks leaves in memory beside the other results.
"""

BETWEEN = (ops.Walk, ops.WalkAdjoint, ops.Band, ops.BandAdjoint, ops.Resume)
"""Operations whose other results a kernel makes chunk by chunk, of blocks or of other chunks: never done twice."""

ADJOINT = (ops.WalkAdjoint, ops.BandAdjoint)
"""Those of the backward pass."""

LOOKING = (ops.Band, ops.BandAdjoint, ops.Shift)
"""Operations of one chunk that read values of others: what is much work to make waits for them in memory."""

BY_MATRICES = (ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint)
"""Operations between chunks that may have matrices as operators."""

PAIRS = (ops.DecayDot, ops.DecayDotAdjoint)
"""Operations that a kernel does for a block of key channels at a time."""

HEAVY = (*BETWEEN, ops.Dot)
"""Operations that a kernel does for its own chunk only."""

SUPPORTED = (
    *(ops.Load, ops.Constant, ops.Align, ops.Expand, ops.Repeat, ops.GroupSum, ops.Chunk, ops.Unchunk, ops.Shift),
    *(ops.Cast, ops.Identity, ops.Inverse),
    *(ops.Transpose, ops.Map, ops.Sum, ops.Dot, ops.Cumsum, ops.Spans, ops.SpansAdjoint, ops.DecayDot),
    *(ops.DecayDotAdjoint, ops.Tril, ops.Near, ops.Select, ops.SelectAdjoint, ops.Scan, ops.Tree, ops.TreeAdjoint),
    ops.SolvedScan,
    *BETWEEN,
)
"""What kernels are printed for."""


def takes_matrices(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an operation between chunks multiplies by matrices."""
    between = isinstance(instruction.op, BETWEEN) or type(instruction.op) in IN_MEMORY
    return between and ops.matrices([types[x] for x in instruction.operands])


def solved_systems(program: Program) -> list[str]:
    """The inverses of systems, rounded where nothing reads them otherwise."""
    found = []
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Inverse):
            (inverse,) = instruction.results
            users = [i for i in program.instructions if inverse in i.operands]
            alone = len(users) == 1 and users[0].op == ops.Cast(wide=False)
            found.append(users[0].results[0] if alone else inverse)
    return found


def is_pairs(axes: Axes) -> bool:
    """Whether a value has a number for every pair of positions of a chunk."""
    return [axis[0] for axis in axes[-2:]] == ["C", "C"]


def small(axes: Axes) -> bool:
    """Whether a value has nothing to do with positions."""
    return not any(axis[0] in "TNEC" for axis in axes)


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
        over = isinstance(op, ops.WalkAdjoint | ops.BandAdjoint) or bool(found & set(x))
        if isinstance(op, ops.Dot):
            over |= types[x[0]][-2 if op.transpose_x else -1] == "V"
        elif isinstance(op, ops.Sum):
            over |= "V" in {types[x[0]][dim] for dim in op.dims}
        if over:
            found |= set(instruction.results)
    return frozenset(found)


def linear(program: Program, gradient: str | None) -> frozenset[str]:
    """The values that are linear in the gradient of the output, so that rounding them costs no digits elsewhere."""
    return _behind(program, lambda i: isinstance(i.op, ops.Load) and i.op.name == gradient)


def scan_factors(program: Program) -> frozenset[str]:
    """The vectors that scans that solve systems multiply by, and these before their rows are scaled."""
    maker = {r: i for i in program.instructions for r in i.results}
    scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan)]
    found = {x for i in scans for x in i.operands[1:3]}
    found |= {maker[x].operands[0] for i in scans for x in i.operands[5:] if isinstance(maker[x].op, ops.Dot)}
    wide = {x for value in found for x in maker[value].operands if program.types[x] == program.types[value]}
    return frozenset(found | {x for x in wide if isinstance(maker[x].op, ops.Map)})


def rounded_factors(program: Program, precise: frozenset[str]) -> frozenset[str]:
    """Those of them that are rounded: where systems are not, the factors of steps are not either."""
    scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan) and i.operands[4] in precise]
    return scan_factors(program) - {x for i in scans for x in i.operands[1:3]}


def scanned(program: Program) -> frozenset[str]:
    """What follows from scans that solve systems."""
    return _behind(program, lambda i: isinstance(i.op, ops.SolvedScan))


def answers(program: Program) -> frozenset[str]:
    """What follows from the gradients of scans that solve systems."""
    return _behind(program, lambda i: i.op == ops.SolvedScan(reverse=True))


def precise_values(program: Program) -> frozenset[str]:
    """The values that are worked out in more than the precision of the call: between a cast to it and one back.

    But for the gradients of systems: they have been rounded, more digits are worth nothing.
    """
    found: set[str] = set()
    for instruction in program.instructions:
        wide = instruction.op.wide if isinstance(instruction.op, ops.Cast) else found & set(instruction.operands)
        if wide and not isinstance(instruction.op, ops.SolvedScan):  # which starts from what it is given anew
            found |= set(instruction.results)
    return frozenset(found) - of_systems(program)


def system_pairs(program: Program) -> frozenset[str]:
    """The gradients of systems that scans have solved: pairs of what they read and what they answer."""
    scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan) and i.op.reverse]
    answers = {r for i in scans for r in i.results}
    found: set[str] = set()
    for instruction in program.instructions:
        operands = set(instruction.operands)
        if isinstance(instruction.op, ops.Cast) and operands <= answers:
            answers |= set(instruction.results)
        elif isinstance(instruction.op, ops.Dot | ops.Tril) and operands & (answers | found):
            found |= {r for r in instruction.results if is_pairs(program.types[r])}
    return frozenset(found)


def of_systems(program: Program) -> frozenset[str]:
    """What the gradients of systems that scans have solved lead to inside a path."""
    pairs, found = system_pairs(program), set[str]()
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Cast | ops.Tril):
            continue
        if set(instruction.operands) & (pairs | found):
            found |= set(instruction.results)
    return frozenset(found)


def _behind(program: Program, starts: Callable[[Instruction], bool]) -> frozenset[str]:
    """The results of some instructions, and all that follows from them."""
    found: set[str] = set()
    for instruction in program.instructions:
        if starts(instruction) or found & set(instruction.operands):
            found |= set(instruction.results)
    return frozenset(found)
