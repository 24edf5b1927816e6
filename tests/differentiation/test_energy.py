"""What a decay of rows owes, by the narrower side of a product: where that applies, and that it is the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import sympy
import torch
from compilation import assert_near, inputs_of, joint, library_spec, lowered, masked, random_value, sizes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Builder, Program
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.differentiation.energy import row_energy
from maskdsl.lowering.lower import lower
from maskdsl.mask.levels import levels
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.oracle import dense
from maskdsl.runtime.sampling import Shape

X0, X1 = (ops.argument(i) for i in range(2))
SIZES = {"B": 2, "T": 7, "H": 6, "K": 3, "V": 5, "L": levels(8) + 1}

COLUMN: Axes = ("B", "H", "N2", "C2", "1")
ROWS: Axes = ("B", "H", "N2", "C2", "K")
PAIRS: Axes = ("B", "H", "N2", "C2", "C2")
VALUES: Axes = ("B", "H", "N2", "C2", "V")
LEVELS: Axes = ("B", "H", "N2", "C2", "L")
STATES: Axes = ("B", "H", "N2", "K", "V")
NUMBER: Axes = ("B", "H", "N2", "1", "1")


def sums(program: Program) -> list[Axes]:
    """The types of what is summed over the last of five axes, position by position."""
    types = program.types
    found = [types[i.operands[0]] for i in program.instructions if isinstance(i.op, ops.Sum) and 4 in i.op.dims]
    return [axes for axes in found if axes[3].startswith("C")]


# -- one product --------------------------------------------------------------------------------------------------


def decayed(build: Builder, shape: Axes = ROWS) -> str:
    """The rows x1 scaled by exp(x0)."""
    gate, rows = (build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate((COLUMN, shape)))
    return build(ops.Map(sympy.exp(X0) * X1), gate, rows, name="y")


def product(transpose_x: bool, transpose_y: bool, decayed_first: bool, other: Axes) -> Program:
    """A product with decayed rows on one side."""
    build = Builder("test")
    sides = [decayed(build), build(ops.Load("x2", other), name="x2")]
    result = build(ops.Dot(transpose_x, transpose_y), *(sides if decayed_first else sides[::-1]), name="o")
    return build.program([("o", result)])


PRODUCTS: list[tuple[str, Program, Axes]] = [
    ("y b, on the left", product(False, False, True, STATES), VALUES),
    ("b y' is not taken apart", product(False, True, False, ROWS), ROWS),
    ("y b', through d b", product(False, True, True, ROWS), ROWS),
    ("a' y", product(True, False, False, VALUES), ROWS),
    ("y' a, whose gradient is a d'", product(True, False, True, VALUES), VALUES),
    ("of a state that all chunks share", product(False, False, True, ("1", "1", "1", "K", "V")), VALUES),
]


@pytest.mark.parametrize(("program", "summed"), [case[1:] for case in PRODUCTS], ids=[case[0] for case in PRODUCTS])
def test_a_product_is_summed_over_its_narrower_side(program: Program, summed: Axes) -> None:
    assert sums(differentiate(program)) == [summed]
    assert_gradients(program)


@pytest.mark.parametrize("base", [2, 3])
def test_a_walk_is_summed_over_its_levels(base: int) -> None:
    program = walk(base)
    assert [axes[-1] for axes in sums(differentiate(program))] == ["L"]
    assert_gradients(program)


@pytest.mark.parametrize("shared", [(0, 1), (4,)], ids=["queries", "weights"])
def test_a_walk_that_shares_something_among_batch_rows_is_summed_over_channels(shared: tuple[int, ...]) -> None:
    program = walk(2, shared)
    assert [axes[-1] for axes in sums(differentiate(program))] == ["K"]
    assert_gradients(program)


def test_a_decay_of_channels_is_not_summed() -> None:
    build = Builder("test")
    gate, rows, state = (build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate((ROWS, ROWS, STATES)))
    scaled = build(ops.Map(sympy.exp(X0) * X1), gate, rows, name="y")
    program = build.program([("o", build(ops.Dot(), scaled, state, name="o"))])
    assert sums(differentiate(program)) == []
    assert_gradients(program)


def test_a_factor_that_is_no_exponential_is_summed_over_channels() -> None:
    build = Builder("test")
    gate, rows, state = (build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate((COLUMN, ROWS, STATES)))
    scaled = build(ops.Map(X0 * X1), gate, rows, name="y")
    program = build.program([("o", build(ops.Dot(), scaled, state, name="o"))])
    assert sums(differentiate(program)) == [ROWS]
    assert_gradients(program)


def test_gradients_of_several_products_are_added_before_they_are_summed() -> None:
    build = Builder("test")
    rows = decayed(build)
    state = build(ops.Load("x2", STATES), name="x2")
    first = build(ops.Dot(), rows, state, name="first")
    second = build(ops.Dot(transpose_y=True), rows, rows, name="second")
    program = build.program([("o0", first), ("o1", second)])
    assert sums(differentiate(program)) == [ROWS]
    assert_gradients(program)


def test_a_loaded_gradient_has_no_other_side() -> None:
    build = Builder("test")
    rows = decayed(build)
    given = build(ops.Load("d_y", ROWS), name="d_y")
    before = list(build.instructions)
    assert row_energy(build, given, rows, "d") is None
    assert build.instructions == before


def walk(base: int, shared: tuple[int, ...] = ()) -> Program:
    """A walk over a tree with decayed queries, x0 and x1, and weights x4; the inputs `shared` have one batch row."""
    named = {"N2": "N3", "C2": "C3"} if base == 3 else {}
    build = Builder("test")
    loads = []
    for i, axes in enumerate((COLUMN, ROWS, NUMBER, STATES, LEVELS)):
        batch = "1" if i in shared else "B"
        loads.append(build(ops.Load(f"x{i}", (batch, *(named.get(a, a) for a in axes[1:]))), name=f"x{i}"))
    gate, rows, number, writes, lam = loads
    queries = build(ops.Map(sympy.exp(X0) * X1), gate, rows, name="y")
    tree = build.apply(ops.Tree(base), number, writes, name="tree")
    return build.program([("o", build(ops.Walk(base, "weak"), queries, *tree, lam, name="o"))])


def assert_gradients(program: Program) -> None:
    """The gradients of the joint program are those of autograd through the interpreted one."""
    inputs = {
        x.name: random_value(x.axes, SIZES, seed).div_(2).requires_grad_() for seed, x in enumerate(program.loads)
    }
    outputs = interpret(program, inputs, SIZES)
    grads = {name: random_value(program.types[v], SIZES, 90 + n) for n, (name, v) in enumerate(program.outputs)}
    expected = torch.autograd.grad(list(outputs.values()), list(inputs.values()), list(grads.values()))
    known = {name: x.detach() for name, x in inputs.items()} | {f"d_{name}": g for name, g in grads.items()}
    made = interpret(differentiate(program), known, SIZES)
    for name, gradient in zip(inputs, expected, strict=True):
        assert_near(made[f"d_{name}"], gradient, 1e-11)


# -- whole programs -----------------------------------------------------------------------------------------------


MASKS: list[tuple[str, Sequence[str]]] = [
    ("semiseparable(g)", ()),
    ("semiseparable(g) * window(5)", ()),
    ("semiseparable(g) * fenwick(lam)", ("lam : level",)),
    ('semiseparable(g) * fenwick(lam, admissibility="strong")', ("lam : level",)),
    ("semiseparable(g) * fenwick(lam) + semiseparable(h)", ("lam : level", "h : head <= 0")),
    ("semiseparable(g) * semiseparable(c)", ("c : channel <= 0",)),
]


@settings(max_examples=12)
@given(
    st.sampled_from(MASKS),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 13),
    st.sampled_from([(1, 5), (5, 1), (3, 2)]),
    st.sampled_from([1, 2, 4]),
)
def test_random_programs_have_the_gradients_of_the_dense_oracle(
    mask: tuple[str, Sequence[str]], chunk: int, length: int, widths: tuple[int, int], key_heads: int
) -> None:
    text, declared = mask
    spec = masked(text, "g : token <= 0", *declared)
    shape = Shape(1, length, 4, *widths, max(1, needed_levels(spec, length)), (("q", key_heads), ("k", key_heads)))
    inputs = {name: x.requires_grad_() for name, x in inputs_of(spec, shape).items()}
    expected = dense(spec, inputs)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(expected, list(inputs.values()), cotangent)
    known = {name: x.detach() for name, x in inputs.items()} | {"d_o": cotangent}
    made = interpret(joint(lowered(spec, shape, chunk)), known, sizes_of(shape))
    largest = max(gradient.abs().max().item() for gradient in gradients)
    for name, gradient in zip(inputs, gradients, strict=True):
        assert_near(made[f"d_{name}"], gradient, 1e-10, rounding=largest)


@pytest.mark.parametrize("name", ["mamba2", "log_linear_mamba2", "simple_gla"])
def test_no_gradient_of_a_decay_is_a_sum_over_key_channels(name: str) -> None:
    found = sums(joint(lower(library_spec(name))))
    assert len(found) == 2
    assert not [axes for axes in found if axes[-1] == "K"]


def test_definitions_are_summed_over_what_is_narrower_where_one_gate_decays_all() -> None:
    narrow = {n for n in library.names() if {axes[-1] for axes in sums(joint(lower(library_spec(n))))} & {"V", "L"}}
    assert narrow == {"mamba2", "log_linear_mamba2", "simple_gla", "two_timescale"}
