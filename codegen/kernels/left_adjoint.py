"""The gradients of final states, taken back to blocks, decays, keys and values, and to the states of the beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import left_matrices
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.states_left import Moves, before, from_before, last_chunk, nearest_first, sizes
from maskdsl.codegen.kernels.tile import Place, Tile
from maskdsl.codegen.kernels.tree import Shape, shape_of
from maskdsl.schedule.configuration import padded
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction, shape: Shape) -> Buffer | None:
    """Write the kernels of a tree's final states, if it has them, before blocks hand gradients down.

    What is left gets its gradient added to that of its readers. The gradient of the decay of a last chunk that is not
    full is returned; a matrix has it where its operator's is.
    """
    assert isinstance(instruction.op, ops.TreeAdjoint)
    if not instruction.op.final:
        return None
    left = None
    kernel = module.new_kernel("ended", "What final states give to blocks and decays.", (("h", "H"), ("b", "B")), None)
    emit = module.evaluator(kernel, stage)
    kernel.warps = module.state_warps(instruction)
    if ops.matrices([module.types[instruction.operands[0]]]):
        entries = emit.tiling.held("K") * emit.tiling.value
        module.host.append(f"chain = at.float(S, H, {shape.reads(True)}, {entries})")
        left_matrices.ended(emit, instruction, shape)
    else:
        left = module.beside(instruction.operands[2], "left", module.buffers.keep(instruction.results[0]))
        module.host.append(module.buffers.allocation(left))
        ended(emit, instruction, shape, left)
    module.host.append(kernel.launch())
    for value in instruction.results[2:]:
        name = module.hand_out(value)
        order = (("vt", str(module.tiling.parts)), ("level", "M"), ("h", "H"), ("b", "B"))
        kernel = module.new_kernel("entered", "What final states give to those of the beginning.", order, None)
        kernel.opening.append("level += 1")
        entered(module.evaluator(kernel, stage), instruction, shape, name)
        kernel.warps = module.state_warps(instruction)
        module.host.append(kernel.launch())
    return left


def ended(emit: Evaluator, instruction: Instruction, shape: Shape, left: Buffer) -> None:
    """Blocks that are left, nearest first, and then what each decay owes: all that lies behind it."""
    kernel, line, kept = emit.kernel, emit.kernel.line, emit.buffers.kept
    operators, states, d_operators, d_states, gradient, operator, *initial = instruction.operands
    emit.own_lanes.add("V")  # a program goes through all columns
    moves = Moves(emit, operators, states, shape)
    blocks = moves.blocks
    assert blocks is not None
    count = padded(emit.tiling.levels * (shape.base - 1) + 1)
    wide = blocks.diagonal
    extents = f"({count}, {emit.tiling.extent('K')})" if wide else f"({count},)"
    line(f"energies = tl.zeros({extents}, tl.float32)")
    line(f"reads = tl.arange(0, {count}){'[:, None]' if wide else ''}")

    def owe(state: Callable[[], None], target: str | None) -> None:
        """Add up what a `state` of the `level` gives to the decays before it, which the `read` is to remember."""
        line(f"energy = {blocks.no_log}")
        with kernel.block(f"for vt in range({emit.tiling.parts}):"):
            emit.lane_here("V")
            line(f"given = {blocks.beside('decay')} * {load(emit, emit.buffers.name(gradient), 'level')}")
            state()
            if target:
                line(f"tl.store({target}, tl.load({target}).to(tl.float32) + given)")
            line("share = tl.sum(given * state, 1)")
            line("energy += share" if wide else "energy += tl.sum(share, 0)")
        line(f"energies += tl.where(reads == read, energy{'[None, :]' if wide else ''}, 0.0)")

    sizes(emit)
    line(f"log = {blocks.no_log}")
    with last_chunk(emit) as place:
        line(f"log += {emit.value(operator, place).name}")
    line("read = 0")
    with nearest_first(emit, shape):
        line("decay = tiles.exp(log)")
        line(f"level = p + {shape.nearest}")
        own = blocks.state_at(blocks.states, "row")
        owe(lambda: line(f"state = tl.load({own}).to(tl.float32)"), blocks.state_at(kept[d_states], "row"))
        line(f"log += tl.load({blocks.log_at('p', 'end')})")
        line("read += 1")
    if initial:
        line("decay = tiles.exp(log)")
        with kernel.block(f"for level in range(1, {kernel.parameter('M', 'M', varying=True)} + 1):"):
            line(f"state = {emit.zeros(STATE)}")
            with kernel.block(f"if {from_before(shape)}:"):
                owe(lambda: before(emit, shape, initial[0], "state"), None)
    line("tl.debug_barrier()")
    line("read = 0")
    with nearest_first(emit, shape):
        line("owed = tl.sum(tl.where(reads > read, energies, 0.0), 0)")
        target = blocks.at(kept[d_operators], "row")
        line(f"tl.store({target}, tl.load({target}) + owed)")
        line("read += 1")
    with last_chunk(emit):
        line(f"tl.store({blocks.at(left, 'whole')}, tl.sum(energies, 0))")


def entered(emit: Evaluator, instruction: Instruction, shape: Shape, name: str) -> None:
    """The gradient of a level of the beginning: that of the level it is at in the end, all the way back."""
    operators, states, _, _, gradient, operator, *_ = instruction.operands
    moves = Moves(emit, operators, states, shape)
    line = emit.kernel.line
    line(f"end_level = tl.maximum(level, walks.apart(position + T, position, {shape.base}))")
    line(f"carried = {load(emit, emit.buffers.name(gradient), 'end_level')}")
    sizes(emit)
    with last_chunk(emit) as place:
        moves.by_chunk(operator, place, "carried", back=True)
    with nearest_first(emit, shape):
        moves.by_block("carried", back=True)
    line(f"tl.store({address(emit, name, 'level')}, carried{mask(emit)})")


def left_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dP and dv of what a last chunk that is not full has left level by level."""
    assert isinstance(instruction.op, ops.LeftAdjoint)
    kernel, line, operand = emit.kernel, emit.kernel.line, emit.tiling.operand
    gradient, pushed, v = instruction.operands
    shape = shape_of(instruction.op.base, "weak", emit.tiling.chunk)
    keys, values = emit.value(pushed, place).name, emit.value(v, place).name
    d_keys, d_values = (emit.assign(x, emit.zeros(emit.dims(x))) for x in instruction.results)
    sizes(emit)
    with kernel.block(f"if {place.chunk} == whole:"):
        line(f"seen = tiles.level_of({emit.lane('C')}, rest, {shape.nearest}, {shape.base})[:, None]")
        with (
            kernel.block(f"for level in range(1, {shape.nearest}):"),
            kernel.block(f"if rest // walks.power(level - 1, {shape.base}) % {shape.base} > 0:"),
        ):
            line(f"given = {load(emit, emit.buffers.name(gradient), 'level')}.to({operand})")
            for target, rows, state in ((d_keys, values, "tl.trans(given)"), (d_values, keys, "given")):
                left = f"tl.where(seen == level, {rows}, 0.0).to({operand})"
                line(f"{target} += {emit.dot(left, state)}")
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    for value, target, shared in zip(instruction.results, (d_keys, d_values), (parts, frozenset[str]()), strict=True):
        place.tiles[value] = Tile(target, emit.dims(value), shared)
