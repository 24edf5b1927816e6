"""Normal form: a mask as a sum of terms, each one path, at most one hierarchy and at most one window."""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.mask.levels import Admissibility
from maskdsl.mask.nodes import Scalar


@dataclass(frozen=True)
class Decay:
    """The step operator exp(g): a number (TOKEN, HEAD, CONST) or a diagonal (CHANNEL, HEAD_CHANNEL)."""

    g: Scalar


@dataclass(frozen=True)
class RankOne:
    """The step operator I + coefficient * a b'; `delta(k, beta)` is a = b = k, coefficient = -beta."""

    a: Scalar
    b: Scalar
    coefficient: Scalar


Step = Decay | RankOne


@dataclass(frozen=True)
class Hierarchy:
    """The factor lam[t, level(t, s)]."""

    lam: Scalar
    base: int
    admissibility: Admissibility


@dataclass(frozen=True)
class Term:
    """One product.

    `path` lists the step operators of a position in the order in which they act on the state. It holds at most one
    number-valued decay, first and only where no diagonal one is present; two decays never stand side by side.
    """

    path: tuple[Step, ...]
    hierarchy: Hierarchy | None
    window: int | None


@dataclass(frozen=True)
class NormalForm:
    """A sum of terms, never empty."""

    terms: tuple[Term, ...]
