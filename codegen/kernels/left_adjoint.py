"""The gradients of final states, taken back to blocks, decays, keys and values, and to the states of the beginning."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import kept, left_matrices, strong_left
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.ends import Moves, last_chunk, last_chunks, nearest_first, sizes
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.states_left import before, from_before
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
    kernel, line, kept_blocks = emit.kernel, emit.kernel.line, emit.buffers.kept
    operator, *rest = instruction.operands[5:]
    keys, initial = (rest[:2], rest[2:]) if shape.strong else ([], rest)
    emit.own_lanes.add("V")  # a program goes through all columns
    owing = _Owing(emit, instruction, shape)
    blocks = owing.blocks
    sizes(emit)
    line(f"log = {blocks.no_log}")
    with last_chunk(emit) as place:
        line(f"log += {emit.value(operator, place).name}")
    line("read = 0")
    if shape.strong:
        with strong_left.chunk_before(emit) as place:
            line("decay = tiles.exp(log)")
            with kernel.block(f"for level in range(1, {strong_left.nearer(emit, shape)}):"):
                owing.owe(lambda: strong_left.own_keys(emit, shape, *keys))
            line(f"log += {emit.value(operator, place).name}")
        line("read += 1")
    with nearest_first(emit, shape):
        line("decay = tiles.exp(log)")
        line(f"level = p + {shape.nearest}")
        own, target = (blocks.state_at(x, "row") for x in (blocks.states, kept_blocks[instruction.operands[3]]))
        owing.owe(lambda: line(f"state = tl.load({own}).to(tl.float32)"), target)
        line(f"log += tl.load({blocks.log_at('p', 'end')})")
        line("read += 1")
    for each in initial:
        line("decay = tiles.exp(log)")
        (strong_left.owe_levels if shape.strong else _owe_levels)(emit, shape, each, owing.owe)
    line("tl.debug_barrier()")
    line("read = 0")
    if shape.strong:
        with strong_left.chunk_before(emit):
            owing.settle(f"({shape.row(kernel, '0', 'whole')})")
        line("read = 1")
    with nearest_first(emit, shape):
        owing.settle("row")
    with last_chunk(emit):
        line(f"tl.store({blocks.at(left, 'whole')}, tl.sum(energies, 0))")


class _Owing:
    """What decays owe, added up by the reads that lie behind them: the tile `energies`."""

    def __init__(self, emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
        operators, states, d_operators, _, gradient, *_ = instruction.operands
        self.emit, self.kernel, self.line = emit, emit.kernel, emit.kernel.line
        self.target, self.gradient = emit.buffers.kept[d_operators], emit.buffers.name(gradient)
        found = Moves(emit, operators, states, shape).blocks
        assert found is not None
        self.blocks, self.wide = found, found.diagonal
        count = padded(emit.tiling.levels * (2 if shape.strong else shape.base - 1) + 1 + shape.strong)
        extents = f"({count}, {emit.tiling.extent('K')})" if self.wide else f"({count},)"
        self.line(f"energies = tl.zeros({extents}, tl.float32)")
        self.line(f"reads = tl.arange(0, {count}){'[:, None]' if self.wide else ''}")

    def owe(self, state: Callable[[], None], target: str | None = None) -> None:
        """Add up what a `state` of the `level` gives to the decays before it, which the `read` is to remember."""
        line = self.line
        line(f"energy = {self.blocks.no_log}")
        with self.kernel.block(f"for vt in range({self.emit.tiling.parts}):"):
            self.emit.lane_here("V")
            line(f"given = {self.blocks.beside('decay')} * {load(self.emit, self.gradient, 'level')}")
            state()
            if target:
                line(f"tl.store({target}, tl.load({target}).to(tl.float32) + given)")
            line("share = tl.sum(given * state, 1)")
            line("energy += share" if self.wide else "energy += tl.sum(share, 0)")
        line(f"energies += tl.where(reads == read, energy{'[None, :]' if self.wide else ''}, 0.0)")

    def settle(self, row: str) -> None:
        """Give the decays of the block of a `read` what lies behind it, and go on to the next."""
        self.line("owed = tl.sum(tl.where(reads > read, energies, 0.0), 0)")
        target = self.blocks.at(self.target, row)
        self.line(f"tl.store({target}, tl.load({target}) + owed)")
        self.line("read += 1")


def _owe_levels(emit: Evaluator, shape: Shape, initial: str, owe: Callable[[Callable[[], None]], None]) -> None:
    """What came before, level by level, owes as well."""
    kernel, line = emit.kernel, emit.kernel.line
    with kernel.block(f"for level in range(1, {kernel.parameter('M', 'M', varying=True)} + 1):"):
        line(f"state = {emit.zeros(STATE)}")
        with kernel.block(f"if {from_before(shape)}:"):
            owe(lambda: before(emit, shape, initial, "state"))


def entered(emit: Evaluator, instruction: Instruction, shape: Shape, name: str) -> None:
    """The gradient of a level of the beginning: that of the level it is at in the end, all the way back."""
    operators, states, _, _, gradient, operator, *_ = instruction.operands
    moves = Moves(emit, operators, states, shape)
    line = emit.kernel.line
    end_level = f"tl.maximum(level, walks.apart(position + T, position, {shape.base}))"
    line(f"end_level = {strong_left.END_LEVEL if shape.strong else end_level}")
    line(f"carried = {load(emit, emit.buffers.name(gradient), 'end_level')}")
    sizes(emit)
    with last_chunks(emit, shape) as place:
        moves.by_chunk(operator, place, "carried", back=True)
    with nearest_first(emit, shape):
        moves.by_block("carried", back=True)
    line(f"tl.store({address(emit, name, 'level')}, carried{mask(emit)})")


def left_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dP and dv of what the last chunks have left level by level."""
    assert isinstance(instruction.op, ops.LeftAdjoint)
    kernel, line, operand = emit.kernel, emit.kernel.line, emit.tiling.operand
    gradient, *moving, pushed, v = instruction.operands
    shape = shape_of(instruction.op.base, instruction.op.admissibility, emit.tiling.chunk)
    keys, values = emit.value(pushed, place).name, emit.value(v, place).name
    d_keys, d_values = (emit.assign(x, emit.zeros(emit.dims(x))) for x in instruction.results)
    sizes(emit)
    with kernel.block(f"if {place.chunk} >= whole - {int(shape.strong)}:"):
        line(f"seen = {strong_left.seen_from_end(emit, shape, place)}[:, None]")
        decays = [kept.Between(emit, x).of(f"{place.chunk} + 1", "N") for x in moving]
        keys = " * ".join([keys, *decays])
        held = f"if rest // walks.power(level - 1, {shape.base}) % {shape.base} > 0:"
        with (
            kernel.block(f"for level in range(1, {strong_left.nearer(emit, shape)}):"),
            nullcontext() if shape.strong else kernel.block(held),
        ):
            line(f"given = {load(emit, emit.buffers.name(gradient), 'level')}.to({operand})")
            for target, rows, state in ((d_keys, values, "tl.trans(given)"), (d_values, keys, "given")):
                left = f"tl.where(seen == level, {rows}, 0.0).to({operand})"
                line(f"{target} += {emit.dot(left, state)}")
        for decay in decays:
            line(f"{d_keys} *= {decay}")
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    for value, target, shared in zip(instruction.results, (d_keys, d_values), (parts, frozenset[str]()), strict=True):
        place.tiles[value] = Tile(target, emit.dims(value), shared)
