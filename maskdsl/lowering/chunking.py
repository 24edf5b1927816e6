"""How many positions a chunk holds."""

from __future__ import annotations

import math

from maskdsl.mask.normal import RankOne, Term

USUAL = 64
"""Positions a chunk where nothing else decides: the work inside chunks and between them balances near it."""

REFLECTING = 32
"""The same for a path with rank-one steps, whose work inside a chunk is done in float64 and costs more."""


def chunk_size(term: Term, wanted: int | None = None) -> int:
    """The chunk size of a term.

    Under a hierarchy a chunk is a block of the tree, a power of its base. Raises ValueError for a `wanted` size that is
    none.
    """
    reflecting = any(isinstance(step, RankOne) for step in term.path)
    usual = REFLECTING if reflecting else USUAL
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
    if term.window is not None and not reflecting:
        # a band of a few wide chunks costs less than one of many narrow ones
        return min(max(usual, 2 ** math.ceil(math.log2(term.window / 4))), 4 * usual)
    return usual


def lags_of(width: int, size: int) -> int:
    """How many chunks of `size` positions back a window of `width` tokens reaches from any position of a chunk."""
    return -(-(width - 1) // size)
