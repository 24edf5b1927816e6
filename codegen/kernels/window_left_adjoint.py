"""The gradients of what windows keep, taken back to keys, values and decays, and to what came before the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import kept
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place, Tile
from maskdsl.codegen.kernels.window_left import reach
from maskdsl.lowering.chunking import lags_of
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def keep_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dP and dv of a chunk."""
    assert isinstance(instruction.op, ops.KeepAdjoint)
    d_keys, d_values, operator, *_ = instruction.operands
    _, d_pushed, d_v, *_ = instruction.results
    n, chunks = place.chunk, reach(instruction.op.width, emit.tiling.chunk)
    rows = kept.going_out(emit, place, instruction.op.width)
    # of chunks far from the end nothing is kept
    decay = kept.Between(emit, operator).of(f"{n} + 1", f"tl.where(N - {n} <= {chunks + 1}, N, 0)")
    keys = emit.assign(d_pushed, f"{kept.load(emit, emit.buffers.name(d_keys), 'K', rows)} * {decay}")
    values = emit.assign(d_v, kept.load(emit, emit.buffers.name(d_values), "V", rows))
    place.tiles[d_pushed] = Tile(keys, emit.dims(d_pushed))
    place.tiles[d_v] = Tile(values, emit.dims(d_v))


def write(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Write the kernels of what decays owe and of what came in, where that is asked for, and what launches them."""
    assert isinstance(instruction.op, ops.KeepAdjoint)
    value = instruction.results[0]
    if value in module.used:
        module.host.append(module.buffers.allocation(module.buffers.keep(value)))
        order = (("h", "H"), ("n", "N"), ("b", "B"))
        kernel = module.new_kernel("ended", "The gradient of each chunk's log decay, of what a window keeps.", order)
        owed(module.evaluator(kernel, stage), instruction)
        kernel.warps = module.chunk_warps()
        module.host.append(kernel.launch())
    if not instruction.op.initial:
        return
    names = [module.hand_out(x) for x in instruction.results[3:]]
    chunks = lags_of(instruction.op.width, module.tiling.chunk) + 1
    tiles = (("vt", str(module.tiling.parts)), ("row", str(chunks)), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("entered", "What kept tokens give to those from before, of one chunk.", tiles, None)
    entered(module.evaluator(kernel, stage), instruction, *names)
    kernel.warps = module.chunk_warps()
    module.host.append(kernel.launch())


def owed(emit: Evaluator, instruction: Instruction) -> None:
    """The gradient of a chunk's log decay: what is kept of all before it, times the gradient of that."""
    assert isinstance(instruction.op, ops.KeepAdjoint)
    kernel, line, width = emit.kernel, emit.kernel.line, instruction.op.width
    d_keys, _, operator, pushed, _, *memories = instruction.operands
    between, chunks = kept.Between(emit, operator), reach(width, emit.tiling.chunk)
    given = emit.buffers.name(d_keys)

    def owe(keys: str, rows: kept.Rows) -> None:
        """Add up what keys owe that are kept in some rows."""
        loaded = kept.load(emit, given, "K", rows)
        line(f"total += {between.energy(f'{keys} * {between.decay} * {loaded}')}")

    line(f"total = {between.nothing}")
    line(f"{between.log} = {between.nothing}")
    # of chunks far from the end nothing is kept
    with kernel.block(f"for back in range(0, tl.where(n + {chunks + 1} >= N, tl.minimum(N, {chunks + 1}), 0)):"):
        line("earlier = N - 1 - back")
        place = Place("earlier")
        log, rows = emit.value(operator, place).name, kept.going_out(emit, place, width)
        with kernel.block("if earlier < n:"):
            owe(emit.value(pushed, place).name, rows)
        line(f"{between.log} += {log}")
    if memories:
        with (
            kernel.block(f"if T < {width - 1}:"),
            kernel.block(f"for row in range({lags_of(width, emit.tiling.chunk) + 1}):"),
        ):
            line("behind = -row")
            rows = kept.coming_in(emit, "behind", width)
            owe(kept.load(emit, emit.buffers.name(memories[0]), "K", rows), rows.after(emit))
    lanes = f" + {emit.lane('K')}" if between.diagonal else ""
    line(f"tl.store({emit.buffers.base(kernel, instruction.results[0], 'n', emit.head)}{lanes}, total)")


def entered(emit: Evaluator, instruction: Instruction, keys: str, values: str) -> None:
    """The gradients of the tokens of chunk -row that came in: those of the rows that they have in the end, if any."""
    assert isinstance(instruction.op, ops.KeepAdjoint)
    d_keys, d_values, operator, *_ = instruction.operands
    emit.kernel.line("behind = -row")
    rows = kept.coming_in(emit, "behind", instruction.op.width)
    after = rows.after(emit)
    kept.store(emit, values, "V", rows, kept.load(emit, emit.buffers.name(d_values), "V", after))
    decay = kept.Between(emit, operator).of("0", f"tl.where(T < {instruction.op.width - 1}, N, 0)")
    kept.store_keys(emit, keys, rows, f"{kept.load(emit, emit.buffers.name(d_keys), 'K', after)} * {decay}")
