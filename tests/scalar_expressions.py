"""Random scalar expressions, points in the ranges of their symbols, and their values to many digits."""

from __future__ import annotations

import random
from collections.abc import Mapping

import sympy
from hypothesis import strategies as st

from maskdsl.scalar.build import FUNCTIONS, Ranged, symbol

SYMBOLS = (symbol("a"), symbol("b"), symbol("p", 0), symbol("n", None, 0), symbol("u", 0, 1), symbol("w", -2, 3))

Point = dict[Ranged, float]


def _call(name: str, *arguments: sympy.Expr) -> sympy.Expr:
    return FUNCTIONS[name].build(*arguments)


def _extend(inner: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    smooth = ["exp", "sigmoid", "logsigmoid", "softplus", "silu", "tanh", "relu", "abs", "square"]
    return st.one_of(
        st.builds(_call, st.sampled_from(smooth), inner),
        st.builds(_call, st.sampled_from(["min", "max"]), inner, inner),
        st.builds(lambda x: _call("clamp", x, sympy.Integer(-2), sympy.Rational(3, 2)), inner),
        st.builds(lambda x: _call("sqrt", 1 + x**2), inner),
        st.builds(lambda x: _call("log", 1 + x**2), inner),
        st.builds(lambda x, y: x + y, inner, inner),
        st.builds(lambda x, y: x - y, inner, inner),
        st.builds(lambda x, y: x * y, inner, inner),
        st.builds(lambda x, y: x / (1 + y**2), inner, inner),
        st.builds(lambda x: x**3 / 3, inner),
        st.builds(lambda x: -x, inner),
    )


_NUMBERS = st.sampled_from([sympy.Integer(1), sympy.Integer(-2), sympy.Rational(1, 3), sympy.Float(0.3)])

expressions = st.recursive(st.one_of(st.sampled_from(SYMBOLS), _NUMBERS), _extend, max_leaves=7)


@st.composite
def points(draw: st.DrawFn) -> Point:
    """A value for every symbol, inside its range and off the nice numbers where ties are."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    return {x: generator.uniform(max(x.low, -3.0), min(x.high, 3.0)) for x in SYMBOLS}


def value(expr: sympy.Expr, point: Mapping[Ranged, float]) -> sympy.Float:
    """The value of `expr` at `point`, to 40 digits."""
    return expr.xreplace({x: sympy.Float(v, 40) for x, v in point.items()}).evalf(40)


def largest(expr: sympy.Expr, point: Mapping[Ranged, float]) -> float:
    """The largest absolute value among all subexpressions: the scale of rounding errors."""
    return max(abs(float(value(part, point))) for part in sympy.preorder_traversal(expr))
