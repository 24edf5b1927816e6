"""The gradient of the tokens that came before a call, gathered from the chunks whose windows reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import kept
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.lags import Lags
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Write the kernel, if a band goes on to what came before, and what launches it."""
    assert isinstance(instruction.op, ops.BandAdjoint)
    if not instruction.op.initial:
        return
    assert instruction.op.width is not None
    parts, rows = module.tiling.parts, instruction.op.width - 1
    # the gradient of a key is a sum over columns of V
    names = [module.hand_out(x, n) for x, n in zip(instruction.results[-2:], (parts, 1), strict=True)]
    order = (("vt", str(parts)), ("row", str(instruction.op.lags + 1)), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("recalled", "The gradient of the tokens before a sequence, of one chunk.", order, None)
    recall(module.evaluator(kernel, stage), instruction, *names)
    kernel.warps, kernel.stages = 8, 1
    module.host.append(kernel.launch())
    if parts > 1:
        module.host.append(f"{names[0]} = {names[0]}.unflatten(2, ({parts}, {rows})).sum(2)")


def recall(emit: Evaluator, instruction: Instruction, d_keys: str, d_values: str) -> None:
    """What the chunks of a sequence give to the tokens of chunk -row."""
    assert isinstance(instruction.op, ops.BandAdjoint)
    assert instruction.op.width is not None
    gradient, queries, *_ = instruction.operands
    line, width = emit.kernel.line, instruction.op.width
    lags = Lags(emit, instruction)
    line("behind = -row")
    other = lags.recalled("behind")
    keys = emit.assign("given", emit.zeros(((0, "C"), (1, "K"))))
    values = emit.assign("given", emit.zeros(((0, "C"), (1, "V"))))
    with lags.readers(f"tl.minimum(N, {instruction.op.lags + 1} - row)", "behind") as place:
        weights = lags.weights(place, other)
        pulled = emit.assign("far", lags.operand(f"{emit.value(queries, place).name} * {lags.decay}"))
        d = emit.operand(gradient, place)
        met = lags.weighted(emit.dot(d, f"tl.trans({other.values()})"), place, other.place, weights)
        line(f"{keys} += {emit.dot(f'tl.trans({lags.operand(met)})', pulled)}")
        scores = lags.weighted(emit.dot(pulled, f"tl.trans({other.keys()})"), place, other.place, weights)
        line(f"{values} += {emit.dot(f'tl.trans({lags.operand(scores)})', d)}")
    rows = kept.coming_in(emit, "behind", width)
    kept.store(emit, d_values, "V", rows, values)
    part = kept.Rows(f"({rows.first} + vt * {width - 1})", rows.inside) if emit.tiling.parts > 1 else rows
    kept.store(emit, d_keys, "K", part, keys)
