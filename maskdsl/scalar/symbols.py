"""Symbols of scalar expressions: real inputs that know the range they promise to keep, and dimensions."""

from __future__ import annotations

import math
from typing import Any

import sympy

DIMENSIONS = ("B", "T", "H", "Hk", "K", "V", "L")


class Ranged(sympy.Symbol):
    """A real symbol in the closed interval [low, high].

    Equal symbols have equal names and ranges. The range is what `maskdsl.scalar.ranges` reads; its sign is also among
    sympy's assumptions.
    """

    low: float
    high: float

    def __new__(cls, name: str, low: float = -math.inf, high: float = math.inf) -> Ranged:
        """Raises ValueError where the range is empty."""
        if not low <= high:
            raise ValueError(f"The range of '{name}' is empty: {low} > {high}.")
        signs = {"positive": low > 0, "nonnegative": low >= 0, "negative": high < 0, "nonpositive": high <= 0}
        self = sympy.Symbol.__xnew__(cls, name, real=True, **{sign: True for sign, known in signs.items() if known})
        self.low, self.high = float(low), float(high)
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.name, self.low, self.high), {}

    def _hashable_content(self) -> tuple[Any, ...]:
        return (*super()._hashable_content(), self.low, self.high)


def symbol(name: str, low: float | None = None, high: float | None = None) -> Ranged:
    """The symbol of an input or a definition; None is unbounded. Raises ValueError where the range is empty."""
    return Ranged(name, -math.inf if low is None else low, math.inf if high is None else high)


def dimension(name: str) -> sympy.Symbol:
    """The symbol of a size, one of `DIMENSIONS`: a positive integer."""
    return sympy.Symbol(name, integer=True, positive=True)
