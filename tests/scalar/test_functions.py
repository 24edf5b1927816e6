"""Signs, values and slopes of the functions that sympy lacks."""

import pytest
import sympy

from maskdsl.scalar.build import symbol
from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step

X = symbol("x")


@pytest.mark.parametrize(
    ("function", "positive", "negative", "nonnegative"),
    [
        (sigmoid, True, False, True),
        (softplus, True, False, True),
        (logsigmoid, False, True, False),
        (relu, None, False, True),
        (step, None, False, True),
        (silu, None, None, None),
    ],
)
def test_signs(function, positive, negative, nonnegative):
    y = function(X)
    assert y.is_real
    assert y.is_finite
    assert (y.is_positive, y.is_negative, y.is_nonnegative) == (positive, negative, nonnegative)


@pytest.mark.parametrize("x", [-1000, -40, -3, 0, sympy.Rational(1, 3), 2, 50, 1000])
def test_values_keep_their_precision_at_both_ends(x):
    exact = {
        sigmoid: 1 / (1 + sympy.exp(-x)),
        softplus: sympy.log(1 + sympy.exp(x)),
        logsigmoid: -sympy.log(1 + sympy.exp(-x)),
        silu: x / (1 + sympy.exp(-x)),
        relu: max(sympy.Integer(0), x),
        step: int(bool(x > 0)),
    }
    for function, expected in exact.items():
        # 1000 digits, since 1 + exp(-1000) is 1 in fewer
        expected = sympy.sympify(expected).evalf(1000)
        assert abs(function(x).evalf(20) - expected) <= abs(expected) * sympy.Float("1e-18")


@pytest.mark.parametrize("function", [sigmoid, softplus, logsigmoid, silu, relu, step])
@pytest.mark.parametrize("x", [-7.3, -0.4, 0.9, 6.1])
def test_slopes_are_those_of_central_differences(function, x):
    h = sympy.Float("1e-10", 40)
    x = sympy.Float(x, 40)
    difference = (function(x + h) - function(x - h)) / (2 * h)
    assert float(sympy.diff(function(X), X).xreplace({X: x})) == pytest.approx(float(difference), rel=1e-12, abs=1e-15)
