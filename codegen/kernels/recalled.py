"""The gradient of what came before a call, gathered level by level from the chunks that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, mask, seen
from maskdsl.codegen.kernels.matrix_walk import MatrixBlocks
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Blocks, Shape, gather_read, reads_of
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction, shape: Shape, reads: Buffer) -> None:
    """Write the kernel, if there is something to gather, and what launches it; `reads` are as the readers left them.

    What has met is read as one, so its gradient is that of each part.
    """
    if len(instruction.results) < 5:
        return
    name = module.hand_out(instruction.results[4])
    met = f"{name}_sums"
    module.host.append(f"{met} = torch.zeros_like({name})")
    order = (("vt", str(module.tiling.parts)), ("level", "M"), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("recalled", "The gradient of what came before, at one level.", order, None)
    kernel.opening.append("level += 1")
    gather(module.evaluator(kernel, stage), instruction, shape, reads)
    kernel.warps = module.state_warps(instruction)
    module.host += [kernel.launch(), f"{name} += {met}.flip(2).cumsum(2).flip(2)"]


def gather(emit: Evaluator, instruction: Instruction, shape: Shape, reads: Buffer) -> None:
    """What the chunks before `first` read of a level, and then what they read of it together with all below."""
    kernel, line = emit.kernel, emit.kernel.line
    name = emit.buffers.name(instruction.results[4])
    (_strong_readers if shape.strong else _weak_readers)(emit, shape)
    for start, stop, target in (("0", "first", name), ("first", "last", f"{name}_sums")):
        line(f"block = {emit.zeros(STATE)}")
        with kernel.block(f"for n in range({start}, {stop}):"):
            levels: str | None = "tl.maximum(tl.where(n > 0, 0, own), level)" if target == name else None
            if shape.strong:
                levels = seen(emit, Place("n"), "level")
            _read(emit, instruction, shape, reads, levels)
        line(f"tl.store({address(emit, target, 'level')}, block{mask(emit)})")


def _strong_readers(emit: Evaluator, shape: Shape) -> None:
    """Write the chunks that read what is at a level together with all below: from `first` to before `last`."""
    line, size = emit.kernel.line, emit.tiling.chunk
    line("held = walks.digits(position, 2)")
    joined, parted = (
        f"tl.minimum(tl.maximum(tl.cdiv(tiles.{met}(position, level), {size}) - position // {size}, 0), N)"
        for met in ("all_met_at", "met_at")
    )
    line(f"first = tl.where(level <= held, {joined}, 0).to(tl.int32)")
    line(f"last = tl.where(level < held, {parted}, tl.where(level == held, N, 0)).to(tl.int32)")


def _weak_readers(emit: Evaluator, shape: Shape) -> None:
    """The same; of those before, the first chunk reads row by row at levels that are `own`."""
    line, base = emit.kernel.line, shape.base
    line(f"width = walks.width_within(tl.maximum(level - {shape.nearest}, 0), past + N, {base})")
    line("first = tl.minimum((past // width + 1) * width - past, N).to(tl.int32)")
    line(f"last = tl.minimum((past // (width * {base}) + 1) * width * {base} - past, N).to(tl.int32)")
    line(f"last = tl.where(level < {shape.nearest}, first, last)")
    line(f"own = tiles.level_of({emit.lane('C')}, shift, {shape.nearest}, {shape.constants})")


def _read(emit: Evaluator, instruction: Instruction, shape: Shape, reads: Buffer, levels: str | None) -> None:
    """Add what chunk n has read, by the weight of the level or of `levels` row by row."""
    gradient, queries, operators, states, lam, *_ = instruction.operands
    line, place = emit.kernel.line, Place("n")
    last = f"(n + 1) * {reads_of(emit.kernel, reads)} - 1"
    emit.prepare_columns(lam, place)
    line(f"weight = {emit.column(lam, place, levels or 'level', by_row=levels is not None)}")
    if ops.matrices([emit.types[operators]]):
        blocks = MatrixBlocks(emit, shape, operators, states)
        line(f"weighed = {blocks.operand(f'(weight[:, None] * {emit.narrow(gradient, place)})')}")
        line(f"block += {emit.dot(f'tl.trans({blocks.load(blocks.rows_at(reads, last))})', 'weighed')}")
    else:
        decayed = Blocks(emit, shape, operators, states)
        line(f"decay = tiles.exp(tl.load({decayed.at(reads, f'({last})')}))")
        gather_read(emit, decayed, queries, gradient, place)
