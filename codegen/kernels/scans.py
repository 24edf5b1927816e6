"""The launches of a scan: states carried from chunk to chunk by programs for heads and columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import scan
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.programs import Order
from maskdsl.codegen.kernels.segments import Segments, join
from maskdsl.codegen.kernels.solved_scan import carry, cross, reach
from maskdsl.schedule.stages import Stage
from maskdsl.schedule.unsupported import SharedSum

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


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
    """Write the kernels of a scan whose chunks solve systems, and what launches them."""
    assert isinstance(instruction.op, ops.SolvedScan)
    own = dataclasses.replace(
        module.tiling, value=min(64, module.tiling.value), columns=module.tiling.held("V"), heads=1
    )
    states, answers, *last = instruction.results
    module.host += [module.buffers.allocation(module.buffers.keep(result)) for result in (states, answers)]
    for value in last:
        module.hand_out(value)
    divided = Segments(f"{module.buffers.name(states)}_ends", own)
    module.host += divided.divide()
    # steps back that also make what they write hold too much for loads that run further ahead
    ahead = 3 if instruction.op.rest(instruction.operands)[0] is None else 2
    columns, matrix = ("vt", str(own.parts)), ("tile", str(divided.matrix_tiles))
    crossings, every, rest = ("segment", "crossings"), ("segment", "segments"), (("h", "H"), ("b", "B"))

    def launch(name: str, about: str, tiles: Order, write: Callable[..., None], warps: int, stages: int) -> str:
        kernel = module.new_kernel(name, about, (*tiles, *rest), None)
        kernel.warps, kernel.stages = warps, stages
        write(module.evaluator(kernel, stage, own), instruction, divided)
        return kernel.launch()

    found = (
        launch("reached", "What segments end with that begin with nothing.", (columns, crossings), reach, 4, ahead),
        launch("crossed", "What segments make of the states they begin with.", (matrix, crossings), cross, 4, 3),
        launch("joined", "The states that segments end with.", (columns,), join, 8, 1),
    )
    module.host += ["if crossings:", *(f"    {line}" for line in found)]
    module.host.append(
        launch("scan", "States carried from chunk to chunk, and answers.", (columns, every), carry, 4, ahead)
    )


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
        f"if at.busy({made.programs}):",
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
