"""One tree for each walk, and one tensor of writes for each scan.

Walks of different admissibility keep different blocks, and the gradients of a tree with one reader need no addition
block by block.

    tree, tree_1 = Tree(A, H)               tree, tree_1 = Tree(A, H)
    x = Walk(R, tree, tree_1, lam)          x = Walk(R, tree, tree_1, lam)
    y = Walk(R, tree, tree_1, mu)     -->   tree_again, tree_1_again = Tree(A, H)
                                            y = Walk(R, tree_again, tree_1_again, mu)

Scans put states in the place of what chunks write.

    S = Scan(A, H, I)                       S = Scan(A, H, I)
    Z = Scan(A, H, J)                 -->   H_again = P' v
                                            Z = Scan(A, H_again, J)
"""

from __future__ import annotations

import dataclasses

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Instruction, Program


def unshare(program: Program) -> Program:
    """The same program in which every walk has a tree of its own, and every scan its writes."""
    fresh = Builder(program.name, program.instructions).fresh
    makers = {r: i for i in program.instructions for r in i.results}
    read: set[tuple[str, ...]] = set()
    made: list[Instruction] = []
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Walk | ops.Scan):
            first, last = (1, 3) if isinstance(instruction.op, ops.Walk) else (1, 2)
            shared = instruction.operands[first:last]
            if shared in read:
                again = tuple(fresh(f"{name}_again") for name in shared)
                made.append(_again(makers[shared[0]], again))
                operands = (*instruction.operands[:first], *again, *instruction.operands[last:])
                instruction = dataclasses.replace(instruction, operands=operands)
            read.add(shared)
        made.append(instruction)
    return dataclasses.replace(program, instructions=tuple(made))


def _again(maker: Instruction, results: tuple[str, ...]) -> Instruction:
    """An instruction once more, but for what it leaves behind of sequences: that is left once."""
    if isinstance(maker.op, ops.Tree):
        maker = dataclasses.replace(
            maker, op=ops.Tree(maker.op.base), operands=maker.operands[:2], types=maker.types[:2]
        )
    return dataclasses.replace(maker, results=results)
