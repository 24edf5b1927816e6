"""What the language's scalar functions and names stand for in sympy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from maskdsl.scalar import functions
from maskdsl.scalar.symbols import DIMENSIONS, Ranged, dimension, symbol

__all__ = ["DIMENSIONS", "FUNCTIONS", "Function", "Ranged", "dimension", "symbol"]


@dataclass(frozen=True)
class Function:
    """A scalar function of the language: how many arguments it takes (at least, at most) and what it builds."""

    arity: tuple[int, int | None]
    build: Callable[..., sympy.Expr]


def _min(*operands: sympy.Expr) -> sympy.Expr:
    # sympy factors min(max(x, 1), max(x, 2)) into max(x, min(1, 2)) and leaves the inner one as it is
    return sympy.Min(*operands).doit()


def _max(*operands: sympy.Expr) -> sympy.Expr:
    return sympy.Max(*operands).doit()


def _clamp(x: sympy.Expr, low: sympy.Expr, high: sympy.Expr) -> sympy.Expr:
    return _min(_max(x, low), high)


def _square(x: sympy.Expr) -> sympy.Expr:
    return x**2


_ONE, _SOME = (1, 1), (2, None)

FUNCTIONS: dict[str, Function] = {
    "exp": Function(_ONE, sympy.exp),
    "log": Function(_ONE, sympy.log),
    "sqrt": Function(_ONE, sympy.sqrt),
    "sigmoid": Function(_ONE, functions.sigmoid),
    "logsigmoid": Function(_ONE, functions.logsigmoid),
    "softplus": Function(_ONE, functions.softplus),
    "silu": Function(_ONE, functions.silu),
    "tanh": Function(_ONE, sympy.tanh),
    "relu": Function(_ONE, functions.relu),
    "abs": Function(_ONE, sympy.Abs),
    "square": Function(_ONE, _square),
    "min": Function(_SOME, _min),
    "max": Function(_SOME, _max),
    "clamp": Function((3, 3), _clamp),
}
