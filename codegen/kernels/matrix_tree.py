"""The kernels of a hierarchy whose operators are matrices: one pass a level, up and down.

A parent's operator and state are A_p = A_last ... A_first and H_p = H_last + sum of after_s H_s over its other children
s, `after_s` being the product of the operators behind s: the one thing that is kept for the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.matrix_walk import OPERATOR, STATE, MatrixBlocks
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Shape, level_read, siblings


def merge(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer | None) -> None:
    """The blocks of level p + 1, each made by one program; `after` keeps what lies behind each child."""
    blocks, line = MatrixBlocks(emit, shape, *instruction.results[:2]), emit.kernel.line
    _parent(emit, shape)
    last = f"walks.slot(p, end, {shape.constants})"
    line(f"total = tl.load({blocks.operator_at(blocks.operators, last)}).to(tl.float32)")
    with _siblings(emit, shape, f"range(1, {shape.base})"):
        if after is not None:
            line(f"tl.store({blocks.operator_at(after, 'row')}, total)")
        line(f"behind = {blocks.operand('total')}")
        with _columns(emit):
            # the state of the last child is the parent's, in its place
            line(f"block = tl.load({blocks.state_at(blocks.states, last)}).to(tl.float32)")
            line(f"block += {emit.dot('behind', blocks.load(blocks.state_at(blocks.states, 'row')))}")
            line(f"tl.store({blocks.state_at(blocks.states, last)}, block)")
        operator = blocks.load(blocks.operator_at(blocks.operators, "row"))
        line(f"total = {emit.dot('behind', operator)}")
        if shape.base > 2:
            line("tl.debug_barrier()")
    line(f"row = walks.slot(p + 1, end, {shape.constants})")
    line(f"tl.store({blocks.operator_at(blocks.operators, 'row')}, total)")


def gather_states(emit: Evaluator, instruction: Instruction, shape: Shape, arrived: Buffer) -> None:
    """Add up in `total` the gradient of a block's state, of its readers from `first` to before `last`."""
    gradient, _, operators, states, lam, *_ = instruction.operands
    blocks, line = MatrixBlocks(emit, shape, operators, states), emit.kernel.line
    line(f"total = {emit.zeros(STATE)}")
    with emit.kernel.block("for n in range(first, last):"):
        place = Place("n")
        line(f"weight = {emit.column(lam, place, level_read(emit.kernel, shape))}")
        line(f"weighed = {blocks.operand(f'(weight[:, None] * {emit.narrow(gradient, place)})')}")
        pulled = blocks.load(blocks.rows_at(arrived, _read(emit, shape, arrived)))
        line(f"total += {emit.dot(f'tl.trans({pulled})', 'weighed')}")


def gather_operators(
    emit: Evaluator, instruction: Instruction, shape: Shape, arrived: Buffer, returned: Buffer
) -> None:
    """The same of a block's operator: what came back beyond it, for each query that arrived."""
    _, _, operators, states, *_ = instruction.operands
    blocks, line = MatrixBlocks(emit, shape, operators, states), emit.kernel.line
    if not emit.kernel.laid:
        # nothing lies before the block at the start
        line("last = tl.where(number > 0, last, first)")
    line(f"total = {emit.zeros(OPERATOR)}")
    step = emit.buffers.part_step(emit.kernel, returned)
    with (
        emit.kernel.block("for n in range(first, last):"),
        emit.kernel.block(f"for part in range({returned.count}):"),
    ):
        pulled = blocks.load(blocks.rows_at(arrived, _read(emit, shape, arrived)))
        read = _read(emit, shape, returned) if emit.kernel.laid else f"({_read(emit, shape, returned)} - n + 1)"
        back = blocks.load(f"{blocks.rows_at(returned, read)} + part * {step}")
        line(f"total += {emit.dot(f'tl.trans({pulled})', back)}")


def hand_down(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """dH_s += after_s' dH_p for the children of blocks of level p + 1; that of the last child is the parent's.

    dA_s += after_s' E_s, where E_s is the gradient of all from child s on: E = dA_p, then E A_s' + dH_p H_s'.
    """
    operators, states, d_operators, d_states, *_ = instruction.operands
    blocks, line, kept = MatrixBlocks(emit, shape, operators, states), emit.kernel.line, emit.buffers.kept
    _parent(emit, shape)
    line(f"above = walks.slot(p + 1, end, {shape.constants})")
    line(f"share = {blocks.load(blocks.operator_at(kept[d_operators], 'above'))}")
    with _siblings(emit, shape, f"range({shape.base - 1}, 0, -1)"):
        line(f"behind = tl.trans({blocks.load(blocks.operator_at(after, 'row'))})")
        with _columns(emit):
            line(f"own = tl.load({blocks.state_at(kept[d_states], 'row')}).to(tl.float32)")
            line(f"own += {emit.dot('behind', blocks.load(blocks.state_at(kept[d_states], 'above')))}")
            line(f"tl.store({blocks.state_at(kept[d_states], 'row')}, own)")
        line(f"own = tl.load({blocks.operator_at(kept[d_operators], 'row')}).to(tl.float32)")
        line(f"own += {emit.dot('behind', 'share')}")
        line(f"tl.store({blocks.operator_at(kept[d_operators], 'row')}, own)")
        operator = blocks.load(blocks.operator_at(blocks.operators, "row"))
        line(f"moved = {emit.dot('share', f'tl.trans({operator})')}")
        with _columns(emit):
            handed = blocks.load(blocks.state_at(kept[d_states], "above"))
            state = blocks.load(blocks.state_at(blocks.states, "row"))
            line(f"moved += {emit.dot(handed, f'tl.trans({state})')}")
        line(f"share = {blocks.operand('moved')}")
    line(f"row = walks.slot(p, end, {shape.constants})")
    line(f"tl.store({blocks.operator_at(kept[d_operators], 'row')}, share)")


@contextmanager
def _columns(emit: Evaluator) -> Iterator[None]:
    """A loop over the tiles of a state's columns."""
    with emit.kernel.block(f"for vt in range({emit.tiling.parts}):"):
        emit.lane_here("V")
        yield


def _read(emit: Evaluator, shape: Shape, buffer: Buffer) -> str:
    """The number of the read of a block by chunk n, whose rank is known."""
    if emit.kernel.laid:
        return f"(n * {emit.buffers.per_chunk(emit.kernel, buffer)} + rank)"
    return f"(walks.reads_before(n, {shape.base}) + walks.read_number(n, p, number, {shape.base}))"


def _parent(emit: Evaluator, shape: Shape) -> None:
    """`width` of the children and `end` of the block of level p + 1 that a program does."""
    emit.kernel.line(f"width = walks.power({emit.kernel.parameter('p', 'p', varying=True)}, {shape.base})")
    begun = f" - past % (width * {shape.base})" if emit.kernel.laid else ""
    emit.kernel.line(f"end = (unit + 1) * width * {shape.base}{begun}")
    if emit.kernel.packed:
        # the operator of a chunk that is not full yet stays where it is
        whole = f"(shift + T) // {emit.tiling.chunk}" if emit.kernel.laid else "N"
        with emit.kernel.block(f"if end > {whole}:"):
            emit.kernel.line("return")


@contextmanager
def _siblings(emit: Evaluator, shape: Shape, counted: str) -> Iterator[None]:
    """A loop over the children before the last one, by how many come after it; `row` is where one lies."""
    with siblings(emit.kernel, counted):
        emit.kernel.line(f"row = walks.slot(p, end - sibling * width, {shape.constants})")
        yield
