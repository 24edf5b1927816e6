"""The kernels of a scan: states carried from chunk to chunk."""

from __future__ import annotations

from collections.abc import Sequence

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.tile import Place
from maskdsl.schedule.unsupported import SharedSum


def begin(emit: Evaluator, initial: str | None) -> None:
    """Write what a scan carries at first: the state of a sequence, if one is handed in."""
    emit.kernel.line(f"carried = {load(emit, emit.buffers.name(initial)) if initial else emit.zeros(STATE)}")


def end(emit: Evaluator, final: Sequence[str]) -> None:
    """Write what a scan carries at last to where it is handed out."""
    for each in final:
        emit.kernel.line(f"tl.store({address(emit, emit.buffers.name(each))}, carried{mask(emit)})")


def carry(emit: Evaluator, instruction: Instruction, *, made: bool) -> None:
    """S[0] = I, S[n + 1] = exp(A[n]) S[n] + H[n], or the same from the end.

    S[n] takes the place of H[n], or of an earlier one where not all states are kept. H lies in memory or, where it is
    `made` here, never does; then the log decays are left in memory too.
    """
    assert isinstance(instruction.op, ops.Scan)
    kernel, buffers, line = emit.kernel, emit.buffers, emit.kernel.line
    operator, writes, *initial = instruction.operands
    diagonal = emit.types[operator][-2] == "K"
    inner = emit.inner(STATE)
    begin(emit, initial[0] if initial else None)
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
    end(emit, instruction.results[1:])
