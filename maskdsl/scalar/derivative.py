"""Derivatives that stay finite and precise in floating point."""

from __future__ import annotations

import sympy

from maskdsl.scalar.functions import sigmoid
from maskdsl.scalar.simplify import simplify

__all__ = ["derivative", "simplify"]


def derivative(expr: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    """The derivative of `expr` by `symbol`, finite wherever the expression is smooth, however large its arguments.

    At ties `Max` and `Min` share the slope (Heaviside is 1/2 at 0), and `Abs` has slope 0 at 0.
    """
    return simplify(_derive(simplify(expr), symbol))


def _derive(expr: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    if symbol not in expr.free_symbols:
        return sympy.S.Zero
    if expr == symbol:
        return sympy.S.One
    match expr:
        case sympy.Add():
            return sympy.Add(*(_derive(term, symbol) for term in expr.args))
        case sympy.Mul():
            factors = expr.args
            rest = [sympy.Mul(*factors[:i], *factors[i + 1 :]) for i in range(len(factors))]
            return sympy.Add(*(other * _derive(factor, symbol) for factor, other in zip(factors, rest, strict=True)))
        case sympy.Pow():
            base, exponent = expr.args
            by_base = exponent * base ** (exponent - 1) * _derive(base, symbol)
            slope = _derive(exponent, symbol)
            return by_base + expr * sympy.log(base) * slope if slope != 0 else by_base
    terms = (_slope(expr, place) * _derive(argument, symbol) for place, argument in enumerate(expr.args, 1))
    return sympy.Add(*terms)


def _slope(function: sympy.Function, place: int) -> sympy.Expr:
    """The derivative of a function by its argument number `place`, counted from 1."""
    x = function.args[0]
    match function:
        case sympy.Abs():
            return sympy.sign(x)
        case sympy.tanh():
            return 4 * sigmoid(2 * x) * sigmoid(-2 * x)
        case sympy.sign() | sympy.Heaviside():
            return sympy.S.Zero
    return function.fdiff(place)
