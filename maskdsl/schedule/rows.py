"""Values of single positions, one number a position: made once, before everything else.

A gate, its running sum and its exponential are a few kilobytes a chunk, but long chains of slow operations. Every
kernel that multiplies rows of a tile by them would wait for them; so a first kernel leaves them in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Instruction, Program, verify


def of_positions(axes: Axes) -> bool:
    """Whether a value has one number a position and head."""
    return len(axes) > 2 and [axis[0] for axis in axes if axis[0] in "TCKVLE"] in (["T"], ["C"])


def is_slow(instruction: Instruction) -> bool:
    """Whether an instruction makes a value of positions by more than a few arithmetic operations."""
    if not of_positions(instruction.types[0]):
        return False
    op = instruction.op
    return isinstance(op, ops.Cumsum) or (isinstance(op, ops.Map) and bool(op.expr.atoms(sympy.Function)))


def is_norm(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction adds up all key channels of every position."""
    summed = isinstance(instruction.op, ops.Sum) and of_positions(instruction.types[0])
    return summed and "K" in types[instruction.operands[0]]


def scales_rows(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction makes a value that is another one with its rows scaled."""
    if not isinstance(instruction.op, ops.Map):
        return False
    axes = _longer(instruction.types[0])
    wide = [i for i, x in enumerate(instruction.operands) if _longer(types[x]) == axes]
    if len(wide) != 1:
        return False
    scaled = ops.argument(wide[0])
    return bool(instruction.op.expr == instruction.op.expr.coeff(scaled) * scaled)


def _longer(axes: Axes) -> int:
    return sum(axis != "1" for axis in axes)


def hoist(program: Program) -> Program:
    """The program with slow factors of rows as values of their own."""
    types = dict(program.types)
    made: dict[tuple[sympy.Expr, tuple[str, ...]], str] = {}
    instructions: list[Instruction] = []
    for instruction in program.instructions:
        factor = _factor(instruction, types)
        if factor is None:
            instructions.append(instruction)
            continue
        expr, operands, rest = factor
        if (expr, operands) not in made:
            name = f"{instruction.results[0]}_rows"
            while name in types:
                name += "_"
            made[expr, operands] = name
            types[name] = ax.join(*(types[x] for x in operands))
            instructions.append(Instruction((name,), ops.Map(expr), operands, (types[name],), instruction.origin))
        index = len(instruction.operands)
        instructions.append(
            dataclasses.replace(
                instruction,
                op=ops.Map(rest * ops.argument(index)),
                operands=(*instruction.operands, made[expr, operands]),
            )
        )
    return verify(_narrowed(dataclasses.replace(program, instructions=tuple(instructions))))


def _factor(instruction: Instruction, types: dict[str, Axes]) -> tuple[sympy.Expr, tuple[str, ...], sympy.Expr] | None:
    """The slow factor of a product's rows, its operands, and the rest of the product."""
    op, x = instruction.op, instruction.operands
    if not isinstance(op, ops.Map) or of_positions(instruction.types[0]):
        return None
    rows = [i for i, operand in enumerate(x) if not {axis[0] for axis in types[operand]} & set("KVL")]
    rows = [i for i in rows if types[x[i]][-1] == "1"]
    wide = [ops.argument(i) for i in range(len(x)) if i not in rows]
    factors, rest = op.expr.as_independent(*wide, as_Add=False)
    used = sorted(i for i in rows if ops.argument(i) in factors.free_symbols)
    if not wide or not factors.atoms(sympy.Function) or not any(of_positions(types[x[i]]) for i in used):
        return None
    moved = {ops.argument(i): ops.argument(n) for n, i in enumerate(used)}
    return factors.xreplace(moved), tuple(x[i] for i in used), rest


def _narrowed(program: Program) -> Program:
    """The program whose maps have no operand that neither their expression nor their type needs."""
    types = program.types
    instructions = []
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Map):
            expr = instruction.op.expr
            used = [i for i in range(len(instruction.operands)) if ops.argument(i) in expr.free_symbols]
            moved = {ops.argument(i): ops.argument(n) for n, i in enumerate(used)}
            operands = tuple(instruction.operands[i] for i in used)
            if operands and ax.join(*(types[x] for x in operands)) == instruction.types[0]:
                instruction = dataclasses.replace(instruction, op=ops.Map(expr.xreplace(moved)), operands=operands)
        instructions.append(instruction)
    return dataclasses.replace(program, instructions=tuple(instructions))
