"""The kernels of a scan: states carried from chunk to chunk."""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place
from maskdsl.schedule.unsupported import SharedSum


def carry(emit: Evaluator, instruction: Instruction, *, made: bool) -> None:
    """S[0] = 0, S[n + 1] = exp(A[n]) S[n] + H[n], or the same from the end.

    S[n] takes the place of H[n], or of an earlier one where not all states are kept. H lies in memory or, where it is
    `made` here, never does; then the log decays are left in memory too.
    """
    assert isinstance(instruction.op, ops.Scan)
    kernel, buffers, line = emit.kernel, emit.buffers, emit.kernel.line
    operator, writes = instruction.operands
    diagonal = emit.types[operator][-2] == "K"
    inner = emit.inner(((0, "K"), (1, "V")))
    line(f"carried = {emit.zeros(((0, 'K'), (1, 'V')))}")
    # products set how far loads run ahead; without them it has to be asked for
    steps = f"range(0, {kernel.size('N')})" if made else f"tl.range(0, {kernel.size('N')}, num_stages=4)"
    with kernel.block(f"for step in {steps}:"):
        line("n = N - 1 - step" if instruction.op.reverse else "n = step + 0")
        state = buffers.base(kernel, instruction.results[0], "n", "h") + inner
        left = buffers.address(kernel, buffers.kept[operator], "n", "h") + (f" + {emit.lane('K')}" if diagonal else "")
        if made:
            place = Place("n")
            log, written = emit.value(operator, place).name, emit.value(writes, place).name
            if place.tiles[operator].parts | place.tiles[writes].parts:
                raise SharedSum("What a scan carries is a sum that several programs share.")
            # programs for other columns, and of a number for other channels, write the same
            line(f"tl.store({left}, {log})")
        else:
            log, written = f"tl.load({left})", "written"
            line(f"written = tl.load({buffers.base(kernel, writes, 'n', 'h') + inner}).to(tl.float32)")
        line(f"decay = tiles.exp({log})")
        if instruction.op.every > 1:
            with kernel.block(f"if n % {instruction.op.every} == 0:"):
                line(f"tl.store({state}, carried)")
        else:
            line(f"tl.store({state}, carried)")
        line(f"carried = {'decay[:, None]' if diagonal else 'decay'} * carried + {written}")


def carry_rank_one(emit: Evaluator, instruction: Instruction) -> None:
    """S[0] = 0, S[n + 1] = exp(A[n]) S[n] + a[n]' (b[n] S[n]) + H[n], or from the end with a and b exchanged.

    All operands are made here, of what earlier kernels left in memory.
    """
    assert isinstance(instruction.op, ops.Scan)
    kernel, buffers, line, operand = emit.kernel, emit.buffers, emit.kernel.line, emit.tiling.operand
    operator, writes, a, b = instruction.operands
    if instruction.op.reverse:
        a, b = b, a
    (result,) = instruction.results
    line(f"carried = {emit.zeros(((0, 'K'), (1, 'V')))}")
    with kernel.block(f"for step in range(0, {kernel.size('N')}):"):
        line("n = N - 1 - step" if instruction.op.reverse else "n = step + 0")
        place = Place("n")
        address = buffers.address(kernel, buffers.kept[result], "n", "h") + emit.inner(((0, "K"), (1, "V")))
        line(f"tl.store({address}, carried)")
        read = emit.assign("read", emit.dot(emit.operand(b, place), f"carried.to({operand})"))
        log = emit.value(operator, place)
        line(f"carried *= tiles.exp({log.name}){'[:, None]' if log.dims else ''}")
        line(f"carried += {emit.dot(f'tl.trans({emit.operand(a, place)})', f'{read}.to({operand})')}")
        line(f"carried += {emit.value(writes, place).name}")
