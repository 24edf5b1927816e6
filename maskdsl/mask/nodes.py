"""Mask IR: what a mask is, as a tree of constructors and operators over checked expressions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import sympy

from maskdsl.mask.levels import Admissibility


class Kind(Enum):
    """What an expression gives one number for; the value is the tuple of its axes (`Hk` divides `H`)."""

    CONST = ()
    HEAD = ("H",)
    HEAD_CHANNEL = ("H", "K")
    TOKEN = ("B", "T", "H")
    CHANNEL = ("B", "T", "H", "K")
    LEVEL = ("B", "T", "H", "L")
    KEY = ("B", "T", "Hk", "K")
    VALUE = ("B", "T", "H", "V")

    @property
    def feature(self) -> str | None:
        """The last axis where it is one of K, V, L; None for one number a token, head or spec."""
        return self.value[-1] if self.value and self.value[-1] in ("K", "V", "L") else None

    @property
    def label(self) -> str:
        """The kind's name in the language."""
        return self.name.lower()


@dataclass(frozen=True)
class Scalar:
    """An elementwise expression: a sympy payload over real symbols, and the kind that its broadcast result has.

    A symbol is named after an input, a definition (`l2norm` or `attend`, see `maskdsl.spec`) or a dimension.
    """

    expr: sympy.Expr
    kind: Kind


@dataclass(frozen=True)
class Mask:
    """A causal mask: an operator M[t, s] on key space for every s <= t."""


@dataclass(frozen=True)
class Causal(Mask):
    """M[t, s] = 1."""


@dataclass(frozen=True)
class Semiseparable(Mask):
    """M[t, s] = exp(g[s+1] + ... + g[t]): a number, or a diagonal where g has channels; g <= 0 is proved."""

    g: Scalar


@dataclass(frozen=True)
class Delta(Mask):
    """M[t, s] = A[t] ... A[s+1] with A[u] = I - beta[u] k[u] k[u]'."""

    k: Scalar
    beta: Scalar


@dataclass(frozen=True)
class Rank1(Mask):
    """M[t, s] = A[t] ... A[s+1] with A[u] = I + a[u] b[u]'."""

    a: Scalar
    b: Scalar


@dataclass(frozen=True)
class Fenwick(Mask):
    """M[t, s] = lam[t, level(t, s)]."""

    lam: Scalar
    base: int = 2
    admissibility: Admissibility = "weak"


@dataclass(frozen=True)
class Window(Mask):
    """M[t, s] = 1 where t - s < width, else 0."""

    width: int


@dataclass(frozen=True)
class Compose(Mask):
    """`X @ Y` of two path masks: the path whose step operator is X[u] Y[u]."""

    left: Mask
    right: Mask


@dataclass(frozen=True)
class Times(Mask):
    """`X * Y`, entry by entry."""

    left: Mask
    right: Mask


@dataclass(frozen=True)
class Plus(Mask):
    """`X + Y`."""

    left: Mask
    right: Mask
