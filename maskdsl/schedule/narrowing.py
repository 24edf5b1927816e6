"""What a path has left in half precision, in the place of the same before it was rounded, or the other way round.

Nearly all products take operands in half precision in any case, and loading them beats working them out again.

    y_narrow = Cast(y)
    z = Dot(x, y)         -->    z = Dot(x, y_narrow)

But a scan that solves systems takes differences of the values that come in, which rounding would spoil, and for steps
along other vectors than keys, of what these make.

    u_narrow = Cast(u)
    X_narrow = Cast(X)
    S, W = SolvedScan(A, a, b, u_narrow, X_narrow)    -->    S, W = SolvedScan(A, a, b, u, X)
"""

from __future__ import annotations

import dataclasses

from maskdsl.chunk import ops
from maskdsl.chunk.program import Program, trim


def narrowed(program: Program) -> Program:
    """The same program, the products that follow a rounding reading what was rounded, scans the values before it."""
    rounded: dict[str, str] = {}
    exact: dict[str, str] = {}
    maker = {r: i for i in program.instructions for r in i.results}
    instructions = []
    for instruction in program.instructions:
        operands = instruction.operands
        if instruction.op == ops.Cast(wide=False):
            rounded[operands[0]] = instruction.results[0]
            exact[instruction.results[0]] = operands[0]
        elif isinstance(instruction.op, ops.Dot):
            operands = tuple(rounded.get(x, x) for x in operands)
        elif isinstance(instruction.op, ops.SolvedScan):
            value, inverse = (exact.get(x, x) for x in operands[3:5])
            system = inverse if maker[inverse].op == ops.Inverse(wide=True) else operands[4]
            operands = (*operands[:3], value, system, *operands[5:])
        instructions.append(dataclasses.replace(instruction, operands=operands))
    return trim(dataclasses.replace(program, instructions=tuple(instructions)))
