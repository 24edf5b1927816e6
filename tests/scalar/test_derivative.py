"""Derivatives are right, and stay finite where the function itself is finite; simplification never costs precision."""

import math

import pytest
import sympy
import torch
from hypothesis import assume, given, settings
from scalar_expressions import SYMBOLS, expressions, largest, points, value
from sympy import Float, Max, Min, exp, log, tanh

from maskdsl.scalar.build import symbol
from maskdsl.scalar.derivative import derivative, simplify
from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus
from maskdsl.scalar.printers import to_torch

x, y = symbol("x"), symbol("y")


def evaluate(text: str, **values: object) -> object:
    return eval(text, {"torch": torch, "math": math, **values})


@settings(max_examples=150, deadline=None)
@given(expressions, points())
def test_slopes_are_those_of_differences(expr, point):
    assume(largest(expr, point) < 1e3)
    h = sympy.Float("1e-15", 40)
    for place in expr.free_symbols:
        at = {other: sympy.Float(v, 40) for other, v in point.items()}
        right = (value(expr, at | {place: at[place] + h}) - value(expr, at)) / h
        left = (value(expr, at) - value(expr, at | {place: at[place] - h})) / h
        assume(abs(right - left) < 1e-6)  # elsewhere the function has a corner
        assert float(value(derivative(expr, place), point)) == pytest.approx(float(right), rel=1e-6, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(expressions, points())
def test_slopes_are_those_of_autograd(expr, point):
    assume(expr.free_symbols and largest(expr, point) < 1e3)
    leaves = {s.name: torch.tensor(point[s], dtype=torch.float64, requires_grad=True) for s in SYMBOLS}
    result = torch.as_tensor(evaluate(to_torch(expr, {}), **leaves))
    assume(result.requires_grad)  # it does not where the constants have cancelled the symbols
    result.backward()
    for place in expr.free_symbols:
        slope = derivative(expr, place)
        assume(largest(slope, point) < 1e6)
        number = torch.as_tensor(evaluate(to_torch(slope, {}), **leaves), dtype=torch.float64)
        assert number.item() == pytest.approx(leaves[place.name].grad.item(), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    "expr",
    [
        sigmoid(x),
        logsigmoid(x),
        softplus(x),
        silu(x),
        tanh(x),
        relu(x),
        x**3,
        log(sigmoid(x)),
        log(1 - sigmoid(x)),
        log(1 + exp(x)),
        1 / (1 + exp(-x)),
        exp(x) / (1 + exp(x)),
        exp(-softplus(x)),
        1 / (1 + exp(x)) ** 2,
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [-100.0, -9.0, 0.0, 9.0, 100.0])
def test_slopes_are_precise_far_out(expr, at):
    slope = derivative(expr, x)
    computed = torch.as_tensor(evaluate(to_torch(slope, {}), x=torch.tensor(at)), dtype=torch.float32).item()
    exact = float(sympy.diff(expr.doit(), x).xreplace({x: Float(at, 200)}).evalf(100))
    assert computed == pytest.approx(exact, rel=1e-5, abs=1e-36)


def test_ties_share_the_slope():
    assert derivative(Max(x, y), x).subs({x: 2, y: 2}) == sympy.Rational(1, 2)
    assert derivative(Min(x, y), x).subs({x: 2, y: 2}) == sympy.Rational(1, 2)
    assert derivative(abs(x), x).subs(x, 0) == 0
    assert derivative(relu(x), x).subs(x, 0).evalf() == 0


@pytest.mark.parametrize("power", [1, 2, 3, 7])
def test_powers_at_zero(power):
    assert derivative(x**power, x).subs(x, 0) == (1 if power == 1 else 0)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (log(sigmoid(x)), logsigmoid(x)),
        (log(1 - sigmoid(x)), logsigmoid(-x)),
        (log(1 + exp(x * y)), softplus(x * y)),
        (1 / (1 + exp(-x)), sigmoid(x)),
        (exp(x) / (1 + exp(x)), sigmoid(x)),
        (2 - 2 * sigmoid(x) + y, 2 * sigmoid(-x) + y),
        (exp(-x) * sigmoid(x) ** 2, sigmoid(-x) * sigmoid(x)),
        (x ** Float(2.0), x**2),
        (x ** Float(0.5), sympy.sqrt(x)),
        (x ** Float(0.3), x ** Float(0.3)),
        (logsigmoid(x), logsigmoid(x)),
        (1 - tanh(x), 1 - tanh(x)),
        ((x + y) ** 2, (x + y) ** 2),
        (log(2 + exp(x)), log(2 + exp(x))),
    ],
    ids=str,
)
def test_simplify(expr, expected):
    assert simplify(expr) == expected


@settings(max_examples=100, deadline=None)
@given(expressions, points())
def test_simplify_keeps_the_value(expr, point):
    assume(largest(expr, point) < 1e6)
    assert abs(value(simplify(expr), point) - value(expr, point)) < 1e-8
