"""Costs counted by hand."""

from __future__ import annotations

import pytest
import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.infer import infer
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Instruction
from maskdsl.schedule.cost import elements, flops

SIZES = {"B": 2, "T": 8, "H": 3, "K": 5, "V": 7, "L": 4}
X0, X1 = ops.argument(0), ops.argument(1)
ROWS: Axes = ("B", "H", "N4", "C4", "K")
PAIRS: Axes = ("B", "H", "N4", "C4", "C4")
STATES: Axes = ("B", "H", "N4", "K", "V")
VALUES: Axes = ("B", "H", "N4", "C4", "V")
LEVELS: Axes = ("B", "H", "N4", "C4", "L")
NUMBER: Axes = ("B", "H", "N4", "1", "1")
MATRIX: Axes = ("B", "H", "N4", "K", "K")
NODES: tuple[Axes, ...] = (("B", "H", "E4b2", "K", "K"), ("B", "H", "E4b2", "K", "V"))
CHUNKS = 2 * 3 * 2
"""Batch rows times heads times chunks; a tree over the two chunks of a sequence has three nodes."""


def count(op: Operation, *operands: Axes) -> int:
    instruction = Instruction(("y",), op, tuple(f"x{i}" for i in range(len(operands))), infer(op, operands))
    return flops(instruction, {f"x{i}": axes for i, axes in enumerate(operands)}, SIZES)


def test_elements() -> None:
    assert elements(("B", "T", "H", "K"), SIZES) == 2 * 8 * 3 * 5
    assert elements(PAIRS, SIZES) == CHUNKS * 16
    assert elements(("1", "H/3", "E4b2"), SIZES) == 3


@pytest.mark.parametrize(
    ("op", "operands", "expected"),
    [
        (ops.Load("q", ROWS), (), 0),
        (ops.Align(("B", "H", "N4", "1", "C4", "K")), (ROWS,), 0),
        (ops.Constant(sympy.S.One, ROWS), (), 0),
        (ops.Transpose(), (ROWS,), 0),
        (ops.Map(X0), (ROWS,), CHUNKS * 20),
        (ops.Map(X0 * X1 + 1), (ROWS, ROWS), CHUNKS * 20 * 2),
        (ops.Sum((3,)), (ROWS,), CHUNKS * 20),
        (ops.Cumsum(), (ROWS,), CHUNKS * 20),
        (ops.Tril(), (PAIRS,), CHUNKS * 16),
        (ops.Dot(transpose_y=True), (ROWS, ROWS), 2 * CHUNKS * 4 * 4 * 5),
        (ops.Dot(transpose_x=True), (ROWS, VALUES), 2 * CHUNKS * 5 * 7 * 4),
        (ops.Dot(), (PAIRS, VALUES), 2 * CHUNKS * 4 * 7 * 4),
        (ops.Inverse(), (PAIRS,), CHUNKS * 4 * 4 * 4),
        (ops.DecayDot(1, 1, 1, 0), (ROWS, ROWS, ROWS), 2 * CHUNKS * 16 * 5),
        (ops.DecayDots(1, 1, 1), (ROWS, ROWS, ROWS, ROWS), 2 * CHUNKS * 16 * 5),
        (ops.DecayDotAdjoint(1, 1, 1, 0), (PAIRS, ROWS, ROWS, ROWS), 3 * 2 * CHUNKS * 16 * 5),
        (ops.Scan(), (NUMBER, STATES), CHUNKS * 35 * 2),
        (ops.Scan(), (MATRIX, STATES), CHUNKS * 35 * 2 * 5),
        (ops.Tree(2), (MATRIX, STATES), 2 * 3 * 3 * (25 + 35) * 2 * 5),
        (ops.Walk(2, "weak"), (ROWS, *NODES, LEVELS), CHUNKS * 4 * 5 * (7 + 5)),
        (ops.WalkAdjoint(2, "weak"), (VALUES, ROWS, *NODES, LEVELS), 4 * CHUNKS * 4 * 5 * (7 + 5)),
        (ops.Band(3, None, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES), 3 * CHUNKS * 4 * (2 * 4 * (5 + 7) + 2 * 5)),
        (ops.Keep(4), (NUMBER, ROWS, VALUES), 2 * 3 * 3 * (5 + 7)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_flops(op: Operation, operands: tuple[Axes, ...], expected: int) -> None:
    assert count(op, *operands) == expected


def test_an_adjoint_costs_more_than_its_operation() -> None:
    operands = (ROWS, MATRIX, ROWS, VALUES)
    assert count(ops.BandAdjoint(1, None, 2, "weak"), VALUES, *operands) == 3 * count(
        ops.Band(1, None, 2, "weak"), *operands
    )
    assert count(ops.TreeAdjoint(2), *NODES, *NODES) == 3 * count(ops.Tree(2), MATRIX, STATES)
