"""Factors of rows taken out of products with other tiles, so that what is rounded is as near to an input as can be.

A kernel multiplies rows of a result by them, or of what is narrower. Where keys are normalised and decay by channel,

    y = Map(x0*x1)(k, r)                        y = Map(x0*x1)(k, r)
    z = Map(x0*exp(x1))(y, g)    -->    z_bare = Map(x0*exp(x1))(k, g)
                                        z = Map(x0*x1)(z_bare, r)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.infer import infer
from maskdsl.chunk.program import Builder, Instruction, Program, trim, verify

X0, X1 = ops.argument(0), ops.argument(1)

_Product = tuple[str, sympy.Expr, tuple[str, ...]]


def outward(program: Program) -> Program:
    """The same program, factors of the rows of vectors on the outside of products with gates."""
    return verify(trim(dataclasses.replace(program, instructions=tuple(_Outward(program).instructions()))))


class _Outward:
    def __init__(self, program: Program) -> None:
        self.program, self.types = program, program.types
        self.maker = {r: i for i in program.instructions for r in i.results}
        self.fresh = Builder(program.name, program.instructions).fresh

    def instructions(self) -> Iterator[Instruction]:
        for instruction in self.program.instructions:
            found = self._scaled(instruction)
            if found is None:
                yield instruction
                continue
            index, chunk, (vectors, factor, narrow) = found
            (name,), origin = instruction.results, instruction.origin
            inner, rows, row_chunks, bare = (self.fresh(f"{name}_{x}") for x in ("vectors", "rows", "factors", "bare"))
            yield self._instruction(inner, chunk, (vectors,), origin)
            yield self._instruction(rows, ops.Map(factor), narrow, origin)
            yield self._instruction(row_chunks, chunk, (rows,), origin)
            operands = tuple(inner if i == index else x for i, x in enumerate(instruction.operands))
            yield self._instruction(bare, instruction.op, operands, origin)
            yield self._instruction(name, ops.Map(X0 * X1), (bare, row_chunks), origin)

    def _scaled(self, instruction: Instruction) -> tuple[int, ops.Operation, _Product] | None:
        """Which operand of a product is vectors times a factor a row: its number, its chunks, and that product."""
        axes, op = instruction.types[0], instruction.op
        if not isinstance(op, ops.Map) or len(axes) != 5 or axes[3][0] != "C" or axes[4] != "K":
            return None
        wide = [i for i, x in enumerate(instruction.operands) if self.types[x] == axes]
        for index in wide if len(wide) > 1 else ():
            chunk, argument = self.maker[instruction.operands[index]], ops.argument(index)
            if isinstance(chunk.op, ops.Chunk) and op.expr == op.expr.coeff(argument) * argument:
                product = self._product(self.maker[chunk.operands[0]])
                if product:
                    return index, chunk.op, product
        return None

    def _product(self, instruction: Instruction) -> _Product | None:
        """Vectors, and the factor of their rows with its operands."""
        if not isinstance(instruction.op, ops.Map):
            return None
        x = instruction.operands
        wide = [i for i in range(len(x)) if self.types[x[i]] == instruction.types[0]]
        narrow = [i for i in range(len(x)) if self.types[x[i]][-1] == "1"]
        if len(wide) != 1 or not narrow or len(wide) + len(narrow) != len(x):
            return None
        argument = ops.argument(wide[0])
        factor = instruction.op.expr.coeff(argument)
        if instruction.op.expr != factor * argument:
            return None
        moved = {ops.argument(i): ops.argument(n) for n, i in enumerate(narrow)}
        return x[wide[0]], factor.xreplace(moved), tuple(x[i] for i in narrow)

    def _instruction(self, name: str, op: ops.Operation, operands: tuple[str, ...], origin: str) -> Instruction:
        (axes,) = infer(op, tuple(self.types[x] for x in operands))
        self.types[name] = axes
        made = Instruction((name,), op, operands, (axes,), origin)
        self.maker[name] = made
        return made
