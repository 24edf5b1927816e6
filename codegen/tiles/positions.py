"""Where a token stands in a hierarchy or a ring, as `maskdsl.mask.levels` counts: for steps of one token."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def reach(pos: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The last of the levels that move on as position `pos` is left: one more than pos + 1 ends in zeros."""
    rest = pos + 1
    if BASE == 2:
        level = lowest_level(rest)
    else:
        level = 0 * pos + 1
        while rest % BASE == 0:
            rest //= BASE
            level += 1
    return level


@triton.jit
def held_levels(pos: tl.tensor, count: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The levels from 1 to `count` to go through at a position, a bit for each, that of level 1 last.

    Weak ones are those that hold something: where the position has a digit. Strong ones are all that will at the next
    position: up to its highest digit.
    """
    if STRONG:
        found = pos + 1
        for shift in tl.static_range(6):
            found |= found >> (1 << shift)
    elif BASE == 2:
        found = pos
    else:
        found, place = 0 * pos, 0 * pos + 1
        while pos > 0:
            found += tl.where(pos % BASE != 0, place, 0)
            place *= 2
            pos //= BASE
    return found & (((0 * pos + 1) << count) - 1)


@triton.jit
def lowest_level(levels: tl.tensor) -> tl.tensor:
    """The lowest of some levels: the exponent of that bit as a float32."""
    return ((levels & -levels).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 126


@triton.jit
def count_levels(levels: tl.tensor) -> tl.tensor:
    """How many levels these are: sums of ever more bits, side by side."""
    found = levels - ((levels >> 1) & 0x5555555555555555)
    found = (found & 0x3333333333333333) + ((found >> 2) & 0x3333333333333333)
    found = (found + (found >> 4)) & 0x0F0F0F0F0F0F0F0F
    for shift in tl.static_range(3, 6):
        found += found >> (1 << shift)
    return (found & 127).to(tl.int32)


@triton.jit
def slot_levels(
    pos: tl.tensor, slot: tl.tensor, count: tl.tensor, SLOTS: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr
) -> tl.tensor:
    """level(pos, s), below `count`, of the latest token s < pos with s % SLOTS = slot; 0 where there is none."""
    age = (pos - 1 - slot) % SLOTS
    age = tl.where(age < 0, age + SLOTS, age)
    s = pos - 1 - age
    s = tl.where(s < 0, pos, s)
    t = pos + 0 * s
    level = 0 * s
    if STRONG:
        level += (s < t).to(tl.int64)
    for _ in range(1, count):
        apart = t - s > 1 if STRONG else t != s
        level += apart.to(tl.int64)
        t //= BASE
        s //= BASE
    return level
