"""What values an expression can take: interval arithmetic over the tree, met with sympy's own knowledge of signs.

Intervals are those of real arithmetic, rounding aside.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sympy

from maskdsl.scalar.functions import logsigmoid, relu, sigmoid, silu, softplus, step
from maskdsl.scalar.simplify import simplify
from maskdsl.scalar.symbols import Ranged

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Interval:
    """All reals x with low <= x <= high; an unbounded end is an infinity.

    `infinite` says that an infinity itself can be a value, as in log(0) or 1/0.
    """

    low: float = -math.inf
    high: float = math.inf
    infinite: bool = False

    @property
    def has_zero(self) -> bool:
        """Whether 0 is in the interval."""
        return self.low <= 0 <= self.high


def bounds(expr: sympy.Expr) -> Interval:
    """An interval that holds every value of `expr`; the whole line where nothing is known."""
    interval = _from_tree(expr)
    low = max(interval.low, 0.0) if expr.is_nonnegative else interval.low
    high = min(interval.high, 0.0) if expr.is_nonpositive else interval.high
    return Interval(min(low, _LARGEST), max(high, -_LARGEST), interval.infinite)


def proves_nonpositive(expr: sympy.Expr) -> bool:
    """Whether `expr` <= 0 for all values of its symbols; False where no proof was found."""
    return any(bounds(form).high <= 0 for form in _forms(expr))


def _forms(expr: sympy.Expr) -> tuple[sympy.Expr, ...]:
    """Equal expressions; which of them has the tightest interval cannot be told beforehand."""
    return expr, sympy.factor_terms(expr), simplify(expr)


def _from_tree(expr: sympy.Expr) -> Interval:
    match expr:
        case Ranged():
            return Interval(expr.low, expr.high)
        case sympy.Symbol():
            return Interval(low=1.0) if expr.is_integer and expr.is_positive else Interval()
        case sympy.Rational() | sympy.Float():
            value = _float(expr)
            return Interval(value, value)
        case sympy.Add():
            return functools.reduce(_add, map(bounds, expr.args))
        case sympy.Mul():
            return functools.reduce(_multiply, map(bounds, expr.args))
        case sympy.Pow():
            return _power(bounds(expr.base), expr.exp)
        case sympy.Max() | sympy.Min():
            choose = max if isinstance(expr, sympy.Max) else min
            return _choose(choose, [bounds(argument) for argument in expr.args])
        case sympy.Function() if len(expr.args) >= 1:
            return _function(expr)
    return Interval()


def _float(number: sympy.Number) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _add(x: Interval, y: Interval) -> Interval:
    return Interval(x.low + y.low, x.high + y.high, x.infinite or y.infinite)


def _multiply(x: Interval, y: Interval) -> Interval:
    if (x.infinite and y.has_zero) or (y.infinite and x.has_zero):
        return Interval(infinite=True)  # 0 times infinity is no number
    corners = [a * b if a and b else 0.0 for a in (x.low, x.high) for b in (y.low, y.high)]
    return Interval(min(corners), max(corners), x.infinite or y.infinite)


def _choose(choose: Callable[..., float], intervals: Sequence[Interval]) -> Interval:
    low, high = (choose(getattr(interval, end) for interval in intervals) for end in ("low", "high"))
    return Interval(low, high, any(interval.infinite for interval in intervals))


def _power(base: Interval, exponent: sympy.Expr) -> Interval:
    if exponent.is_negative:
        return _reciprocal(_power(base, -exponent))
    if exponent.is_Integer and base.low < 0:
        ends = [_raise(end, int(exponent)) for end in (base.low, base.high)]
        low = 0.0 if exponent.is_even and base.has_zero else min(ends)
        return Interval(low, max(ends), base.infinite)
    if exponent.is_number and base.low >= 0:
        power = _float(exponent.evalf())
        return Interval(_raise(base.low, power), _raise(base.high, power), base.infinite)
    if base.low > 0:
        return _increasing(_exp, _multiply(_increasing(math.log, base), bounds(exponent)))
    return Interval(infinite=True)


def _raise(base: float, power: float) -> float:
    try:
        return base**power
    except OverflowError:
        return math.inf if base > 0 or power % 2 == 0 else -math.inf


def _reciprocal(x: Interval) -> Interval:
    if x.low < 0 < x.high:
        return Interval(infinite=True)
    low = 1 / x.high if x.high else -math.inf
    high = 1 / x.low if x.low else math.inf
    return Interval(low, high, x.has_zero)


def _increasing(function: Callable[[float], float], x: Interval) -> Interval:
    return Interval(function(x.low), function(x.high), x.infinite)


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


def _sigmoid(x: float) -> float:
    return 1 / (1 + _exp(-x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


_INCREASING: dict[type[sympy.Function], Callable[[float], float]] = {
    sympy.exp: _exp,
    sympy.tanh: math.tanh,
    sigmoid: _sigmoid,
    softplus: _softplus,
    logsigmoid: lambda x: -_softplus(-x),
    relu: lambda x: max(x, 0.0),
    step: lambda x: float(x > 0),
    sympy.Heaviside: lambda x: 0.5 if x == 0 else float(x > 0),
    sympy.sign: lambda x: float((x > 0) - (x < 0)),
}

_SILU_LOWEST_AT = -1.2784645427610738


def _function(expr: sympy.Function) -> Interval:
    x = bounds(expr.args[0])
    if type(expr) in _INCREASING:
        return _increasing(_INCREASING[type(expr)], x)
    match expr:
        case sympy.log() if x.low >= 0:
            return Interval(_log(x.low), _log(x.high), x.infinite or x.low == 0)
        case sympy.Abs():
            low = 0.0 if x.has_zero else min(abs(x.low), abs(x.high))
            return Interval(low, max(abs(x.low), abs(x.high)), x.infinite)
        case silu():
            turn = min(max(x.low, _SILU_LOWEST_AT), x.high)
            return Interval(_silu(turn), max(_silu(x.low), _silu(x.high)), x.infinite)
    return Interval(infinite=True)


def _log(x: float) -> float:
    return math.log(x) if x else -math.inf


def _silu(x: float) -> float:
    return 0.0 if x == -math.inf else x * _sigmoid(x)
