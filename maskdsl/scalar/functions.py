"""The scalar functions that sympy lacks, with their derivatives, signs and values at numbers.

Their arguments are real, so all of them are real and finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import sympy

Value = tuple[Callable[[Any], Any], tuple[Any, ...]]


def _softplus(x: Any) -> Any:
    return max(x, 0) + mpmath.log1p(mpmath.exp(-abs(x)))


class sigmoid(sympy.Function):
    """1 / (1 + exp(-x))."""

    nargs = 1
    is_real = True
    is_positive = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """s(x) s(-x), which keeps its precision at both ends."""
        return sigmoid(self.args[0]) * sigmoid(-self.args[0])

    def _eval_mpmath(self) -> Value:
        return lambda x: mpmath.exp(-_softplus(-x)), self.args


class logsigmoid(sympy.Function):
    """log(sigmoid(x)), always negative."""

    nargs = 1
    is_real = True
    is_negative = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """sigmoid(-x)."""
        return sigmoid(-self.args[0])

    def _eval_mpmath(self) -> Value:
        return lambda x: -_softplus(-x), self.args


class softplus(sympy.Function):
    """log(1 + exp(x)), always positive."""

    nargs = 1
    is_real = True
    is_positive = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """sigmoid(x)."""
        return sigmoid(self.args[0])

    def _eval_mpmath(self) -> Value:
        return _softplus, self.args


class silu(sympy.Function):
    """x * sigmoid(x)."""

    nargs = 1
    is_real = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """s(x) + x s(x) s(-x)."""
        x = self.args[0]
        return sigmoid(x) + x * sigmoid(x) * sigmoid(-x)

    def _eval_mpmath(self) -> Value:
        return lambda x: x * mpmath.exp(-_softplus(-x)), self.args


class relu(sympy.Function):
    """max(x, 0), with slope 0 at 0."""

    nargs = 1
    is_real = True
    is_nonnegative = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """1 where x > 0, else 0."""
        return step(self.args[0])

    def _eval_mpmath(self) -> Value:
        return lambda x: mpmath.mpf(max(x, 0)), self.args


class step(sympy.Function):
    """1 where x > 0, else 0; it appears in derivatives only."""

    nargs = 1
    is_real = True
    is_nonnegative = True

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Zero almost everywhere."""
        return sympy.S.Zero

    def _eval_mpmath(self) -> Value:
        return lambda x: mpmath.mpf(int(x > 0)), self.args
