"""Sums divided by phase: what they add up to, and in which phases."""

from __future__ import annotations

import sympy
from compilation import SIZES, assert_near, random_value

from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Builder, Program
from maskdsl.schedule.partial_sums import by_phase

PAIRS: Axes = ("B", "H", "N4", "C4", "C4")
ROWS: Axes = ("B", "H", "N4", "C4", "1")


def summed(*types: Axes, spans: bool = False) -> Program:
    """The sum of loads of these types, or what it adds to gates."""
    build = Builder("test")
    x = [build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate(types)]
    total = build(ops.Map(sympy.Add(*(ops.argument(i) for i in range(len(x))))), *x, name="total")
    return build.program([("y", build(ops.SpansAdjoint(1, 1, 1), total, name="g") if spans else total)])


def assert_same(program: Program, divided: Program) -> None:
    inputs = {load.name: random_value(load.axes, SIZES, seed) for seed, load in enumerate(program.loads)}
    expected, found = (interpret(each, inputs, SIZES)["y"] for each in (program, divided))
    assert_near(found, expected, 1e-14)


def sums(program: Program) -> list[tuple[str, ...]]:
    """The operands of every sum."""
    return [i.operands for i in program.instructions if isinstance(i.op, ops.Map)]


def test_what_is_known_early_is_added_early() -> None:
    program = summed(PAIRS, PAIRS, PAIRS, PAIRS)
    divided = by_phase(program, {"x0": 0, "x1": 2, "x2": 0, "x3": 1}, frozenset({"total"}))
    assert sums(divided) == [("x0", "x2"), ("total_part", "x3"), ("total_part_1", "x1")]
    assert_same(program, divided)


def test_one_phase_adds_at_once() -> None:
    program = summed(PAIRS, PAIRS, PAIRS)
    assert by_phase(program, dict.fromkeys(("x0", "x1", "x2"), 1), frozenset({"total"})) == program


def test_only_sums_that_are_asked_for() -> None:
    program = summed(PAIRS, PAIRS, PAIRS)
    assert by_phase(program, {"x0": 0, "x1": 1, "x2": 1}, frozenset()) == program


def test_shares_of_several_types_stay_together() -> None:
    program = summed(PAIRS, ROWS, PAIRS)
    assert by_phase(program, {"x0": 0, "x1": 1, "x2": 1}, frozenset({"total"})) == program


def test_spans_pass_as_gates() -> None:
    program = summed(PAIRS, PAIRS, PAIRS, spans=True)
    divided = by_phase(program, {"x0": 0, "x1": 0, "x2": 1}, frozenset({"total"}))
    adjoints = [i for i in divided.instructions if isinstance(i.op, ops.SpansAdjoint)]
    assert [i.operands for i in adjoints] == [("total_shares",), ("x2",)]
    assert_same(program, divided)
