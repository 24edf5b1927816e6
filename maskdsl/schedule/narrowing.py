"""What a path has left in half precision, in the place of the same before it was rounded.

Nearly all products take operands in half precision in any case, and loading them beats working them out again.

    y_narrow = Cast(y)
    z = Dot(x, y)         -->    z = Dot(x, y_narrow)
"""

from __future__ import annotations

import dataclasses

from maskdsl.chunk import ops
from maskdsl.chunk.program import Program


def narrowed(program: Program) -> Program:
    """The same program, the products that follow a rounding reading what was rounded."""
    rounded: dict[str, str] = {}
    instructions = []
    for instruction in program.instructions:
        if instruction.op == ops.Cast(wide=False):
            rounded[instruction.operands[0]] = instruction.results[0]
        elif isinstance(instruction.op, ops.Dot):
            operands = tuple(rounded.get(x, x) for x in instruction.operands)
            instruction = dataclasses.replace(instruction, operands=operands)
        instructions.append(instruction)
    return dataclasses.replace(program, instructions=tuple(instructions))
