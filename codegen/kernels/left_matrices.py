"""The gradients of final states where operators are matrices: a way back and a way forth for every level."""

from __future__ import annotations

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.ends import Moves, farthest_first, last_chunk, nearest_first, sizes
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, load
from maskdsl.codegen.kernels.states_left import before, from_before
from maskdsl.codegen.kernels.tree import Shape, rank_of


def ended(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    """On the way back the gradient behind each block stays in `chain`; on the way forth it meets the state before it.

    A program does all levels, since all of them give to the same operators.
    """
    kernel, line = emit.kernel, emit.kernel.line
    emit.own_lanes.add("V")
    sizes(emit)
    with kernel.block(f"for level in range(1, {kernel.parameter('M', 'M', varying=True)} + 1):"):
        # levels that nothing is left at have nothing to give
        line(f"held = walks.left_at(level - {shape.nearest}, whole, past, {shape.base}) > 0")
        if len(instruction.operands) > 6:
            line(f"held |= {from_before(shape)}")
        with (
            kernel.block("if held & (T > 0):"),
            kernel.block(f"for vt in range({emit.tiling.parts}):"),
        ):
            emit.lane_here("V")
            _back(emit, instruction, shape)
            line("tl.debug_barrier()")
            _forth(emit, instruction, shape)
            line("tl.debug_barrier()")


def _back(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    operators, states, _, d_states, gradient, operator, *_ = instruction.operands
    kernel, line = emit.kernel, emit.kernel.line
    moves = Moves(emit, operators, states, shape)
    line(f"carried = {load(emit, emit.buffers.name(gradient), 'level')}")
    with last_chunk(emit) as place:
        line(f"tl.store({_chain_at(emit, 'held_reads - 1')}, carried)")
        moves.by_chunk(operator, place, "carried", back=True)
    with nearest_first(emit, shape):
        rank_of(kernel, shape, "p", "end")
        line(f"tl.store({_chain_at(emit, 'rank')}, carried)")
        assert moves.matrices is not None
        with kernel.block(f"if p + {shape.nearest} == level:"):
            target = moves.matrices.state_at(emit.buffers.kept[d_states], "row")
            line(f"tl.store({target}, tl.load({target}).to(tl.float32) + carried)")
        moves.by_block("carried", back=True)


def _forth(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    operators, states, d_operators, _, _, _, *initial = instruction.operands
    kernel, line, operand = emit.kernel, emit.kernel.line, emit.tiling.operand
    moves = Moves(emit, operators, states, shape)
    assert moves.matrices is not None

    def give(rank: str, row: str) -> None:
        """The gradient of an operator, from the state before it and the gradient behind it."""
        assert moves.matrices is not None
        target = moves.matrices.operator_at(emit.buffers.kept[d_operators], row)
        line(f"behind = tl.load({_chain_at(emit, rank)}).to({operand})")
        line(f"owed = {emit.dot('behind', f'tl.trans(carried.to({operand}))')}")
        line(f"tl.store({target}, tl.load({target}).to(tl.float32) + owed)")

    line(f"carried = {emit.zeros(STATE)}")
    for each in initial:
        before(emit, shape, each, "carried")
    with farthest_first(emit, shape):
        rank_of(kernel, shape, "p", "end")
        give("rank", "row")
        moves.by_block("carried")
        with kernel.block(f"if p + {shape.nearest} == level:"):
            line(f"carried += tl.load({moves.state}).to(tl.float32)")
    with last_chunk(emit):
        give("held_reads - 1", "whole")


def _chain_at(emit: Evaluator, rank: str) -> str:
    """The addresses of the gradient behind a block, [K, V]."""
    kernel = emit.kernel
    entries = emit.tiling.held("K") * emit.tiling.value
    kernel.parameter("held_reads", "chain.shape[2]", varying=True)
    first = f"((b * {kernel.size('H')} + {emit.head}) * held_reads + {rank}) * {entries}"
    inner = emit.offsets(STATE, {0: f"{emit.lane('K')} * {emit.tiling.value}", 1: f"tl.arange(0, {emit.tiling.value})"})
    return f"{kernel.pointer('chain')} + {first} + {inner}"
