"""Slow values of single positions: which they are, and that taking them out of wider expressions changes nothing."""

from __future__ import annotations

import pytest
import torch
from compilation import (
    assert_near,
    inputs_of,
    joint,
    legal_chunks,
    library_spec,
    lowered,
    sizes_of,
    small_shape,
    spec_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from sympy import Integer, exp

from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Builder, Instruction, Program, verify
from maskdsl.runtime.sampling import Shape, shapes
from maskdsl.schedule.rows import hoist, is_slow, of_positions
from maskdsl.spec import Spec

X0, X1, X2 = (ops.argument(i) for i in range(3))

GATES: Axes = ("B", "H", "N2", "C2")
COLUMN: Axes = (*GATES, "1")
ROWS: Axes = (*GATES, "K")
PAIRS: Axes = (*GATES, "C2")

every_definition = pytest.mark.parametrize("name", library.names())


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        (("B", "T", "H"), True),
        (("1", "T", "1"), True),
        (GATES, True),
        (COLUMN, True),
        (("B", "H", "N2", "C2*2"), True),
        (("B", "H", "N2", "1", "C2"), True),
        (("H",), False),
        (("1", "1", "H"), False),
        (("B", "T", "H", "K"), False),
        (("B", "T", "H", "L"), False),
        (ROWS, False),
        (PAIRS, False),
        (("B", "H", "N2", "1", "1"), False),
        (("B", "H", "N2", "K", "V"), False),
        (("B", "H", "E2b2", "1", "1"), False),
    ],
    ids=str,
)
def test_values_of_positions(axes: Axes, expected: bool) -> None:
    assert of_positions(axes) == expected


@pytest.mark.parametrize(
    ("op", "axes", "expected"),
    [
        (ops.Cumsum(), GATES, True),
        (ops.Map(exp(X0)), GATES, True),
        (ops.Map(2 * X0 + X1), GATES, False),
        (ops.Align(COLUMN), COLUMN, False),
        (ops.Cumsum(), ROWS, False),
        (ops.Map(exp(X0)), PAIRS, False),
        (ops.Map(exp(X0)), ("1", "1", "H"), False),
    ],
)
def test_slow_values(op: Operation, axes: Axes, expected: bool) -> None:
    assert is_slow(Instruction(("y",), op, ("x", "z"), (axes,))) == expected


def program(*expressions: object, wide: Axes = ROWS) -> Program:
    """Each expression of `x0`, [.., C, 1], `x1`, as wide as told, and `x2`, [.., C, 1], as an output."""
    build = Builder("test")
    x = [build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate((COLUMN, wide, COLUMN))]
    return build.program([(f"o{n}", build(ops.Map(e), *x, name=f"o{n}")) for n, e in enumerate(expressions)])


def maps(changed: Program) -> dict[str, tuple[object, tuple[str, ...]]]:
    return {i.results[0]: (i.op.expr, i.operands) for i in changed.instructions if isinstance(i.op, ops.Map)}


def test_a_slow_factor_of_rows_becomes_a_value() -> None:
    assert maps(hoist(program(3 * exp(X0 - X2) * X1**2))) == {
        "o0_rows": (3 * exp(X0 - X1), ("x0", "x2")),
        "o0": (X0**2 * X1, ("x1", "o0_rows")),
    }


def test_equal_factors_are_made_once() -> None:
    changed = maps(hoist(program(exp(X0) * X1, exp(X0) * exp(X1))))
    assert set(changed) == {"o0_rows", "o0", "o1"}
    assert changed["o1"] == (X1 * exp(X0), ("x1", "o0_rows"))


def test_names_that_are_taken_are_left_alone() -> None:
    build = Builder("test")
    gate = build(ops.Load("o_rows", COLUMN), name="o_rows")
    keys = build(ops.Load("k", ROWS), name="k")
    changed = hoist(build.program([("o", build(ops.Map(exp(X0) * X1), gate, keys, name="o"))]))
    assert [i.results[0] for i in changed.instructions] == ["o_rows", "k", "o_rows_", "o"]


@pytest.mark.parametrize("expr", [X0 * X1, (X0 + X2) * X1, exp(X0 * X1), exp(X0) + X1 * X2, X1 + Integer(2)], ids=str)
def test_what_has_no_slow_factor_of_rows_stays(expr: object) -> None:
    changed = [name for name in maps(hoist(program(expr))) if name.endswith("_rows")]
    assert changed == []


def test_an_operand_that_only_widens_stays() -> None:
    assert hoist(program(exp(X0) * X2)).types["o0"] == ROWS


@every_definition
@pytest.mark.parametrize("whole", [False, True], ids=["forward", "joint"])
def test_definitions_keep_their_meaning(name: str, whole: bool) -> None:
    spec = library_spec(name)
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    shape = small_shape(spec, **dict(zip(keys, (2, 3), strict=False)))
    assert_same_meaning(spec, shape, 4, whole)


@settings(max_examples=15)
@given(st.data(), spec_texts(), st.booleans())
def test_random_specs_keep_their_meaning(data: st.DataObject, text: str, whole: bool) -> None:
    spec = spec_of(text)
    assert_same_meaning(spec, data.draw(shapes(spec, longest=9)), data.draw(legal_chunks(spec)), whole)


def assert_same_meaning(spec: Spec, shape: Shape, chunk: int | None, whole: bool) -> None:
    before = lowered(spec, shape, chunk)
    if whole:
        before = joint(before)
    after = verify(hoist(before))
    assert after.outputs == before.outputs
    sizes, inputs = sizes_of(shape), inputs_of(spec, shape)
    inputs["d_o"] = torch.randn(shape.B, shape.T, shape.H, shape.V, generator=torch.Generator().manual_seed(3)).double()
    expected, found = interpret(before, inputs, sizes), interpret(after, inputs, sizes)
    for name, value in expected.items():
        assert_near(found[name], value, 1e-12)


@every_definition
def test_no_product_of_a_definition_hides_a_slow_factor(name: str) -> None:
    once = hoist(joint(lowered(library_spec(name), small_shape(library_spec(name)))))
    assert hoist(once) == once
