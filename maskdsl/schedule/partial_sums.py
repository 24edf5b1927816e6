"""Sums of gradients, added up as far as they are known.

What several kernels have shares of passes through memory once: a kernel adds its shares before it leaves them. Shares
of the spans of a path pass as what they add to the gates, a number a position.

    s = x0 + x1 + x2               p = x0 + x1;  s = p + x2        where x2 is made later than x0 and x1
    g = SpansAdjoint(s)    -->     g = SpansAdjoint(p) + SpansAdjoint(x2)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Builder, Instruction, Program, prune


def by_phase(program: Program, phases: Mapping[str, int], among: frozenset[str]) -> Program:
    """The program with sums `among` its values divided by the phases in which their operands are made."""
    return prune(dataclasses.replace(program, instructions=tuple(_Shares(program, phases, among).instructions())))


class _Shares:
    def __init__(self, program: Program, phases: Mapping[str, int], among: frozenset[str]) -> None:
        self.program, self.phases, self.among = program, phases, among
        self.fresh, self.types = Builder(program.name, program.instructions).fresh, program.types
        self.of: dict[str, list[str]] = {}
        """The shares of a sum, by phase."""

    def instructions(self) -> Iterator[Instruction]:
        for instruction in self.program.instructions:
            if isinstance(instruction.op, ops.SpansAdjoint) and instruction.operands[0] in self.of:
                yield from self._spans(instruction)
            elif instruction.results[0] in self.among and _is_sum(instruction, self.types):
                yield from self._sum(instruction)
            else:
                yield instruction

    def _sum(self, instruction: Instruction) -> Iterator[Instruction]:
        (result,) = instruction.results
        groups: dict[int, list[str]] = {}
        for x in instruction.operands:
            groups.setdefault(self.phases[x], []).append(x)
        known: list[str] = []
        for phase in sorted(groups):
            last = phase == max(groups)
            shares = [*known, *groups[phase]]
            name = result if last else self.fresh(f"{result}_part")
            if last or len(shares) > 1:
                yield _total(instruction, name, shares)
            known = [name] if last or len(shares) > 1 else shares
        if len(groups) > 1:
            self.of[result] = [x for phase in sorted(groups) for x in groups[phase]]

    def _spans(self, instruction: Instruction) -> Iterator[Instruction]:
        """The adjoint of the spans of every phase's shares, and the sum of these."""
        x, (result,) = instruction.operands[0], instruction.results
        maker = next(i for i in self.program.instructions if x in i.results)
        parts = []
        for phase in sorted({self.phases[share] for share in self.of[x]}):
            shares = [share for share in self.of[x] if self.phases[share] == phase]
            if len(shares) > 1:
                name = self.fresh(f"{x}_shares")
                yield _total(maker, name, shares)
                shares = [name]
            parts.append(self.fresh(f"{result}_part"))
            yield dataclasses.replace(instruction, operands=tuple(shares), results=(parts[-1],))
        yield _total(instruction, result, parts)


def _total(like: Instruction, name: str, shares: Sequence[str]) -> Instruction:
    """The instruction that adds up shares of the same type as another one's result."""
    total = sympy.Add(*(ops.argument(i) for i in range(len(shares))))
    return dataclasses.replace(like, op=ops.Map(total), operands=tuple(shares), results=(name,))


def _is_sum(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction adds up more than two values of one type."""
    count = len(instruction.operands)
    total = sympy.Add(*(ops.argument(i) for i in range(count)))
    alike = all(types[x] == instruction.types[0] for x in instruction.operands)
    return count > 1 and alike and isinstance(instruction.op, ops.Map) and instruction.op.expr == total
