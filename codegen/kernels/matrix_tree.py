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
from maskdsl.codegen.kernels.tree import Shape, choose_block, level_read, own_row, readers, siblings


def merge_operators(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """The operators of blocks of level p + 1, each made by one program, and of what lies behind each child."""
    blocks, line = MatrixBlocks(emit, shape, *instruction.results[:2]), emit.kernel.line
    _parent(emit, shape)
    line(f"row = walks.slot(p, end, {shape.constants})")
    line(f"total = tl.load({blocks.operator_at(blocks.operators, 'row')}).to(tl.float32)")
    with _siblings(emit, shape, f"range(1, {shape.base})"):
        line(f"tl.store({blocks.operator_at(after, 'row')}, total)")
        operator = blocks.load(blocks.operator_at(blocks.operators, "row"))
        line(f"total = {emit.dot(blocks.operand('total'), operator)}")
    line(f"row = walks.slot(p + 1, end, {shape.constants})")
    line(f"tl.store({blocks.operator_at(blocks.operators, 'row')}, total)")


def merge_states(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """The states of blocks of level p + 1."""
    blocks, line = MatrixBlocks(emit, shape, *instruction.results[:2]), emit.kernel.line
    _parent(emit, shape)
    line(f"row = walks.slot(p, end, {shape.constants})")
    line(f"block = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
    with _siblings(emit, shape, f"range(1, {shape.base})"):
        behind, state = (blocks.operator_at(after, "row"), blocks.state_at(blocks.states, "row"))
        line(f"block += {emit.dot(blocks.load(behind), blocks.load(state))}")
    line(f"row = walks.slot(p + 1, end, {shape.constants})")
    line(f"tl.store({blocks.state_at(blocks.states, 'row')}, block)")


def gather_states(emit: Evaluator, instruction: Instruction, shape: Shape, arrived: Buffer) -> None:
    """The gradient of a block's state, from all chunks that read it."""
    gradient, _, operators, states, lam, *_ = instruction.operands
    blocks, line = MatrixBlocks(emit, shape, operators, states), emit.kernel.line
    choose_block(emit.kernel, shape)
    line(f"block = {emit.zeros(STATE)}")
    with readers(emit.kernel, shape):
        place = Place("n")
        line(f"weight = {emit.column(lam, place, level_read(emit.kernel, shape))}")
        line(f"weighed = {blocks.operand(f'(weight[:, None] * {emit.narrow(gradient, place)})')}")
        pulled = blocks.load(blocks.rows_at(arrived, _read(emit, shape, arrived)))
        line(f"block += {emit.dot(f'tl.trans({pulled})', 'weighed')}")
    line(f"row = {own_row(emit.kernel, shape)}")
    line(f"tl.store({blocks.state_at(emit.buffers.kept[instruction.results[2]], 'row')}, block)")


def gather_operators(
    emit: Evaluator, instruction: Instruction, shape: Shape, arrived: Buffer, returned: Buffer
) -> None:
    """The gradient of a block's operator: what came back beyond it, for each query that arrived."""
    _, _, operators, states, *_ = instruction.operands
    blocks, line = MatrixBlocks(emit, shape, operators, states), emit.kernel.line
    choose_block(emit.kernel, shape)
    line(f"total = {emit.zeros(OPERATOR)}")
    step = emit.buffers.part_step(emit.kernel, returned)
    with readers(emit.kernel, shape), emit.kernel.block(f"for part in range({returned.count}):"):
        pulled = blocks.load(blocks.rows_at(arrived, _read(emit, shape, arrived)))
        back = blocks.load(f"{blocks.rows_at(returned, _read(emit, shape, returned))} + part * {step}")
        line(f"total += {emit.dot(f'tl.trans({pulled})', back)}")
    line(f"row = {own_row(emit.kernel, shape)}")
    line(f"tl.store({blocks.operator_at(emit.buffers.kept[instruction.results[1]], 'row')}, total)")


def hand_down_states(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """dH_s += after_s' dH_p for the children of blocks of level p + 1; that of the last child is the parent's."""
    operators, states, _, gradient, *_ = instruction.operands
    blocks, line = MatrixBlocks(emit, shape, operators, states), emit.kernel.line
    down = emit.buffers.kept[gradient]
    _parent(emit, shape)
    line(f"row = walks.slot(p + 1, end, {shape.constants})")
    line(f"handed = {blocks.load(blocks.state_at(down, 'row'))}")
    with _siblings(emit, shape, f"range(1, {shape.base})"):
        line(f"own = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
        behind = blocks.load(blocks.operator_at(after, "row"))
        line(f"own += {emit.dot(f'tl.trans({behind})', 'handed')}")
        line(f"tl.store({blocks.state_at(down, 'row')}, own)")


def hand_down_operators(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """dA_s += after_s' E_s, where E_s is the gradient of all from child s on: E = dA_p, then E A_s' + dH_p H_s'."""
    operators, states, d_operators, d_states, *_ = instruction.operands
    blocks, line, kept = MatrixBlocks(emit, shape, operators, states), emit.kernel.line, emit.buffers.kept
    _parent(emit, shape)
    line(f"above = walks.slot(p + 1, end, {shape.constants})")
    line(f"share = tl.load({blocks.operator_at(kept[d_operators], 'above')}).to(tl.float32)")
    with _siblings(emit, shape, f"range({shape.base - 1}, 0, -1)"):
        line(f"own = tl.load({blocks.operator_at(kept[d_operators], 'row')}).to(tl.float32)")
        behind = blocks.load(blocks.operator_at(after, "row"))
        line(f"own += {emit.dot(f'tl.trans({behind})', blocks.operand('share'))}")
        line(f"tl.store({blocks.operator_at(kept[d_operators], 'row')}, own)")
        operator = blocks.load(blocks.operator_at(blocks.operators, "row"))
        line(f"share = {emit.dot(blocks.operand('share'), f'tl.trans({operator})')}")
        with emit.kernel.block(f"for vt in range({emit.tiling.parts}):"):
            emit.lane_here("V")
            handed = blocks.load(blocks.state_at(kept[d_states], "above"))
            state = blocks.load(blocks.state_at(blocks.states, "row"))
            line(f"share += {emit.dot(handed, f'tl.trans({state})')}")
    line(f"row = walks.slot(p, end, {shape.constants})")
    line(f"tl.store({blocks.operator_at(kept[d_operators], 'row')}, share)")


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
