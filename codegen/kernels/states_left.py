"""What sequences leave behind at each level: their blocks, and the keys of a last chunk that is not full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import strong_left
from maskdsl.codegen.kernels.ends import Moves, farthest_first, last_chunk, sizes
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.tree import Shape
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction, shape: Shape) -> None:
    """Write the kernel of a tree's final states, if it has them, and what launches it."""
    if len(instruction.results) == 2:
        return
    module.hand_out(instruction.results[2])
    order = (("vt", str(module.tiling.parts)), ("level", "M"), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("left", "What a sequence leaves at one level.", order, None)
    kernel.opening.append("level += 1")
    (strong_left.leave if shape.strong else leave)(module.evaluator(kernel, stage), instruction, shape)
    kernel.warps = module.state_warps(instruction)
    module.host.append(kernel.launch())


def leave(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    """The state of a level: what came before and has met there, moved on, and the blocks and keys of that level."""
    assert isinstance(instruction.op, ops.Tree)
    kernel, line = emit.kernel, emit.kernel.line
    operator, _, pushed, v, *initial = instruction.operands
    moves = Moves(emit, instruction.results[0], instruction.results[1], shape)
    line(f"carried = {emit.zeros(STATE)}")
    for each in initial:
        before(emit, shape, each, "carried")
    sizes(emit)
    with farthest_first(emit, shape):
        moves.by_block("carried")
        with kernel.block(f"if p + {shape.nearest} == level:"):
            line(f"carried += tl.load({moves.state}).to(tl.float32)")
    with last_chunk(emit) as place:
        moves.by_chunk(operator, place, "carried")
        with kernel.block(f"if level < {shape.nearest}:"):
            rows = f"tiles.level_of({emit.lane('C')}, rest, {shape.nearest}, {shape.constants}) == level"
            line(f"own = tl.where(({rows})[:, None], {emit.value(pushed, place).name}, 0.0).to({emit.tiling.operand})")
            line(f"carried += {emit.dot('tl.trans(own)', emit.operand(v, place))}")
    kept = emit.buffers.name(instruction.results[2])
    line(f"tl.store({address(emit, kept, 'level')}, carried{mask(emit)})")


def from_before(shape: Shape) -> str:
    """Whether something that came before is at the `level` from now on."""
    digit = f"walks.shifted(position, level - 1, {shape.base}) % {shape.base}"
    met = f"walks.apart(position + T, position, {shape.base})"
    return f"((level == {met}) | ((level > {met}) & ({digit} > 0)))"


def before(emit: Evaluator, shape: Shape, initial: str, state: str) -> None:
    """Write what came before that is at the `level` from now on, if anything is, in the place of `state`."""
    name = emit.buffers.name(initial)
    emit.kernel.line(f"met = walks.apart(position + T, position, {shape.base})")
    for test, source in (("level > met", name), ("level == met", f"{name}_sums")):
        with emit.kernel.block(f"if {test}:"):
            emit.kernel.line(f"{state} = {load(emit, source, 'level')}")
