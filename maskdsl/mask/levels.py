"""Levels of a hierarchy: how far apart two positions are, as a small integer.

Weak admissibility is the Fenwick tree of Guo et al. (arXiv 2506.04761) in any base; strong admissibility keeps
the nearest blocks of every level apart, as H-matrices do.
"""

from __future__ import annotations

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
