"""Sums over channels of a gradient times its value, through the product that the value is a factor of.

A decay a row scales a row of vectors y, and what it owes is the sum over channels of dy * y. Where y goes into a
product, the same number is a sum over the product's other side, which is often narrower and already there:
(a b')[c] . y[c] = a[c] . (y b)[c]; and what a hierarchy reads is linear in its queries, level by level.
"""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder

X0, X1 = ops.argument(0), ops.argument(1)


def row_energy(build: Builder, dy: str, y: str, name: str) -> str | None:
    """The sum over the last axis of dy * y, [.., C, 1], or None where `dy` was not made by such a product."""
    maker = build.makers[dy]
    match maker.op:
        case ops.Dot(transpose_x=False, transpose_y=True):
            a, b = maker.operands
            if isinstance(build.makers[b].op, ops.SolvedScan):
                return None  # such a scan makes the other side for itself
            left, right = a, build(ops.Dot(), y, b, name=f"{y}_out")
        case ops.WalkAdjoint() if maker.results[0] == dy and maker.operands[1] == y:
            left, right = maker.operands[4], maker.results[3]
        case _:
            return None
    types = build.types
    if types[left] != types[right] or types[left][:-1] != types[y][:-1]:
        # one side is shared, by batch rows say, and its gradient is already their sum
        return None
    product = build(ops.Map(X0 * X1), left, right, name=f"{name}_shares")
    return build(ops.Sum((4,)), product, name=name)
