"""Scalar expressions as PyTorch source."""

from __future__ import annotations

import functools
from typing import Any

import sympy

from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step
from maskdsl.scalar.text import Names, ScalarPrinter, is_size, replace

_TORCH: Names = {
    sympy.exp: "torch.exp",
    sympy.log: "torch.log",
    sympy.tanh: "torch.tanh",
    sympy.Abs: "torch.abs",
    sympy.sign: "torch.sign",
    sigmoid: "torch.sigmoid",
    silu: "torch.nn.functional.silu",
    relu: "torch.relu",
}

_PYTHON: Names = {
    sympy.exp: "math.exp",
    sympy.log: "math.log",
    sympy.tanh: "math.tanh",
    sympy.Abs: "abs",
    sympy.Max: "max",
    sympy.Min: "min",
}


class TorchPrinter(ScalarPrinter):
    """Prints what `lower` returns: tensors go through torch, sizes through plain Python."""

    def call(self, expr: sympy.Expr, arguments: Any) -> str:
        """A function of sizes is one of Python's."""
        return self.apply(_PYTHON if is_size(expr) else _TORCH, expr, arguments)

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        base = self._print(expr.base)
        if expr.exp == sympy.S.Half:
            return f"math.sqrt({base})" if is_size(expr) else f"torch.sqrt({base})"
        if expr.exp == -sympy.S.Half:
            return f"1/math.sqrt({base})" if is_size(expr) else f"torch.rsqrt({base})"
        return str(super()._print_Pow(expr, rational=True))

    def _print_softplus(self, expr: softplus) -> str:
        # From 50 on, log(1 + exp(x)) is x in float64.
        return f"torch.nn.functional.softplus({self._print(expr.args[0])}, threshold=50.0)"

    def _print_step(self, expr: step) -> str:
        return f"torch.where({self._print(expr.args[0])} > 0, 1.0, 0.0)"

    def _print_Max(self, expr: sympy.Max | sympy.Min) -> str:
        word, bound = ("maximum", "min") if isinstance(expr, sympy.Max) else ("minimum", "max")
        arguments = sorted(expr.args, key=sympy.default_sort_key)
        tensors = [self._print(argument) for argument in arguments if not is_size(argument)]
        sizes = [argument for argument in arguments if is_size(argument)]
        if not tensors:
            return self.call(expr, sizes)
        text = functools.reduce(lambda left, right: f"torch.{word}({left}, {right})", tensors)
        return f"torch.clamp({text}, {bound}={self._print(type(expr)(*sizes))})" if sizes else text

    _print_Min = _print_Max


def lower(expr: sympy.Expr) -> sympy.Expr:
    """`expr` in the functions that the printer knows, its constants evaluated."""
    return replace(expr, _lower)


def _lower(expr: sympy.Expr) -> sympy.Expr | None:
    if expr.is_number:
        return None if expr.is_Rational else expr.evalf(17)
    match expr:
        case logsigmoid():
            return -lower(softplus(-expr.args[0]))
        case sympy.Heaviside():
            return (sympy.sign(expr.args[0]) + 1) / 2
        case softplus() if is_size(expr):
            x = expr.args[0]
            return sympy.Max(x, 0) + sympy.log(1 + sympy.exp(-sympy.Abs(x)))
        case sigmoid() if is_size(expr):
            return sympy.exp(-lower(softplus(-expr.args[0])))
        case silu() if is_size(expr):
            return expr.args[0] * lower(sigmoid(expr.args[0]))
        case relu() if is_size(expr):
            return sympy.Max(expr.args[0], 0)
    return None
