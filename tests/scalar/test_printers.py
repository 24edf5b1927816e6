"""Printed text means what the expression means: in PyTorch, in Triton (on a stand-in), and in the language."""

import ast
import math
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from scalar_expressions import SYMBOLS, expressions, largest, points, value
from sympy import Float, Integer, Max, Min, Rational, exp, log, sign, sqrt, tanh

from maskdsl.scalar.build import FUNCTIONS, dimension, symbol
from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step
from maskdsl.scalar.printers import to_dsl, to_math, to_torch, to_triton

a, b, d, x, A_log, dt_bias = map(symbol, ("a", "b", "d", "x", "A_log", "dt_bias"))
p = symbol("p", 0)
K, V = dimension("K"), dimension("V")

# Steps, signs and Heaviside functions come from derivatives only.
SPECIAL = [
    step(a),
    sign(a - b),
    sympy.Heaviside(a - b),
    p ** Rational(3, 2),
    p ** Float(1.3),
    p**a,
    Integer(2) ** a,
    Integer(2) ** (a + b),
    exp(a - b),
    1 / a**2,
    1 / sqrt(p),
    a / sqrt(p + 1),
    a ** Float(2.0),
    log(Rational(31, 32)) * a,
    sqrt(2) * a,
    a - (b - p),
    a / (b / p),
    -((a + b) ** 2),
    (-a) ** 3,
    Max(a, b, 0),
]

VALUES = {"a": -0.7, "b": 1.9, "p": 0.4}

NAN = "propagate_nan=tl.PropagateNan.ALL"

TL = SimpleNamespace(
    PropagateNan=SimpleNamespace(ALL=True),
    exp2=np.exp2,
    log=np.log,
    sqrt=np.sqrt,
    abs=np.abs,
    where=np.where,
    maximum=lambda x, y, propagate_nan: np.maximum(x, y),
    minimum=lambda x, y, propagate_nan: np.minimum(x, y),
    sigmoid=lambda z: 1 / (1 + np.exp(-z)),
    rsqrt=lambda z: 1 / np.sqrt(z),
)
TILES = SimpleNamespace(softplus=lambda z: np.logaddexp(z, np.zeros_like(z)))


def run_torch(expr: sympy.Expr, **values: object) -> object:
    return eval(to_torch(expr, {}), {"torch": torch, "math": math, **values})


def run_triton(expr: sympy.Expr, **values: object) -> object:
    with np.errstate(all="ignore"):
        return eval(to_triton(expr, {}), {"tl": TL, "tiles": TILES, **values})


@settings(max_examples=100, deadline=None)
@given(expressions, points())
def test_torch_text_has_the_value(expr, point):
    scale = largest(expr, point)
    assume(scale < 1e6)
    tensors = {s.name: torch.tensor(point[s], dtype=torch.float64) for s in SYMBOLS}
    assert abs(float(run_torch(expr, **tensors)) - value(expr, point)) <= 1e-13 * max(scale, 1) * max(scale, 1)


@settings(max_examples=100, deadline=None)
@given(expressions, points())
def test_triton_text_has_the_value(expr, point):
    scale = largest(expr, point)
    assume(scale < 1e2)
    scalars = {s.name: np.float32(point[s]) for s in SYMBOLS}
    assert abs(float(run_triton(expr, **scalars)) - value(expr, point)) <= 3e-6 * max(scale, 1) ** 2


@pytest.mark.parametrize("expr", SPECIAL, ids=str)
def test_special_forms(expr):
    expected = float(value(expr, {s: VALUES[s.name] for s in expr.free_symbols}))
    tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in VALUES.items()}
    assert float(run_torch(expr, **tensors)) == pytest.approx(expected, rel=1e-14)
    scalars = {name: np.float32(v) for name, v in VALUES.items()}
    assert float(run_triton(expr, **scalars)) == pytest.approx(expected, rel=1e-5)


def test_ties_in_text():
    zero = torch.zeros((), dtype=torch.float64)
    for expr, expected in ((step(a), 0.0), (sign(a), 0.0), (sympy.Heaviside(a), 0.5)):
        assert float(run_torch(expr, a=zero)) == expected
        assert float(run_triton(expr, a=np.float32(0))) == expected


@pytest.mark.parametrize("function", [softplus, logsigmoid, sigmoid, silu, tanh])
def test_functions_keep_their_relative_precision(function):
    grid = torch.linspace(-60, 60, 241, dtype=torch.float64)
    exact = torch.tensor([float(function(Float(v, 40)).evalf(40)) for v in grid.tolist()], dtype=torch.float64)
    torch.testing.assert_close(run_torch(function(a), a=grid), exact, rtol=1e-15 * 3, atol=1e-300)
    single = torch.as_tensor(run_triton(function(a), a=grid.to(torch.float32).numpy()), dtype=torch.float64)
    # Through the exponential function alone, tanh is precise against 1, not against itself.
    torch.testing.assert_close(single, exact, rtol=1e-5, atol=2e-7 if function is tanh else 1e-37)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (
            -exp(A_log) * softplus(a + dt_bias),
            "-torch.exp(A_log)*torch.nn.functional.softplus(a_t + dt_bias, threshold=50.0)",
        ),
        (logsigmoid(x) / 16, "-torch.nn.functional.softplus(-x, threshold=50.0)/16"),
        (a / sqrt(K), "a_t/math.sqrt(K)"),
        (1 / sqrt(K), "1/math.sqrt(K)"),
        (1 - sigmoid(a), "1 - torch.sigmoid(a_t)"),
        (Min(Max(x, -5), 0), "torch.clamp(torch.clamp(x, min=-5), max=0)"),
        (Max(a, b), "torch.maximum(a_t, b)"),
        (log(1 - Integer(2) ** -5), "-0.0317486983145803"),
        (a * Min(K, V), "a_t*min(K, V)"),
    ],
    ids=str,
)
def test_torch_text(expr, text):
    assert to_torch(expr, {"a": "a_t"}) == text


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (-exp(A_log) * sigmoid(a), "-tl.exp2(1.4426950408889634*A_log)*tl.sigmoid(a_t)"),
        (exp(a - b), "tl.exp2(1.4426950408889634*(a_t - b))"),
        (x / 4, "0.25*x"),
        (x**2 - 1, "(x*x) - 1.0"),
        (x / sqrt(p), "x*tl.rsqrt(p)"),
        (a / sqrt(K), "a_t/K**0.5"),
        (relu(a) * step(x), f"tl.maximum(a_t, 0.0, {NAN})*tl.where(x > 0.0, 1.0, 0.0)"),
        (Max(a, b, 0), f"tl.maximum(tl.maximum(0.0, a_t, {NAN}), b, {NAN})"),
    ],
    ids=str,
)
def test_triton_text(expr, text):
    assert to_triton(expr, {"a": "a_t"}) == text


