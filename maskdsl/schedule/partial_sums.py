"""Sums of gradients, added up as far as they are known.

What several kernels have shares of passes through memory once: a kernel adds its shares before it leaves them.

    s = x0 + x1 + x2    -->    p = x0 + x1;  s = p + x2        where x2 is made later than x0 and x1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Builder, Instruction, Program


def by_phase(program: Program, phases: Mapping[str, int], among: frozenset[str]) -> Program:
    """The program with sums `among` its values divided by the phases in which their operands are made."""
    fresh, types = Builder(program.name, program.instructions).fresh, program.types
    made: list[Instruction] = []
    for instruction in program.instructions:
        if instruction.results[0] not in among or not _is_sum(instruction, types):
            made.append(instruction)
            continue
        known: tuple[str, ...] = ()
        for phase in sorted({phases[x] for x in instruction.operands}):
            shares = (*known, *(x for x in instruction.operands if phases[x] == phase))
            last = phase == max(phases[x] for x in instruction.operands)
            name = instruction.results[0] if last else fresh(f"{instruction.results[0]}_part")
            if last or len(shares) > 1:
                total = sympy.Add(*(ops.argument(i) for i in range(len(shares))))
                made.append(dataclasses.replace(instruction, op=ops.Map(total), operands=shares, results=(name,)))
                known = (name,)
            else:
                known = shares
    return dataclasses.replace(program, instructions=tuple(made))


def _is_sum(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction adds up more than two values of one type."""
    count = len(instruction.operands)
    total = sympy.Add(*(ops.argument(i) for i in range(count)))
    alike = all(types[x] == instruction.types[0] for x in instruction.operands)
    return count > 2 and alike and isinstance(instruction.op, ops.Map) and instruction.op.expr == total
