"""Kernels for pairs of positions with a decay a channel between them: a block of key channels at a time.

A tile of all channels, with its decays and their sums, would not fit in registers.
"""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place


def scores(emit: Evaluator, instruction: Instruction) -> None:
    """S of a chunk, summed over the blocks of channels."""
    (result,) = instruction.results
    kernel, place, count = emit.kernel, Place("n"), emit.tiling.key_parts
    total = kernel.fresh("total")
    emit.prepare(place)
    kernel.line(f"{total} = {emit.zeros(emit.dims(result))}")
    if count == 1:
        _add(emit, instruction, total, place)
    else:
        with kernel.block(f"for kt in range({count}):"):
            emit.lane_here("K")
            _add(emit, instruction, total, place)
    _store(emit, result, total)


def _add(emit: Evaluator, instruction: Instruction, total: str, place: Place) -> None:
    names = ", ".join(emit.value(x, place).name for x in instruction.operands)
    products = emit.products(instruction.results[0])
    match instruction.op:
        case ops.DecayDot(_, row, column, diagonal):
            text = f"tiles.decay_dot({total}, {names}, {row}, {column}, {diagonal}, {products})"
        case ops.DecayDots(_, row, column):
            text = f"tiles.decay_dots({total}, {names}, {row}, {column}, {products})"
    emit.kernel.line(f"{total} = {text}")


def scores_adjoint(emit: Evaluator, instruction: Instruction) -> None:
    """dq, dk and dg of a chunk, for one block of channels a program."""
    assert isinstance(instruction.op, ops.DecayDotAdjoint)
    place = Place("n")
    for result in instruction.results:
        _store(emit, result, emit.value(result, place).name)


def _store(emit: Evaluator, value: str, name: str) -> None:
    head = emit.head_of(emit.types[value])
    address = emit.buffers.base(emit.kernel, value, "n", head) + emit.inner(emit.dims(value))
    emit.kernel.line(f"tl.store({address}, {name})")