@pytest.mark.parametrize("expr", [log(K) * a, Max(K, 3) * a], ids=str)
def test_triton_has_no_functions_of_sizes(expr):
    with pytest.raises(ValueError, match="put in their values before printing"):
        to_triton(expr, {})
    assert to_triton(expr.subs(K, 64), {})


@pytest.mark.parametrize("function", [sigmoid, softplus, logsigmoid, silu, relu, exp, log, tanh])
def test_sizes_alone_give_a_python_number(function):
    number = run_torch(function(1 / K), K=4)
    assert isinstance(number, float)
    assert number == pytest.approx(float(function(Rational(1, 4)).evalf()), rel=1e-15)


@pytest.mark.parametrize("printer", [lambda e: to_torch(e, {}), lambda e: to_triton(e, {}), to_dsl, to_math])
def test_an_unknown_function_is_an_error(printer):
    with pytest.raises(ValueError, match="'sin' is not a scalar function"):
        printer(sympy.sin(a))


@pytest.mark.parametrize("constant", [log(0), 1 / sympy.S.Zero, sqrt(-1), log(0) - log(0)], ids=str)
@pytest.mark.parametrize("printer", [lambda e: to_torch(e, {}), lambda e: to_triton(e, {}), to_dsl, to_math])
def test_a_constant_that_is_no_number_is_an_error(printer, constant):
    with pytest.raises(ValueError, match="no real number"):
        printer(a * constant)


@pytest.mark.parametrize(
    ("expr", "dsl", "mathematics"),
    [
        (exp(1) * a, "exp(1)*a", "exp(1)·a"),
        (-exp(A_log) * softplus(a + dt_bias), "-exp(A_log)*softplus(a + dt_bias)", "-exp(A_log)·softplus(a + dt_bias)"),
        (logsigmoid(x) / 16, "logsigmoid(x)/16", "logsigmoid(x)/16"),
        (1 / sqrt(K), "1/sqrt(K)", "1/√K"),
        (sqrt(a**2 + 1) * x**2, "x**2*sqrt(a**2 + 1)", "x²·√(a² + 1)"),
        (abs(a) ** 12, "a**12", "a¹²"),
        (abs(a - b), "abs(a - b)", "|a - b|"),
        (Min(Max(x, -5), 0), "min(0, max(-5, x))", "min(0, max(-5, x))"),
        ((a + b) ** -2, "(a + b)**(-2)", "1/(a + b)²"),
        (p ** Float(1.5), "p**1.5", "p^1.5"),
        (p ** (a + b), "p**(a + b)", "p^(a + b)"),
        (silu(a) * step(b), "silu(a)*step(b)", "silu(a)·step(b)"),
    ],
    ids=str,
)
def test_text_for_people(expr, dsl, mathematics):
    assert to_dsl(expr) == dsl
    assert to_math(expr) == mathematics


class _Exact(ast.NodeTransformer):
    """Literals as sympy numbers, so that 1/3 is a third."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        kind = "Integer" if isinstance(node.value, int) else "Float"
        return ast.Call(ast.Name(kind, ast.Load()), [node], [])


def read_back(text: str) -> sympy.Expr:
    names = {name: function.build for name, function in FUNCTIONS.items()}
    names |= {"Integer": Integer, "Float": Float, "step": step, "sign": sign, "heaviside": sympy.Heaviside}
    names |= {s.name: s for s in (*SYMBOLS, K)}
    tree = ast.fix_missing_locations(_Exact().visit(ast.parse(text, mode="eval")))
    return eval(compile(tree, "expression", "eval"), names)


@pytest.mark.parametrize(
    "expr",
    [
        1 / (3 * a**2 + 3),
        Rational(1, 3) / (a**2 + 1),
        2 * ((a + b) * (a - b)),
        -((a + b) * (a - b)),
        Rational(-2, 3) * ((a + b) * (a - b)),
        Rational(-2, 3) * (a + b) ** 2 / (a - b),
        Float(-0.5) * ((a + b) * (a - b)) / b,
        -1 / a,
        -a / (2 * K),
    ],
    ids=str,
)
def test_numbers_next_to_sums_read_back(expr):
    assert read_back(to_dsl(expr)) == expr


@settings(max_examples=100, deadline=None)
@given(expressions)
def test_the_language_reads_back(expr):
    assert read_back(to_dsl(expr)) == expr


@pytest.mark.parametrize("expr", [case for case in SPECIAL if symbol("p") not in case.free_symbols], ids=str)
def test_special_forms_read_back(expr):
    assert read_back(to_dsl(expr)) == expr
