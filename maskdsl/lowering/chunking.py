"""How many positions a chunk holds."""

from __future__ import annotations

import math

from maskdsl.mask.normal import RankOne, Term

USUAL = 64
"""Positions a chunk where nothing else decides: the work inside chunks and between them balances near it."""

REFLECTING = 32
"""The same for a path with rank-one steps.

Where these do not shrink anything (reflections, beta = 2) along keys that are nearly parallel, the triangular system of
a chunk cancels, and its rounding grows with its size: 2e-5 in float32 at 64 positions, 8e-6 at 32.
"""


def chunk_size(term: Term, wanted: int | None = None) -> int:
    """The chunk size of a term.

    Under a hierarchy a chunk is a block of the tree, a power of its base. Raises ValueError for a `wanted` size that is
    none.
    """
    usual = REFLECTING if any(isinstance(step, RankOne) for step in term.path) else USUAL
    if wanted is not None and wanted < 1:
        raise ValueError(f"A chunk holds at least one position, not {wanted}.")
    if term.hierarchy is not None:
        base = term.hierarchy.base
        if wanted is None:
            return base ** max(1, round(math.log(usual, base)))
        if base ** round(math.log(wanted, base)) != wanted:
            raise ValueError(f"A chunk of {wanted} positions is no power of the hierarchy's base {base}.")
        return wanted
    if wanted is not None:
        return wanted
    if term.window is not None:
        # a band of a few wide chunks costs less than one of many narrow ones
        return min(max(usual, 2 ** math.ceil(math.log2(term.window / 4))), 4 * usual)
    return usual
