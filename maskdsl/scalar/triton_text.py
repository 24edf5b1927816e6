"""Scalar expressions as Triton source, in float32."""

from __future__ import annotations

import functools
import math
from typing import Any

import sympy
from sympy.printing.precedence import PRECEDENCE

from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step
from maskdsl.scalar.simplify import exact_exponent
from maskdsl.scalar.text import Names, ScalarPrinter, is_size, replace


class rsqrt(sympy.Function):
    """1 / sqrt(x), a node of its own so that it is printed as one."""

    nargs = 1


_TRITON: Names = {
    sympy.log: "tl.log",
    sympy.Abs: "tl.abs",
    sigmoid: "tl.sigmoid",
    softplus: "tiles.softplus",
    rsqrt: "tl.rsqrt",
}


class TritonPrinter(ScalarPrinter):
    """Prints what `lower` returns; sizes are compile-time constants, so only Python's operators apply to them."""

    functions = _TRITON

    def call(self, expr: sympy.Expr, arguments: Any) -> str:
        """Raises ValueError for a function of sizes, which Triton cannot evaluate."""
        if is_size(expr):
            raise ValueError(f"'{expr}' is a function of sizes: put in their values before printing.")
        return super().call(expr, arguments)

    def _print_Rational(self, expr: sympy.Rational) -> str:
        return repr(float(expr))

    _print_Integer = _print_Rational

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if is_size(expr):
            operands = base, exponent.evalf(17)
            return "**".join(self.parenthesize(operand, PRECEDENCE["Pow"]) for operand in operands)
        if exponent == sympy.S.Half:
            return f"tl.sqrt({self._print(base)})"
        if exponent.is_Integer:
            product = "*".join([self.parenthesize(base, PRECEDENCE["Mul"])] * abs(int(exponent)))
            return f"({product})" if exponent > 0 else f"1.0/({product})"
        logarithm = sympy.log(base).evalf(17) if base.is_number else sympy.log(base, evaluate=False)
        return self._exp(sympy.Mul(exponent, logarithm))

    def _print_exp(self, expr: sympy.exp) -> str:
        if is_size(expr):
            return self.call(expr, expr.args)
        return self._exp(expr.args[0])

    def _exp(self, exponent: sympy.Expr) -> str:
        # a power of 2 is one instruction where what is denormal becomes 0; tl.exp keeps that, and costs four
        return f"tl.exp2({math.log2(math.e)}*{self.parenthesize(exponent, PRECEDENCE['Mul'])})"

    def _print_relu(self, expr: relu) -> str:
        return _extreme("maximum", self._print(expr.args[0]), "0.0")

    def _print_step(self, expr: step) -> str:
        return f"tl.where({self._print(expr.args[0])} > 0.0, 1.0, 0.0)"

    def _print_sign(self, expr: sympy.sign) -> str:
        x = self._print(expr.args[0])
        return f"tl.where({x} > 0.0, 1.0, tl.where({x} < 0.0, -1.0, 0.0))"

    def _print_Heaviside(self, expr: sympy.Heaviside) -> str:
        x = self._print(expr.args[0])
        return f"tl.where({x} > 0.0, 1.0, tl.where({x} < 0.0, 0.0, 0.5))"

    def _print_Max(self, expr: sympy.Max | sympy.Min) -> str:
        if is_size(expr):
            return self.call(expr, expr.args)
        word = "maximum" if isinstance(expr, sympy.Max) else "minimum"
        arguments = map(self._print, sorted(expr.args, key=sympy.default_sort_key))
        return functools.reduce(lambda left, right: _extreme(word, left, right), arguments)

    _print_Min = _print_Max


def _extreme(word: str, left: str, right: str) -> str:
    """The larger or smaller of two values, NaN where either is: a gate that is none must not pass for a bound."""
    return f"tl.{word}({left}, {right}, propagate_nan=tl.PropagateNan.ALL)"


def lower(expr: sympy.Expr) -> sympy.Expr:
    """`expr` in the functions that the printer knows, its constants evaluated."""
    return replace(expr, _lower)


def _lower(expr: sympy.Expr) -> sympy.Expr | None:
    if expr.is_number:
        return None if expr.is_Rational else expr.evalf(17)
    match expr:
        case sympy.Mul() if expr.args[0].is_Rational and not expr.args[0].is_Integer:
            return sympy.Mul(expr.args[0].evalf(17), *expr.args[1:])  # a product is cheaper than a quotient
        case logsigmoid():
            return -softplus(-expr.args[0])
        case silu():
            return expr.args[0] * sigmoid(expr.args[0])
        case sympy.tanh():
            return 2 * sigmoid(2 * expr.args[0]) - 1
        case sympy.Pow() if not is_size(expr) and expr.exp == -sympy.S.Half:
            return rsqrt(expr.base)
        case sympy.Pow():
            return exact_exponent(expr)
    return None
