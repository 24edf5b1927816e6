"""What a state holds at the levels of strong admissibility, and when what it holds is seen at one level.

A state at a `position` holds something at every level up to the number of its binary digits. At level j that are the
positions from `first_at` on, up to those of level j - 1. All numbers are positions in 64 bits, but for levels.
"""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.positions import count_levels


@triton.jit
def first_at(position: tl.tensor, level: tl.tensor) -> tl.tensor:
    """The first of the positions at a level."""
    return ((position >> (level - 1)) - 1) << (level - 1)


@triton.jit
def met_at(position: tl.tensor, level: tl.tensor) -> tl.tensor:
    """The position from which on what is at a level, which is not the last one, and at the next is at one level.

    The two meet as the halves of one block, once a reader is in the second block after that of the nearer half.
    """
    number = position >> (level - 1)
    rest = (position >> level) << level
    return tl.where(number % 2 == 0, (number + 1) << (level - 1), rest + 2 * (rest & -rest))


@triton.jit
def all_met_at(position: tl.tensor, level: tl.tensor) -> tl.tensor:
    """The position from which on all that is at the levels up to one is at one level."""
    found = position * 0
    for nearer in range(1, level):
        found = tl.maximum(found, met_at(position, nearer))
    return found


@triton.jit
def apart_at(t: tl.tensor, s: tl.tensor) -> tl.tensor:
    """The level of position s as seen from t >= s under strong admissibility.

    Of what lies after s, up to t, one position is a multiple of the highest power of two, and that of t and s which is
    farther from it tells the level. Below the highest digit in which the two differ, t has the digits of its distance,
    and s the complement of those of its own less one.
    """
    apart = _filled(t ^ s)
    rest = _filled((t | (-1 - s)) & (apart >> 1))
    return tl.where(apart == 0, 0, 1 + count_levels(rest))


@triton.jit
def _filled(x: tl.tensor) -> tl.tensor:
    """A number with ones in the place of all its digits."""
    for shift in tl.static_range(6):
        x = x | (x >> (1 << shift))
    return x
