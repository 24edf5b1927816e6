"""The launches of a scan: states carried from chunk to chunk by programs for heads and columns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import scan
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.schedule.stages import Stage
from maskdsl.schedule.unsupported import SharedSum

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module

FULL = 256
"""Programs that keep a GPU busy."""


def write(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Write the kernels of a scan and what launches them."""
    _keep(module, instruction)
    for value in instruction.results[1:]:
        module.hand_out(value)
    fine = module.fine
    order = (*module.tiles, ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("scan", "States carried from chunk to chunk.", order, None)
    scan.carry(module.evaluator(kernel, stage, fine), instruction, made=False)
    kernel.warps, kernel.stages = 4, 3
    made = _made(module, stage, instruction)
    lines = [*module.leaf, kernel.launch()]
    module.leaf = []
    if made is None:
        module.host += lines
    else:
        module.host += _either(module, instruction, made, lines)


def write_solved(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Write the kernel of a scan whose chunks solve a system, and what launches it."""
    own = dataclasses.replace(
        module.tiling, value=min(64, module.tiling.value), columns=module.tiling.held("V"), heads=1
    )
    order = (("vt", str(own.parts)), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel(
        "scan", "States carried from chunk to chunk, and what chunks write to them.", order, None
    )
    states, answers, *last = instruction.results
    module.host += [module.buffers.allocation(module.buffers.keep(result)) for result in (states, answers)]
    for value in last:
        module.hand_out(value)
    scan.carry_solved(module.evaluator(kernel, stage, own), instruction)
    kernel.warps, kernel.stages = 4, 3
    module.host.append(kernel.launch())


def _keep(module: Module, scan: Instruction) -> None:
    """Give states a buffer: that of what chunks write, of which they take as many rows as there are states."""
    assert isinstance(scan.op, ops.Scan)
    buffer, every = module.buffers.kept[scan.operands[1]], scan.op.every
    if every > 1:
        buffer = dataclasses.replace(buffer, rows=f"-(-N // {every})", row=f"({{n}} // {every})")
    module.buffers.kept[scan.results[0]] = buffer


def _either(module: Module, scan: Instruction, made: Kernel, lines: list[str]) -> list[str]:
    """Launches for many heads, each program making what it carries, and for few, all chunks being made at once."""
    writes, states = (module.buffers.allocation(module.buffers.kept[x]) for x in (scan.operands[1], scan.results[0]))
    # what no kernel writes needs no memory
    own = [states] if writes in lines and states != writes else []
    buffers = [line for line in lines if " = at." in line and not (own and line == writes)]
    carried = [*own, made.launch()]
    launches = [line for line in lines if line not in buffers]
    return [
        *buffers,
        f"if {made.programs} >= {FULL}:",
        *(f"    {line}" for line in carried),
        "else:",
        *(f"    {line}" for line in launches),
    ]


def _made(module: Module, stage: Stage, instruction: Instruction) -> Kernel | None:
    """The kernel of a scan that makes what it carries; None where others need that too, or it is no less work."""
    if not module.leaf or sum(module.scans_over(each) for each in module.plan.stages) > 1:
        return None
    # keys that are computed are so once, each by the one program for its channels
    channels, columns = (64, 64) if _as_loaded(module, instruction.operands[1]) else (32, 128)
    own = dataclasses.replace(
        module.tiling,
        channels=min(channels, module.tiling.extent("K")),
        value=min(columns, module.tiling.value),
        columns=module.tiling.held("V"),
        heads=1,
    )
    order = (("vt", str(own.parts)), ("kt", str(own.key_parts)), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("carried", "States made and carried from chunk to chunk.", order, None)
    emit = module.evaluator(kernel, stage, own)
    emit.available -= set(instruction.operands[:2])
    try:
        scan.carry(emit, instruction, made=True)
    except SharedSum:
        # what chunks write, such as a normalised key, needs all channels or columns
        module.kernels.remove(kernel)
        return None
    kernel.warps, kernel.stages = 4, 5
    return kernel


def _as_loaded(module: Module, writes: str) -> bool:
    """Whether the keys of what chunks write, k' v, are an input but for factors of their rows."""
    maker = module.maker[writes]
    if not isinstance(maker.op, ops.Dot):
        return True
    emit = module.evaluator(Kernel("", ""), module.plan.stages[0])
    maker = module.maker[maker.operands[0]]
    while isinstance(maker.op, ops.Chunk | ops.Repeat) or emit.unscaled(maker):
        maker = module.maker[emit.unscaled(maker) or maker.operands[0]]
    return isinstance(maker.op, ops.Load)
