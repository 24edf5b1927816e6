"""What the printers share, and the two that print for people: the language's own notation and mathematics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step
from maskdsl.scalar.symbols import Ranged

Names = Mapping[type[sympy.Basic], str]


def is_size(expr: sympy.Basic) -> bool:
    """Whether `expr` is built of numbers and dimensions alone."""
    return not any(isinstance(symbol, Ranged) for symbol in expr.free_symbols)


def replace(expr: sympy.Expr, rule: Callable[[sympy.Expr], sympy.Expr | None]) -> sympy.Expr:
    """`expr` with `rule` applied to every node, the arguments first; None keeps a node."""
    if expr.args:
        expr = expr.func(*(replace(argument, rule) for argument in expr.args))
    changed = rule(expr)
    return expr if changed is None else changed


class ScalarPrinter(StrPrinter):
    """Prints `name(x, ...)` for every function of `functions`."""

    functions: ClassVar[Names] = {}

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.names = names or {}

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        return self.names.get(expr.name, str(expr.name))

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))

    def _print_Exp1(self, expr: sympy.Expr) -> str:
        return self.call(sympy.exp(1, evaluate=False), (sympy.S.One,))

    def _print_NaN(self, expr: sympy.Expr) -> str:
        raise ValueError(f"'{expr}' is no real number: a constant divides by zero or leaves a function's domain.")

    _print_ComplexInfinity = _print_Infinity = _print_NegativeInfinity = _print_ImaginaryUnit = _print_NaN

    def _print_Function(self, expr: Any) -> str:
        return self.call(expr, expr.args)

    def _print_Heaviside(self, expr: sympy.Heaviside) -> str:
        return self.call(expr, expr.args[:1])

    def _print_Max(self, expr: sympy.Max) -> str:
        return self.call(expr, sorted(expr.args, key=sympy.default_sort_key))

    _print_Min = _print_Max

    def call(self, expr: sympy.Expr, arguments: Any) -> str:
        """The function applied to printed arguments."""
        return self.apply(self.functions, expr, arguments)

    def apply(self, functions: Names, expr: sympy.Expr, arguments: Any) -> str:
        """The name that `functions` gives the function, applied to printed arguments; ValueError where it has none."""
        for kind, name in functions.items():
            if isinstance(expr, kind):
                return f"{name}({', '.join(self._print(argument) for argument in arguments)})"
        raise ValueError(f"'{expr}' has no notation here: '{type(expr).__name__}' is not a scalar function.")


WORDS: Names = {
    sympy.exp: "exp",
    sympy.log: "log",
    sympy.tanh: "tanh",
    sympy.Abs: "abs",
    sympy.Max: "max",
    sympy.Min: "min",
    sigmoid: "sigmoid",
    logsigmoid: "logsigmoid",
    softplus: "softplus",
    silu: "silu",
    relu: "relu",
    step: "step",
    sympy.sign: "sign",
    sympy.Heaviside: "heaviside",
}


class DslPrinter(ScalarPrinter):
    """The language's own notation; what only derivatives hold is written as a function too.

    The text builds an equal expression when sympy evaluates it from left to right.
    """

    functions = WORDS

    def _print_Mul(self, expr: sympy.Mul) -> str:
        # sympy distributes a number over the sum next to it: keep the two apart.
        coefficient, rest = expr.as_coeff_Mul()
        if coefficient == 1:
            return str(super()._print_Mul(expr))
        sign, coefficient = ("-", -coefficient) if coefficient < 0 else ("", coefficient)
        text = self.parenthesize(rest, PRECEDENCE["Mul"], strict=True)
        if rest.is_Mul and text.startswith("("):
            text = f"({text})"
        numerator, denominator = coefficient.as_numer_denom()
        if numerator != 1:
            number = self._print(numerator)
            text = number + text[1:] if text.startswith("1/") else f"{number}*{text}"
        return f"{sign}{text}" if denominator == 1 else f"{sign}{text}/{denominator}"


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class MathPrinter(ScalarPrinter):
    """Mathematics in unicode, save that a product still has its star."""

    functions = WORDS

    def _print_Abs(self, expr: sympy.Abs) -> str:
        return f"|{self._print(expr.args[0])}|"

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if exponent.could_extract_minus_sign():
            return f"1/{self.parenthesize(base**-exponent, PRECEDENCE['Mul'])}"
        if exponent == sympy.S.Half:
            return f"√{self._print(base)}" if base.is_Atom else f"√({self._print(base)})"
        power = str(self._print(exponent))
        text = self.parenthesize(base, PRECEDENCE["Pow"])
        if power.isdecimal():
            return text + power.translate(_SUPERSCRIPT)
        return f"{text}^{power}" if exponent.is_Symbol or exponent.is_Float else f"{text}^({power})"
