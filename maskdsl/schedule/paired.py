"""Pairs of positions that two sets of queries have with the same keys, made at once.

Both decay with the same channels, and each leaves half of its tile empty. Where keys meet queries and each other,

    S = DecayDot(q, k, g) diagonal=0            S_both = DecayDots(q, k, k, g)
    L = DecayDot(k, k, g) diagonal=-1     -->   S = Tril(S_both)
                                                L_above = Transpose(S_both)
                                                L = Tril(L_above) diagonal=-1
"""

from __future__ import annotations

import dataclasses
import itertools

import networkx as nx

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Instruction, Program, verify


def paired(program: Program) -> Program:
    """The same program, in which two sets of queries meet the keys that they share at once, if neither has to wait."""
    graph = program.graph()
    for couple in itertools.permutations(range(len(program.instructions)), 2):
        first, second = (program.instructions[n] for n in couple)
        if _alike(first, second) and not any(nx.has_path(graph, *way) for way in (couple, couple[::-1])):
            needed = set(range(min(couple))).union(*(nx.ancestors(graph, n) for n in couple))
            rest = set(range(len(program.instructions))) - needed - {*couple}
            before, after = ([program.instructions[n] for n in sorted(each)] for each in (needed, rest))
            fresh = Builder(program.name, program.instructions).fresh
            both, above = fresh(f"{first.results[0]}_both"), fresh(f"{second.results[0]}_above")
            instructions = (*before, *_together(first, second, both, above), *after)
            return paired(verify(dataclasses.replace(program, instructions=instructions)))
    return program


def _alike(first: Instruction, second: Instruction) -> bool:
    """Whether two instructions score pairs of the same keys and decays, the first one also a position with itself."""
    if not (isinstance(first.op, ops.DecayDot) and isinstance(second.op, ops.DecayDot)):
        return False
    own = first.op.diagonal == 0 and second.op == dataclasses.replace(first.op, diagonal=-1)
    return own and first.operands[1:] == second.operands[1:] and first.types == second.types


def _together(first: Instruction, second: Instruction, both: str, above: str) -> tuple[Instruction, ...]:
    assert isinstance(first.op, ops.DecayDot)
    dots = ops.DecayDots(first.op.steps, first.op.row, first.op.column)
    (pairs,) = first.types
    return (
        Instruction((both,), dots, (first.operands[0], *second.operands), (pairs,), first.origin),
        dataclasses.replace(first, op=ops.Tril(), operands=(both,)),
        Instruction((above,), ops.Transpose(), (both,), (pairs,), second.origin),
        dataclasses.replace(second, op=ops.Tril(-1), operands=(above,)),
    )
