"""What windows keep of sequences at their end: their last tokens, and where they are short, of those before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import kept
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Write the kernel of a window's memories, and what launches it."""
    assert isinstance(instruction.op, ops.Keep)
    for value in instruction.results:
        module.hand_out(value)
    chunks = reach(instruction.op.width, module.tiling.chunk) + 1
    order = (("vt", str(module.tiling.parts)), ("row", str(chunks)), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("left", "What a window keeps of the tokens of one chunk.", order, None)
    leave(module.evaluator(kernel, stage), instruction)
    kernel.warps = module.chunk_warps()
    module.host.append(kernel.launch())


def reach(width: int, size: int) -> int:
    """In how many chunks before the last one tokens may lie that a window keeps."""
    return -(-(width - 2) // size)


def leave(emit: Evaluator, instruction: Instruction) -> None:
    """The tokens of the chunk `row` chunks before the last one that are kept, its own ones and those that came in."""
    assert isinstance(instruction.op, ops.Keep)
    line, size = emit.kernel.line, emit.tiling.chunk
    line(f"n = (shift + T + {size - 1}) // {size} - 1 - row")
    with emit.kernel.block("if (n >= 0) & (n < N):"):
        _own(emit, instruction, instruction.op.width)
    with emit.kernel.block(f"if n * {size} < shift:"):
        _older(emit, instruction, instruction.op.width)


def _own(emit: Evaluator, instruction: Instruction, width: int) -> None:
    operator, pushed, v, *_ = instruction.operands
    keys, values = (emit.buffers.name(x) for x in instruction.results)
    place = Place("n")
    rows = kept.going_out(emit, place, width)
    kept.store(emit, values, "V", rows, emit.value(v, place).name)
    decay = kept.Between(emit, operator).of("n + 1", "N")
    kept.store_keys(emit, keys, rows, f"{emit.value(pushed, place).name} * {decay}")


def _older(emit: Evaluator, instruction: Instruction, width: int) -> None:
    operator, _, _, *memories = instruction.operands
    keys, values = (emit.buffers.name(x) for x in instruction.results)
    rows = kept.coming_in(emit, "n", width)
    after = rows.after(emit)
    if not memories:
        kept.store(emit, values, "V", after, emit.zeros(((0, "C"), (1, "V"))))
        kept.store_keys(emit, keys, after, emit.zeros(((0, "C"), (1, "K"))))
        return
    names = [emit.buffers.name(x) for x in memories]
    kept.store(emit, values, "V", after, kept.load(emit, names[1], "V", rows))
    decay = kept.Between(emit, operator).of("0", "N")
    kept.store_keys(emit, keys, after, f"{kept.load(emit, names[0], 'K', rows)} * {decay}")
