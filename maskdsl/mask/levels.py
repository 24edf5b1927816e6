"""Levels of a hierarchy: how far apart two positions are, as a small integer.

Weak admissibility is the Fenwick tree of Guo et al. (arXiv 2506.04761) in any base; strong admissibility keeps
the nearest blocks of every level apart, as H-matrices do.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

Admissibility = Literal["weak", "strong"]


def level(t: int, s: int, base: int = 2, admissibility: Admissibility = "weak") -> int:
    """The level of key position s <= t as seen from query position t, both counted from 0."""
    if admissibility == "strong":
        return _strong(t, s)
    digits = 0
    while t != s:
        t, s, digits = t // base, s // base, digits + 1
    return digits


def _strong(t: int, s: int) -> int:
    while t != s:
        digit = t.bit_length() - 1
        w = 1 << max(digit - 1, 0)
        r = t - (1 << digit)
        if s < w or (s < 2 * w and r >= w):
            return digit + 1
        shift = w if s < 2 * w else 2 * w
        t, s = t - shift, s - shift
    return 0


def levels(length: int, base: int = 2, admissibility: Admissibility = "weak") -> int:
    """How many level weights a sequence of `length` positions needs."""
    return 1 + level(length - 1, 0, base, admissibility)


def carry(t: int, pos: int, j: int, base: int = 2, admissibility: Admissibility = "weak") -> int:
    """The level, seen from t >= pos, of the positions at level j as seen from pos.

    They stay together ever after: levels of a later position are coarser. A level that no position has moves as its
    neighbours do (weak) or stays (strong); nothing stands there.
    """
    if admissibility == "weak":
        return max(j, level(t, pos, base))
    # levels fall towards the present: the first position that is no farther than level j
    s = bisect_left(range(pos + 1), -j, key=lambda s: -_strong(pos, s))
    return _strong(t, s) if s <= pos and _strong(pos, s) == j else j
