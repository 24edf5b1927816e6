"""The kernels of a scan whose chunks solve systems, each program going through one segment of a sequence.

    S[0] = I, W[n] = X[n] (u[n] + b[n] S[n]), S[n + 1] = exp(A[n]) S[n] + a[n]' W[n] + H[n]

or all from the end; from there a and b are exchanged, and X is transposed.
"""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import segments
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, load
from maskdsl.codegen.kernels.precise import halves, product
from maskdsl.codegen.kernels.scan import begin, end
from maskdsl.codegen.kernels.segments import Segments
from maskdsl.codegen.kernels.tile import Place


def carry(emit: Evaluator, instruction: Instruction, divided: Segments) -> None:
    """All states and answers S and W, from the states that segments begin with."""
    kernel = emit.kernel
    _, initial = _op(instruction).rest(instruction.operands)
    begin(emit, initial)
    with kernel.block("if segment > 0:"):
        kernel.line(f"carried = tl.load({divided.end_of(kernel, '(segment - 1)', emit.lane('K'), emit.lane('V'))})")
    _steps(emit, instruction, leaves=True, writes=True)
    last = instruction.results[2:]
    if last:
        with kernel.block("if segment == segments - 1:"):
            end(emit, last)


def reach(emit: Evaluator, instruction: Instruction, divided: Segments) -> None:
    """What segments end with: the first one truly, the others if they began with nothing."""
    kernel = emit.kernel
    _, initial = _op(instruction).rest(instruction.operands)
    kernel.line(f"carried = {emit.zeros(STATE)}")
    if initial:
        with kernel.block("if segment == 0:"):
            kernel.line(f"carried = {load(emit, emit.buffers.name(initial))}")
    _steps(emit, instruction, leaves=False, writes=True)
    kernel.line(f"tl.store({divided.end_of(kernel, 'segment', emit.lane('K'), emit.lane('V'))}, carried)")


def cross(emit: Evaluator, instruction: Instruction, divided: Segments) -> None:
    """What segments but the first make of the states that they begin with: a matrix, some of its columns a program."""
    kernel, width = emit.kernel, emit.tiling.value
    with kernel.block("if segment == 0:"):
        kernel.line("return")
    before = f"tile * {width} + " if divided.matrix_tiles > 1 else ""
    kernel.line(f"columns = {before}tl.arange(0, {width})")
    kernel.line(f"carried = tl.where({emit.lane('K')}[:, None] == columns[None, :], 1.0, 0.0)")
    _steps(emit, instruction, leaves=False, writes=False)
    kernel.line(f"tl.store({divided.matrix_of(kernel, 'segment', emit.lane('K'), 'columns')}, carried)")


def _op(instruction: Instruction) -> ops.SolvedScan:
    assert isinstance(instruction.op, ops.SolvedScan)
    return instruction.op


def _steps(emit: Evaluator, instruction: Instruction, *, leaves: bool, writes: bool) -> None:
    """Carry a state through the chunks of a segment, which may leave S and W in memory, and write u and H to it.

    All operands are made here, of what earlier kernels left in memory; factors of the rows of a and b scale what is
    narrower. What unrounded values and states add up to is taken in halves, since systems of nearly parallel keys take
    differences of it.
    """
    op, kernel, line, operand = _op(instruction), emit.kernel, emit.kernel.line, emit.tiling.operand
    operator, a, b, v, inverse, *_ = instruction.operands
    written, _ = op.rest(instruction.operands)
    exact, both = (x in emit.precise and operand != "tl.float32" for x in (inverse, v))
    if op.reverse:
        a, b = b, a
    states, answers, *_ = instruction.results
    segments.bounds(kernel)
    with kernel.block("for step in range(first, last):"):
        line("n = N - 1 - step" if op.reverse else "n = step + 0")
        place = Place("n")
        if leaves:
            _leave(emit, states, "carried")
        values = f"{emit.value(v, place).name} + " if writes else ""
        read = product(emit, _factors(emit, b, place, exact), [f"carried.to({operand})"])
        rows = place.tiles[b].rows
        read = emit.assign("read", f"{values}{read}{f' * {rows}[:, None]' if rows else ''}")
        systems = halves(emit, emit.bare(inverse, place).name) if exact else [emit.operand(inverse, place)]
        reads = halves(emit, read) if both else [f"{read}.to({operand})"]
        if op.reverse:
            systems = [f"tl.trans({each})" for each in systems]
        found = emit.assign(answers, product(emit, systems, reads))
        if leaves:
            _leave(emit, answers, found)
        log = emit.value(operator, place)
        line(f"carried *= tiles.exp({log.name}){'[:, None]' if log.dims else ''}")
        pushed = [f"tl.trans({each})" for each in _factors(emit, a, place, exact)]
        rows = place.tiles[a].rows
        scaled = f"({found} * {rows}[:, None])" if rows else found
        line(f"carried += {product(emit, pushed, [f'{scaled}.to({operand})'])}")
        if writes and written is not None:
            line(f"carried += {emit.value(written, place).name}")


def _leave(emit: Evaluator, value: str, tile: str) -> None:
    address = emit.buffers.base(emit.kernel, value, "n", "h") + emit.inner(emit.dims(value))
    emit.kernel.line(f"tl.store({address}, {tile})")


def _factors(emit: Evaluator, value: str, place: Place, exact: bool) -> list[str]:
    """A factor of a scan's steps as operands, but for factors of its rows."""
    if not exact or emit.tile(value, place).given:
        return [emit.plain(value, place)]
    return halves(emit, emit.bare(value, place).name)
