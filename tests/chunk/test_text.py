"""The text of a program parses back to it."""

from __future__ import annotations

import pytest
import sympy
from compilation import joint, legal_chunks, library_spec, lowered, small_shape, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from lark.exceptions import LarkError
from strategies import spec_texts

from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Program, verify
from maskdsl.chunk.text import parse, to_text
from maskdsl.lowering.step import lower_step
from maskdsl.runtime.sampling import shapes
from maskdsl.scalar.functions import sigmoid
from maskdsl.scalar.symbols import dimension
from maskdsl.schedule.storage import schedule


def assert_round_trip(program: Program) -> None:
    read = parse(to_text(program))
    assert read == program
    assert verify(read).types == program.types


@pytest.mark.parametrize("name", library.names())
def test_library_definitions(name: str) -> None:
    spec = library_spec(name)
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    shape = small_shape(spec, **dict(zip(keys, (2, 3), strict=False)))
    forward = lowered(spec, shape)
    split = schedule(forward, joint(forward))
    step = lower_step(spec, {name: shape.H // own for name, own in shape.key_heads})
    for program in (forward, joint(forward), split.forward, split.backward, step):
        assert_round_trip(program)


@settings(max_examples=12)
@given(st.data(), spec_texts())
def test_random_specs(data: st.DataObject, text: str) -> None:
    spec = spec_of(text)
    shape = data.draw(shapes(spec, longest=9))
    assert_round_trip(joint(lowered(spec, shape, data.draw(legal_chunks(spec)))))
    assert_round_trip(lower_step(spec, {name: shape.H // own for name, own in shape.key_heads}))


X = ops.argument(0)
EXPRESSIONS = (
    X * sympy.Float(0.1),
    X + sympy.Float(1e-300),
    sympy.Max(X, sympy.Rational(1, 3)) / sympy.sqrt(dimension("K")),
    sigmoid(-X) * sympy.Heaviside(X) - sympy.Abs(X),
    X ** sympy.Rational(-1, 2),
    sympy.exp(-sympy.exp(X)),
)


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=str)
def test_expressions_keep_every_digit(expr: sympy.Expr) -> None:
    build = Builder("test")
    x = build(ops.Load("x", ("B", "T", "H/2", "K")), name="x")
    program = build.program([("o", build(ops.Map(expr), x, name="y"))])
    assert_round_trip(program)
    assert parse(to_text(program)).instructions[1].op == ops.Map(expr)


def test_names_that_are_words_of_the_notation() -> None:
    build = Builder("program")
    names = ["none", "true", "program", "load", "B", "H", "N64", "x0"]
    values = [build(ops.Load(name, ("B", "T", "H")), name=name) for name in names]
    total = sympy.Add(*(ops.argument(i) for i in range(len(values))))
    assert_round_trip(build.program([("o", build(ops.Map(total), *values, name="false"))]))


def test_the_text_by_example() -> None:
    build = Builder("small")
    build.origin = "inputs"
    v = build(ops.Load("v", ("B", "T", "H", "V")), name="v")
    build.origin = "window(9)"
    chunks = build(ops.Chunk(64), v, name="v_chunks")
    op = ops.Band(1, None, 2, "strong")
    row = ("B", "H", "N64", "C64", "K")
    q, a, k = (
        build(ops.Load(name, axes), name=name) for name, axes in (("q", row), ("a", (*row[:3], "K", "1")), ("k", row))
    )
    banded = build(op, q, a, k, chunks, name="banded")
    total = build(ops.Sum((0, 3)), banded, name="total")
    assert to_text(build.program([("o", total)])) == (
        "program small\n"
        "  # inputs\n"
        '  v = load() name="v" axes=[B, T, H, V] : [B, T, H, V]\n'
        "  # window(9)\n"
        "  v_chunks = chunk(v) size=64 : [B, H, N64, C64, V]\n"
        '  q = load() name="q" axes=[B, H, N64, C64, K] : [B, H, N64, C64, K]\n'
        '  a = load() name="a" axes=[B, H, N64, K, 1] : [B, H, N64, K, 1]\n'
        '  k = load() name="k" axes=[B, H, N64, C64, K] : [B, H, N64, C64, K]\n'
        '  banded = band(q, a, k, v_chunks) lags=1 width=none base=2 admissibility="strong" initial=false '
        ": [B, H, N64, C64, V]\n"
        "  total = sum(banded) dims={0, 3} : [1, H, N64, 1, V]\n"
        "return o = total\n"
    )


def test_the_text_of_a_step_by_example() -> None:
    build = Builder("small")
    pos = build(ops.Load("state.positions", ("B",)), name="positions")
    ring, states = ("B", "H", "1", "R127", "K"), ("B", "H", "M", "K", "V")
    keys = build(ops.Load("y_1.keys", ring), name="keys")
    k = build(ops.Load("k", (*ring[:3], "1", "K")), name="k")
    s = build(ops.Load("y_2.states", states), name="s")
    new = build(ops.Load("x", (*states[:2], "1", *states[3:])), name="x")
    entered = build(ops.Enter(), pos, keys, k, name="entered")
    grouped = build(ops.Regroup(3, "weak"), pos, new, s, name="grouped")
    program = build.program([("y_1.keys", entered), ("y_2.states", grouped)])
    assert_round_trip(program)
    assert to_text(program) == (
        "program small\n"
        '  positions = load() name="state.positions" axes=[B] : [B]\n'
        '  keys = load() name="y_1.keys" axes=[B, H, 1, R127, K] : [B, H, 1, R127, K]\n'
        '  k = load() name="k" axes=[B, H, 1, 1, K] : [B, H, 1, 1, K]\n'
        '  s = load() name="y_2.states" axes=[B, H, M, K, V] : [B, H, M, K, V]\n'
        '  x = load() name="x" axes=[B, H, 1, K, V] : [B, H, 1, K, V]\n'
        "  entered = enter(positions, keys, k) : [B, H, 1, R127, K]\n"
        '  grouped = regroup(positions, x, s) base=3 admissibility="weak" : [B, H, M, K, V]\n'
        "return y_1.keys = entered, y_2.states = grouped\n"
    )


@pytest.mark.parametrize("text", ["", "program x", "program x\nreturn", "program x\n  a = load( : [B]\nreturn o = a"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(LarkError):
        parse(text)
