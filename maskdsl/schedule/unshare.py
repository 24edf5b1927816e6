"""One tree for each walk.

Walks of different admissibility keep different blocks, and the gradients of a tree with one reader need no addition
block by block.

    tree, tree_1 = Tree(A, H)               tree, tree_1 = Tree(A, H)
    x = Walk(R, tree, tree_1, lam)          x = Walk(R, tree, tree_1, lam)
    y = Walk(R, tree, tree_1, mu)     -->   tree_again, tree_1_again = Tree(A, H)
                                            y = Walk(R, tree_again, tree_1_again, mu)
"""

from __future__ import annotations

import dataclasses

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Instruction, Program


def unshare(program: Program) -> Program:
    """The same program in which every walk has a tree of its own."""
    fresh = Builder(program.name, program.instructions).fresh
    trees = {i.results: i for i in program.instructions if isinstance(i.op, ops.Tree)}
    read: set[tuple[str, ...]] = set()
    made: list[Instruction] = []
    for instruction in program.instructions:
        blocks = instruction.operands[1:3]
        if isinstance(instruction.op, ops.Walk) and blocks in read:
            again = tuple(fresh(f"{name}_again") for name in blocks)
            made.append(dataclasses.replace(trees[blocks], results=again))
            queries, *_, lam = instruction.operands
            instruction = dataclasses.replace(instruction, operands=(queries, *again, lam))
        elif isinstance(instruction.op, ops.Walk):
            read.add(blocks)
        made.append(instruction)
    return dataclasses.replace(program, instructions=tuple(made))
