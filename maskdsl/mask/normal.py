"""Normal form: a mask as a sum of terms, each one path, at most one hierarchy and at most one window."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from maskdsl.mask.levels import Admissibility
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.mask.scalars import ONE


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


def without_flat_hierarchy(term: Term) -> tuple[Term, Scalar]:
    """A hierarchy that weighs all levels alike scales rows: the term without it, and the factor of its rows."""
    if term.hierarchy is None or term.hierarchy.lam.kind is Kind.LEVEL:
        return term, ONE
    return dataclasses.replace(term, hierarchy=None), term.hierarchy.lam
