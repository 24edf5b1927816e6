"""Simplification that never costs precision: the rules that make an expression's named functions visible."""

from __future__ import annotations

import sympy

from maskdsl.scalar.functions import logsigmoid, sigmoid, softplus


def simplify(expr: sympy.Expr) -> sympy.Expr:
    """An equal expression, each `log(1 + exp(x))` and its like written as the one function it is.

    It is no less precise anywhere: nothing is expanded, and no function is written out.
    """
    if not expr.args:
        return expr
    rebuilt = expr.func(*(simplify(argument) for argument in expr.args))
    for rule in (exact_exponent, _as_logsigmoid, _as_softplus, _as_sigmoid, _as_complement, _absorb_exponential):
        changed = rule(rebuilt)
        if changed is not None:
            return simplify(changed)
    return rebuilt


def exact_exponent(expr: sympy.Expr) -> sympy.Expr | None:
    """x**2.0 is x**2, and x**0.5 is sqrt(x)."""
    if isinstance(expr, sympy.Pow) and expr.exp.is_Float and float(2 * expr.exp).is_integer():
        return sympy.Pow(expr.base, sympy.Rational(expr.exp))
    return None


def _one_plus_exponential(expr: sympy.Expr) -> sympy.Expr | None:
    """x where `expr` is 1 + exp(x)."""
    match expr:
        case sympy.Add(args=(constant, sympy.exp() as power)) if constant == 1:
            return power.args[0]
    return None


def _as_logsigmoid(expr: sympy.Expr) -> sympy.Expr | None:
    """log(sigmoid(x)) is logsigmoid(x)."""
    match expr:
        case sympy.log(args=(sigmoid() as inner,)):
            return logsigmoid(*inner.args)
    return None


def _as_softplus(expr: sympy.Expr) -> sympy.Expr | None:
    """log(1 + exp(x)) is softplus(x)."""
    if isinstance(expr, sympy.log):
        x = _one_plus_exponential(expr.args[0])
        return None if x is None else softplus(x)
    return None


def _as_sigmoid(expr: sympy.Expr) -> sympy.Expr | None:
    """(1 + exp(x))**(-p) is sigmoid(-x)**p."""
    if isinstance(expr, sympy.Pow) and expr.exp.is_negative:
        x = _one_plus_exponential(expr.base)
        return None if x is None else sigmoid(-x) ** -expr.exp
    return None


def _as_complement(expr: sympy.Expr) -> sympy.Expr | None:
    """c - c sigmoid(x) is c sigmoid(-x), c a number."""
    if not isinstance(expr, sympy.Add):
        return None
    constant = expr.args[0]
    for term in expr.args[1:]:
        factor, rest = term.as_coeff_Mul()
        if isinstance(rest, sigmoid) and constant.is_number and factor == -constant:
            others = [other for other in expr.args[1:] if other != term]
            return sympy.Add(constant * sigmoid(-rest.args[0]), *others)
    return None


def _absorb_exponential(expr: sympy.Expr) -> sympy.Expr | None:
    """exp(-x) sigmoid(x) is sigmoid(-x); without this, large -x gives infinity times zero."""
    if not isinstance(expr, sympy.Mul):
        return None
    for exponential in expr.atoms(sympy.exp) & set(expr.args):
        for factor in expr.args:
            base, exponent = factor.as_base_exp()
            if isinstance(base, sigmoid) and exponent.is_positive and exponential.args[0] == -base.args[0]:
                return expr / exponential / base * sigmoid(-base.args[0])
    return None
